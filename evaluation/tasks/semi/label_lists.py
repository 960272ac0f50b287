"""Which training images may keep their labels: SimCLR's lists for ImageNet, or a list of the user's."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import Images
from zoo.data.levels import name_some
from zoo.data.outside import whole_number
from zoo.errors import UserError
from zoo.home import label_lists_home
from zoo.hub.fetch import fetch
from zoo.hub.retries import DEFAULT_DEADLINE
from zoo.reading.outside import read_text, shown

# Chen et al., "A simple framework for contrastive learning" (arXiv 2002.05709): the subsets of nearly all published 1 % and 10 % numbers.
SIMCLR_URL = "https://raw.githubusercontent.com/google-research/simclr/master/imagenet_subsets/{percent}percent.txt"
SIMCLR_SHA256 = {
    1: "71e82a48ba78252683ae334c4d019ebd5c6e855b9599c1389fbe83eb9549cf17",
    10: "6d09de11e7bdaf5b1f3b1f249b6183695f97310cdd20f0c03e7235b6b9392091",
}


def simclr_list(percent: int, *, url: str = SIMCLR_URL, deadline: float = DEFAULT_DEADLINE) -> Path:
    """SimCLR's list of 1 % or 10 % of ImageNet's training images, from the user's cache or else its public home, checked by its sha256.

    Raises UserError where it cannot be had within ``deadline`` seconds.
    """
    try:
        return fetch(url.format(percent=percent), sha256=SIMCLR_SHA256[percent], folder=label_lists_home(), deadline=deadline)
    except UserError as error:
        raise UserError(
            f"SimCLR's list of {percent} % of ImageNet cannot be had: {error}; get the file elsewhere and name it with --labels FILE"
        ) from error


def read_label_list(path: str | Path, images: Images) -> NDArray[np.int64]:
    """Positions of the images that a list names.

    Each line is an image's file name, or the end of its path (``dog/0001.jpg``) where file names alone are not unique, or its position, a
    whole number, where images have no files.

    Returns
    -------
    int64 array, ascending.

    Raises
    ------
    UserError
        The file cannot be read or is empty; a line that names no image, or several, or one that was named before.
    """
    try:
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except UserError as error:
        raise UserError(f"the list of labelled images cannot be read: {error}") from error
    if not lines:
        raise UserError(f"the list of labelled images {path} is empty")
    if all(line.isascii() and line.isdecimal() for line in lines):
        numbers = [whole_number(line) for line in lines]
        found = [number for number in numbers if number is not None and number < len(images)]
        if len(found) < len(lines):
            beyond = next(line for line, number in zip(lines, numbers, strict=True) if number is None or number >= len(images))
            raise UserError(f"{path} names image {shown(beyond)}, but {images.name} ({images.split}) has {len(images)}, counted from 0")
    else:
        found = _by_name(path, lines, images)
    if len(set(found)) < len(found):
        counted: dict[int, int] = defaultdict(int)
        for position in found:
            counted[position] += 1
        twice = next(position for position, count in counted.items() if count > 1)
        raise UserError(f"{path} names {images.where(twice)} twice; name each image once")
    return np.sort(np.array(found, dtype=np.int64))


def _by_name(path: str | Path, lines: list[str], images: Images) -> list[int]:
    by_name: dict[str, list[int]] = defaultdict(list)
    names = [images.where(index).replace(":", "/") for index in range(len(images))]
    for index, name in enumerate(names):
        by_name[name.rpartition("/")[2]].append(index)
    found, unknown = [], []
    for line in lines:
        candidates = by_name.get(line.rpartition("/")[2], [])
        if "/" in line:
            candidates = [index for index in candidates if f"/{names[index]}".endswith(f"/{line.lstrip('/')}")]
        if len(candidates) > 1:
            raise UserError(f"{path} names '{shown(line)}', the name of {len(candidates)} images; write the end of its path, with folders")
        if candidates:
            found.append(candidates[0])
        else:
            unknown.append(line)
    if unknown:
        raise UserError(
            f"{path} names {name_some(unknown)}, which {images.name} ({images.split}) does not have: {len(unknown)} of {len(lines)} lines"
        )
    return found
