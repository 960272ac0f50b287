"""A checksum inside a checkpoint: the comment of its zip archive, which every reader of torch's files passes over. Imports no torch.

Being inside, it is renamed and copied with the file: there is no moment at which one is there without the other.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import BinaryIO

from zoo.errors import UserError
from zoo.reading.outside import open_file

_PREFIX = b"sha256:"
_COMMENT = len(_PREFIX) + 64
# The record that ends a zip archive: 22 bytes, of which the last two are the length of the comment behind it.
_END_SIGNATURE, _END = b"PK\x05\x06", 22
_CHUNK = 1 << 20


def add_checksum(path: Path) -> None:
    """Write into a file of ``torch.save`` the SHA-256 of all its bytes before the checksum."""
    with path.open("r+b") as file:
        file.seek(-_END, 2)
        end = file.read(_END)
        if not end.startswith(_END_SIGNATURE) or end[-2:] != b"\0\0":
            raise UserError(f"{path} does not end as a file of torch.save does, so it gets no checksum; was it written completely?")
        file.seek(-2, 2)
        file.write(struct.pack("<H", _COMMENT))
        digest = _digest(file, file.tell())
        file.seek(0, 2)
        file.write(_PREFIX + digest)


def has_checksum(path: Path) -> bool:
    """Whether the file has a checksum, good or not; only its end is read."""
    with open_file(path) as file:
        return any(_marks(file, os.fstat(file.fileno()).st_size))


def has_good_checksum(path: Path) -> bool:
    """Whether the file has a checksum, and its bytes are those that it was made of; False where it has none.

    Raises UserError where it has one that they are not those of.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        marks = _marks(file, size)
        if not any(marks):
            return False
        file.seek(max(0, size - _COMMENT))
        if not all(marks) or file.read() != _PREFIX + _digest(file, size - _COMMENT):
            raise UserError(f"{path} is not as it was written: its bytes do not have the checksum that it holds")
    return True


def _marks(file: BinaryIO, size: int) -> tuple[bool, bool]:
    """Whether the archive's end announces a checksum, and whether there is one: a damaged bit may lie in either, but not in both."""
    if size < _END + _COMMENT:
        return False, False
    file.seek(size - _COMMENT - _END)
    tail = file.read()
    end, comment = tail[:_END], tail[_END:]
    return end.startswith(_END_SIGNATURE) and end[-2:] == struct.pack("<H", _COMMENT), comment.startswith(_PREFIX)


def _digest(file: BinaryIO, length: int) -> bytes:
    file.seek(0)
    digest, left = hashlib.sha256(), length
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            break
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest().encode()
