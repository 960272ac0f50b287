"""Reading WebDataset shards: tar files whose members share a name up to the first dot within each sample.

A shard is indexed once, by the headers of its members; images are then read by their offset, in any order, any number of times.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

from zoo.data.entries import FileEntry
from zoo.data.files import IMAGE_EXTENSIONS
from zoo.data.sets.tar_index import Member, TarError, tar_members
from zoo.errors import UserError

_LABEL_KEYS = ("cls", "label")


@dataclass(frozen=True, slots=True)
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
        if os.path.getsize(path) == 0:
            raise TarError("it is empty")
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            members = list(tar_members(data))
            if not members:
                raise TarError("it holds no files")
            return [sample for group in _groups(path, members) if (sample := _sample(path, data, *group)) is not None]
    except TarError as error:
        raise UserError(f"shard {path} is no complete, uncompressed tar file ({error}); unpack a .tar.gz, or get it again") from error
    except OSError as error:
        raise UserError(f"shard {path} cannot be read ({error.strerror or error})") from error


def _groups(path: str, members: list[Member]) -> Iterator[tuple[str, dict[str, Member]]]:
    """Runs of members with the same key: (key, extension -> member)."""
    key, group = "", dict[str, Member]()
    for member in members:
        folder, slash, base = member.name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not stem or not dot:
            continue
        if member.is_link:
            raise UserError(f"shard {path}: '{member.name}' is a link; make the shard with tar --dereference --hard-dereference")
        if folder + slash + stem != key:
            if group:
                yield key, group
            key, group = folder + slash + stem, {}
        group[extension.lower()] = member
    if group:
        yield key, group


def _sample(path: str, data: mmap.mmap, key: str, group: dict[str, Member]) -> Sample | None:
    images = [extension for extension in group if f".{extension}".endswith(IMAGE_EXTENSIONS)]
    if not images:
        if "cls" in group:
            raise UserError(f"shard {path}: sample '{key}' has a label but no image; the members of a sample must follow one another")
        return None
    candidates = [extension for extension in images if "." not in extension] or images
    if len(candidates) > 1:
        raise UserError(f"shard {path}: sample '{key}' has {len(candidates)} images ({', '.join(candidates)}), where one is expected")
    image = group[candidates[0]]
    return Sample(FileEntry(path, image.offset, image.size, image.name), _label(path, data, key, group))


def _label(path: str, data: mmap.mmap, key: str, group: dict[str, Member]) -> int | None:
    if "cls" in group:
        text = _content(data, group["cls"]).decode(errors="replace").strip()
        if not (text.isascii() and text.isdigit()):
            raise UserError(f"shard {path}: the label of sample '{key}' is no whole number ('{text}')")
        return int(text)
    if "json" not in group:
        return None
    try:
        content = json.loads(_content(data, group["json"]))
    except ValueError as error:
        raise UserError(f"shard {path}: the .json of sample '{key}' is not valid ({error})") from error
    values = [content[name] for name in _LABEL_KEYS if name in content] if isinstance(content, dict) else []
    if not values or values[0] is None:
        return None
    if not isinstance(values[0], int) or isinstance(values[0], bool) or values[0] < 0:
        raise UserError(f"shard {path}: the label of sample '{key}' is no whole number ('{values[0]}')")
    return values[0]


def _content(data: mmap.mmap, member: Member) -> bytes:
    return data[member.offset : member.offset + member.size]
