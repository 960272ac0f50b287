"""Reading WebDataset shards: tar files whose members share a name up to the first dot within each sample.

A shard is indexed once, by the headers of its members; images are then read by their offset, in any order, any number of times.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from zoo.data.entries import FileEntry
from zoo.data.files import IMAGE_EXTENSIONS
from zoo.errors import UserError

_BLOCK = 512
_LABEL_KEYS = ("cls", "label")


@dataclass(frozen=True)
class Sample:
    """One image of a shard, and its label if it has one."""

    entry: FileEntry
    label: int | None


def index_shard(path: str) -> list[Sample]:
    """The samples of one shard that have an image, in the order of the file.

    A sample's label is the number in its ``.cls`` member, else the one under ``cls`` or ``label`` in its ``.json`` member. Of several
    images in a sample the one whose extension has no further dot (``jpg`` rather than ``seg.png``) counts.

    Raises
    ------
    UserError
        A shard that is missing, compressed, truncated or no tar file; a label without image; a label that is no whole number;
        several images in a sample; a link in place of an image.
    """
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            groups = list(_groups(path, tar))
            _check_end(path, file, tar)
            return [sample for group in groups if (sample := _sample(path, file, group)) is not None]
    except tarfile.TarError as error:
        raise UserError(f"shard {path} is no complete, uncompressed tar file ({error}); unpack a .tar.gz, or get it again") from error
    except OSError as error:
        raise UserError(f"shard {path} cannot be read ({error.strerror or error})") from error


def _groups(path: str, tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Runs of members with the same key: (key, extension -> member)."""
    key, members = "", dict[str, tarfile.TarInfo]()
    for member in tar:
        folder, base = os.path.split(member.name)
        stem, dot, extension = base.partition(".")
        if member.isdir() or not stem or not dot:
            continue
        if not member.isfile():
            raise UserError(f"shard {path}: '{member.name}' is a link; make the shard with tar --dereference --hard-dereference")
        if os.path.join(folder, stem) != key:
            if members:
                yield key, members
            key, members = os.path.join(folder, stem), {}
        members[extension.lower()] = member
    if members:
        yield key, members


def _sample(path: str, file: IO[bytes], group: tuple[str, dict[str, tarfile.TarInfo]]) -> Sample | None:
    key, members = group
    images = [extension for extension in members if f".{extension}".endswith(IMAGE_EXTENSIONS)]
    plain = [extension for extension in images if "." not in extension]
    if not images:
        if "cls" in members:
            raise UserError(f"shard {path}: sample '{key}' has a label but no image; the members of a sample must follow one another")
        return None
    candidates = plain or images
    if len(candidates) > 1:
        raise UserError(f"shard {path}: sample '{key}' has {len(candidates)} images ({', '.join(candidates)}), where one is expected")
    image = members[candidates[0]]
    return Sample(FileEntry(path, image.offset_data, image.size, image.name), _label(path, file, key, members))


def _label(path: str, file: IO[bytes], key: str, members: dict[str, tarfile.TarInfo]) -> int | None:
    if "cls" in members:
        text = _content(file, members["cls"]).decode(errors="replace").strip()
        if not (text.isascii() and text.isdigit()):
            raise UserError(f"shard {path}: the label of sample '{key}' is no whole number ('{text}')")
        return int(text)
    if "json" not in members:
        return None
    try:
        content = json.loads(_content(file, members["json"]))
    except ValueError as error:
        raise UserError(f"shard {path}: the .json of sample '{key}' is not valid ({error})") from error
    values = [content[name] for name in _LABEL_KEYS if name in content] if isinstance(content, dict) else []
    if not values or values[0] is None:
        return None
    if not isinstance(values[0], int) or isinstance(values[0], bool) or values[0] < 0:
        raise UserError(f"shard {path}: the label of sample '{key}' is no whole number ('{values[0]}')")
    return values[0]


def _content(file: IO[bytes], member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def _check_end(path: str, file: IO[bytes], tar: tarfile.TarFile) -> None:
    """Raise UserError unless the last member is followed by an empty block or by nothing; tarfile takes a damaged header for the end."""
    members = tar.getmembers()
    if not members:
        raise UserError(f"shard {path} is empty")
    last = members[-1]
    blocks = -(-last.size // _BLOCK) if last.isfile() else 0
    file.seek(last.offset_data + blocks * _BLOCK)
    if any(file.read(_BLOCK)):
        raise UserError(f"shard {path} is damaged after '{last.name}'; get it again")
