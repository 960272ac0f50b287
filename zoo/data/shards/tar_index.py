"""Where the members of an uncompressed tar file lie, from its headers alone.

Python's ``tarfile`` makes a full object of each member, which is several times slower (minutes for the shards of ImageNet), and takes a
damaged header inside a file for its end; here that is an error. The format is POSIX.1-2017 (pax interchange format, with
its extended headers) with GNU tar's long names and large sizes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK = 512
_END = bytes(_BLOCK)
_NAME, _SIZE, _CHECKSUM, _PREFIX = slice(0, 100), slice(124, 136), slice(148, 156), slice(345, 500)
_KIND = 156
_MAGIC = slice(257, 263)
_POSIX = b"ustar\0"
_REGULAR = b"0\x007"
_DIRECTORY = ord("5")
_PAX, _PAX_GLOBAL, _GNU_LONG_NAME, _GNU_LONG_LINK, _GNU_SPARSE = b"xgLKS"
# Kinds whose content, of the size that the header gives, follows it; links and devices have none.
_WITH_CONTENT = _REGULAR + b"xgLK"


class TarError(Exception):
    """Not a tar file, a damaged one, or one with a feature that is not supported; the text says where and what."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar file: its name, and its ``size`` bytes at ``offset``. ``is_link`` where the bytes are those of another file."""

    name: str
    offset: int
    size: int
    is_link: bool = False


def tar_members(data: bytes | mmap.mmap) -> Iterator[Member]:
    """The files and links in a tar file, in its order; folders are left out.

    Raises
    ------
    TarError
        A block that is no header, a file that ends inside a member, sparse files.
    """
    position = 0
    name, size = "", -1  # what an extended header said of the member after it
    while position < len(data):
        header = data[position : position + _BLOCK]
        if header == _END:
            return
        own_size = _check(header, position)
        kind, body = header[_KIND], position + _BLOCK
        if kind in _REGULAR and size >= 0:
            own_size = size
        if kind not in _WITH_CONTENT:
            own_size = 0
        if body + own_size > len(data):
            raise TarError(f"it ends inside the member at byte {position}")
        position = body + -(-own_size // _BLOCK) * _BLOCK
        if kind == _PAX:
            name, size = _extended(data[body : body + own_size], name, size)
        elif kind == _GNU_LONG_NAME:
            name = _text(data[body : body + own_size])
        elif kind == _GNU_SPARSE:
            raise TarError("it holds sparse files")
        elif kind not in (_PAX_GLOBAL, _GNU_LONG_LINK):
            name = name or _own_name(header)
            # Before POSIX, a folder was told by the slash at the end of its name.
            if kind != _DIRECTORY and not name.endswith("/"):
                yield Member(name, body, own_size, is_link=kind not in _REGULAR)
            name, size = "", -1


def _check(header: bytes, position: int) -> int:
    """The size in a header whose checksum (with spaces in its own place) is right."""
    try:
        expected = int(header[_CHECKSUM].rstrip(b"\0 "), 8)
        if len(header) == _BLOCK and sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ") == expected:
            return _number(header[_SIZE])
    except ValueError:
        pass
    raise TarError(f"no tar header at byte {position}")


def _number(field: bytes) -> int:
    """An octal number; or, where the highest bit is set, a binary one (GNU tar, for sizes of 8 GiB and more)."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
    return int(field.rstrip(b"\0 ") or b"0", 8)


def _own_name(header: bytes) -> str:
    prefix = _text(header[_PREFIX]) if header[_MAGIC] == _POSIX else ""
    name = _text(header[_NAME])
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _extended(content: bytes, name: str, size: int) -> tuple[str, int]:
    """Name and size out of a pax extended header: records of length, space, key, equals sign, value, line feed."""
    position = 0
    while position < len(content):
        digits = content[position : position + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        if length <= len(digits):
            raise TarError("an extended header is damaged")
        key, _, value = content[position + len(digits) + 1 : position + length - 1].partition(b"=")
        if key == b"path":
            name = value.decode(errors="surrogateescape")
        elif key == b"size" and value.isdigit():
            size = int(value)
        elif key.startswith(b"GNU.sparse."):
            raise TarError("it holds sparse files")
        position += length
    return name, size
