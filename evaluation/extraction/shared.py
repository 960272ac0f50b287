"""Test images that are training images too: equal pixels in memory, equal files on disk."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.data.base import FileImages, Images
from zoo.data.inspection.findings import NEAR_OVERLAP, OVERLAP

# Files of both splits together up to which they are looked at: a size of each, and the bytes of those whose size the other split has too.
SMALL = 20_000
_DIGEST_BYTES = 16
_IN_BOTH = "in the training split too"


@dataclass(frozen=True)
class SharedImages:
    """What two splits share.

    Attributes
    ----------
    count
        Test images that are in the training split.
    test, train
        Positions of the first of them, and of the training image that it is.
    """

    count: int
    test: int
    train: int


def shared_images(train: Images, test: Images) -> SharedImages | None:
    """Test images that are training images, byte for byte, where that is quick to see; None where there are none, or it is not.

    Images in memory are compared by their pixels. Files are compared by their bytes, up to :data:`SMALL` of them; larger sets are looked at
    by ``zoo data``, which also finds those that are nearly the same.
    """
    if train.pixels is not None and test.pixels is not None:
        if train.pixels.shape[1:] != test.pixels.shape[1:]:
            return None
        return _found(_pixel_digests(train), _pixel_digests(test))
    if isinstance(train, FileImages) and isinstance(test, FileImages) and len(train) + len(test) <= SMALL:
        sizes = [_sizes(images) for images in (train, test)]
        common = set(sizes[0]) & set(sizes[1]) - {0}
        return _found(*(_file_digests(images, found, common) for images, found in zip((train, test), sizes, strict=True)))
    return None


def shared_doubts(images: Mapping[str, Images]) -> list[str]:
    """What a result's reader must know of splits by role; empty where ``train`` and ``test`` share nothing, as far as is known."""
    if not {"train", "test"} <= set(images):
        return []
    found = shared_images(images["train"], images["test"])
    if found is None:
        return []
    pair = f"{images['test'].where(found.test)} is {images['train'].where(found.train)}"
    are = "is" if found.count == 1 else "are"
    return [f"{found.count:,} of {len(images['test']):,} test images {are} {_IN_BOTH} (first: {pair})"]


def looked_doubts(look: Mapping[str, Any] | None, splits: Set[str], known: Sequence[str]) -> list[str]:
    """The same of what an earlier ``zoo data`` found between splits that are used (:func:`zoo.data.inspection.known.holding`).

    ``known`` are the result's warnings: images that are equal byte for byte are not told twice.
    """
    told = any(_IN_BOTH in text for text in known)
    kinds = {NEAR_OVERLAP} if told else {OVERLAP, NEAR_OVERLAP}
    findings = [] if look is None else look["findings"]
    return [
        f"{finding['text']} (`zoo data`)" for finding in findings if finding["kind"] in kinds and splits >= set(finding["splits"])
    ]


def _found(train: Mapping[int, bytes], test: Mapping[int, bytes]) -> SharedImages | None:
    known: dict[bytes, int] = {}
    for position, digest in train.items():
        known.setdefault(digest, position)
    both = [(position, known[digest]) for position, digest in test.items() if digest in known]
    return SharedImages(len(both), *both[0]) if both else None


def _pixel_digests(images: Images) -> dict[int, bytes]:
    assert images.pixels is not None
    return {
        position: hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=_DIGEST_BYTES).digest()
        for position, pixels in enumerate(images.pixels)
    }


def _sizes(images: FileImages) -> dict[int, list[int]]:
    """Positions of the images by their number of bytes; a file that is not there has 0."""
    found: dict[int, list[int]] = defaultdict(list)
    for position, entry in enumerate(images.entries):
        try:
            size = entry.size if entry.size >= 0 else os.stat(entry.path).st_size
        except OSError:
            size = 0
        found[size].append(position)
    return found


def _file_digests(images: FileImages, by_size: Mapping[int, list[int]], wanted: set[int]) -> dict[int, bytes]:
    found = {}
    for size in wanted:
        for position in by_size[size]:
            try:
                content = images.entries[position].open_bytes()
            except OSError:  # whoever decodes it says so
                continue
            found[position] = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
    return dict(sorted(found.items()))
