"""Reading WebDataset shards: tar files whose members share a name up to the first dot within each sample.

A shard is indexed once, by the headers of its members; images are then read by their offset, in any order, any number of times.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

from zoo.data.entries import FileEntry
from zoo.data.images.endings import HEAD_BYTES, content_of, read_endings
from zoo.data.outside import whole_number
from zoo.data.shards.tar_index import Member, TarError, tar_members
from zoo.errors import UserError
from zoo.reading.outside import open_file, shown, typed_json

# Endings of a member that holds the label, as whole extension or as its last part (``output.cls``).
_LABEL = "cls"
# Endings that some writers give to an encoded image of any format.
_ANY_IMAGE = ("img", "image")
_LABEL_FORM = '{"cls": NUMBER, ...} or {"label": NUMBER, ...}'


@dataclass
class _Labels:
    """What a sample's ``.json`` may say of its class; whatever else stands there is its own business."""

    cls: int | None = None
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a shard, and its label if it has one."""

    entry: FileEntry
    label: int | None


def index_shard(path: str) -> list[Sample]:
    """The samples of one shard that have an image, in the order of the file.

    A sample's label is the number in its ``.cls`` member (``output.cls`` too), else the one under ``cls`` or ``label`` in its ``.json``
    member. Of several images in a sample the one whose extension has no further dot (``jpg`` rather than ``seg.png``) counts, else the
    one that is called input (``input.jpg``). A member ``.img`` is an image if its first bytes say so.

    Raises
    ------
    UserError
        A shard that is missing, compressed, truncated or no tar file; a label without image; a label that is no whole number;
        several images in a sample; a link in place of an image; samples none of whose members is an image.
    """
    try:
        if os.path.getsize(path) == 0:
            raise TarError("it is empty")
        with open_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
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
    images = [extension for extension in group if f".{extension}".endswith(read_endings()) or _is_unnamed_image(data, extension, group)]
    label = _LABEL if _LABEL in group else next((extension for extension in group if extension.endswith(f".{_LABEL}")), None)
    if not images:
        if label is not None:
            others = ", ".join(extension for extension in group if extension != label) or "nothing"
            raise UserError(
                f"shard {path}: sample '{key}' has a label but no image (beside it: {others}); "
                f"the members of a sample must follow one another, and images end in {', '.join(read_endings())}"
            )
        return None
    candidates = [extension for extension in images if "." not in extension]
    candidates = candidates or [extension for extension in images if extension.startswith("input.")] or images
    if len(candidates) > 1:
        raise UserError(f"shard {path}: sample '{key}' has {len(candidates)} images ({', '.join(candidates)}), where one is expected")
    image = group[candidates[0]]
    return Sample(FileEntry(path, image.offset, image.size, image.name), _label(path, data, key, group, label))


def _is_unnamed_image(data: mmap.mmap, extension: str, group: dict[str, Member]) -> bool:
    if extension.rpartition(".")[2] not in _ANY_IMAGE:
        return False
    offset = group[extension].offset
    return content_of(data[offset : offset + min(HEAD_BYTES, group[extension].size)]) is not None


def _label(path: str, data: mmap.mmap, key: str, group: dict[str, Member], extension: str | None) -> int | None:
    if extension is not None:
        text = _content(data, group[extension]).decode(errors="replace").strip()
        number = whole_number(text)
        if number is None:
            raise UserError(f"shard {path}: the label of sample '{key}' is no whole number ('{shown(text)}')")
        return number
    if "json" not in group:
        return None
    found = typed_json(_content(data, group["json"]), _Labels, f"shard {path}: the .json of sample '{key}'", _LABEL_FORM)
    number = found.cls if found.cls is not None else found.label
    if number is not None and not 0 <= number < 1 << 63:
        raise UserError(f"shard {path}: the label of sample '{key}' is no whole number ('{shown(str(number))}')")
    return number


def _content(data: mmap.mmap, member: Member) -> bytes:
    return data[member.offset : member.offset + member.size]
