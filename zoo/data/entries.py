"""Where encoded images lie, packed so that a million of them cost little and are shared by loader processes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, BufferedReader, RawIOBase
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from zoo.data.images import AS_STORED, Decoded, Reading, decoded
from zoo.reading.outside import open_file

WHOLE_FILE = -1
# Bytes up to which an encoded image is read at once; of larger ones, many readers would hold much.
READ_WHOLE = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Where one encoded image lies: a file, or ``size`` bytes at ``offset`` of a tar shard (``size`` < 0: the whole file).

    ``member`` is the image's name inside the shard; empty for a file of its own.
    """

    path: str
    offset: int = 0
    size: int = WHOLE_FILE
    member: str = ""

    @contextmanager
    def opened(self) -> Iterator[bytes | BinaryIO]:
        """The encoded image for the length of a block: its bytes, or, beyond READ_WHOLE, a file that begins with it. Raises OSError."""
        with open_file(self.path) as file:
            size = self.size if self.size >= 0 else os.fstat(file.fileno()).st_size
            if size <= READ_WHOLE:
                file.seek(self.offset)
                yield file.read(self.size)
            elif self.size < 0:
                yield file
            else:
                yield BufferedReader(_Part(file, self.offset, size))

    @contextmanager
    def decoded(self, reading: Reading = AS_STORED) -> Iterator[Decoded]:
        """The image for the length of a block (:func:`zoo.data.images.decoded`). Raises BadImageError, and OSError."""
        with self.opened() as source, decoded(source, reading) as made:
            yield made
            del made  # it may be large, and its place is the next one's

    def open_bytes(self) -> bytes:
        """The encoded image. Raises OSError."""
        with open_file(self.path) as file:
            file.seek(self.offset)
            return file.read(self.size)


def _open_file(path: str, flags: int) -> int:
    """Open a file, and refuse what a table may name in its place: a pipe would wait for its writer for ever."""
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", path)
    return handle


class _Part(RawIOBase):
    """``size`` bytes of a file, from ``offset`` on, as a file."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._position = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        start = {SEEK_CUR: self._position, SEEK_END: self._size}.get(whence, 0)
        self._position = max(start + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = max(min(len(buffer), self._size - self._position), 0)
        self._file.seek(self._offset + self._position)
        read = self._file.readinto(memoryview(buffer)[:count])  # type: ignore[attr-defined]
        self._position += read
        return int(read)


class EntryTable(Sequence[FileEntry]):
    """An immutable sequence of :class:`FileEntry` in four arrays instead of N objects.

    Reading a Python object writes its reference count, so that a list of a million entries is copied, page by page, into every
    forked loader process; arrays stay shared.
    """

    def __init__(self, entries: Iterable[FileEntry]) -> None:
        text = bytearray()
        ends: list[int] = []
        offsets: list[int] = []
        sizes: list[int] = []
        for entry in entries:
            # A file name cannot hold a zero byte, but it may hold bytes that are not UTF-8.
            text += f"{entry.path}\0{entry.member}".encode(errors="surrogateescape")
            ends.append(len(text))
            offsets.append(entry.offset)
            sizes.append(entry.size)
        self._text: NDArray[np.uint8] = np.frombuffer(bytes(text), dtype=np.uint8)
        self._stops: NDArray[np.int64] = np.array(ends, dtype=np.int64)
        self._starts: NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), self._stops])[: len(ends)]
        self._offsets: NDArray[np.int64] = np.array(offsets, dtype=np.int64)
        self._sizes: NDArray[np.int64] = np.array(sizes, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._stops)

    @overload
    def __getitem__(self, index: int) -> FileEntry: ...
    @overload
    def __getitem__(self, index: slice) -> EntryTable: ...
    def __getitem__(self, index: int | slice) -> FileEntry | EntryTable:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        text = self._text[self._starts[index] : self._stops[index]].tobytes().decode(errors="surrogateescape")
        path, _, member = text.partition("\0")
        return FileEntry(path, int(self._offsets[index]), int(self._sizes[index]), member)

    def __iter__(self) -> Iterator[FileEntry]:
        return (self[index] for index in range(len(self)))

    def names(self) -> list[tuple[str, str]]:
        """Path and member of each entry; much faster than to make every entry."""
        text = self._text.tobytes()
        bounds = zip(self._starts.tolist(), self._stops.tolist(), strict=True)
        told = (text[start:stop].decode(errors="surrogateescape") for start, stop in bounds)
        return [(name[:-1], "") if name[-1:] == "\0" else tuple(name.split("\0", 1)) for name in told]  # type: ignore[misc]

    def take(self, indices: NDArray[np.int64]) -> EntryTable:
        """The entries at ``indices``, in that order; the text is shared with this table."""
        taken = EntryTable(())
        taken._text = self._text
        taken._starts, taken._stops = self._starts[indices], self._stops[indices]
        taken._offsets, taken._sizes = self._offsets[indices], self._sizes[indices]
        return taken
