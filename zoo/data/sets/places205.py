"""``places205:ROOT``: scenes (Zhou et al., "Learning deep features for scene recognition using Places database", NIPS 2014)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from zoo.data.base import Data, FileImages, Images, Role
from zoo.data.entries import FileEntry
from zoo.data.images import Reading, reading_of
from zoo.data.levels import make_levels
from zoo.data.outside import read_lines, whole_number
from zoo.data.spec import DataSpec
from zoo.errors import UserError
from zoo.reading.outside import shown

NAME = "places205"
LISTS = "trainvalsplit_places205"
IMAGES = "data/vision/torralba/deeplearning/images256"
CLASS_COUNT = 205
TRAIN, VAL = "train", "val"


def open_places205(spec: DataSpec, root: Path) -> Data:
    """Places205 as its archives unpack: lists ``trainvalsplit_places205/{train,val}_places205.csv``, images 256 x 256 below
    ``data/vision/torralba/deeplearning/images256``.

    A line of a list is a path, a space, and a label. There are always 205 classes, also where the lists name fewer; a class is called by
    the folder that its training images lie in, without the folder of its first letter (``a/abbey`` is ``abbey``).

    Raises
    ------
    UserError
        A list or the folder of images is missing, or a line is none.
    """
    if not (root / IMAGES).is_dir():
        raise UserError(f"folder {root / IMAGES} is missing; it is part of imagesPlaces205_resize.tar.gz")
    if not _list(root, TRAIN).is_file():
        raise UserError(f"the list {_list(root, TRAIN)} is missing; it is part of trainvalsplit_places205.tar.gz")
    reading = reading_of(spec)
    roles: dict[Role, str] = {"pretrain": TRAIN, "train": TRAIN}
    splits: dict[str, Callable[[], Images]] = {TRAIN: partial(_split, root, TRAIN, reading)}
    if _list(root, VAL).is_file():
        splits[VAL], roles["test"] = partial(_split, root, VAL, reading), VAL
    return Data(str(spec), NAME, splits=splits, roles=roles, root=root)


def _list(root: Path, split: str) -> Path:
    return root / LISTS / f"{split}_places205.csv"


def _split(root: Path, split: str, reading: Reading) -> FileImages:
    paths, labels = _read(_list(root, split))
    named, numbers = (paths, labels) if split == TRAIN else _read(_list(root, TRAIN))
    names = [f"class {number}" for number in range(CLASS_COUNT)]
    for path, number in zip(reversed(named), reversed(numbers), strict=True):
        names[number] = _class_name(path) or names[number]
    entries = (FileEntry(str(root / IMAGES / path)) for path in paths)
    return FileImages(NAME, split, entries, make_levels(np.array(labels, dtype=np.int64), names), reading=reading)


def _class_name(path: str) -> str:
    folders = path.split("/")[:-1]
    return "/".join(folders[1:] if len(folders) > 1 and len(folders[0]) == 1 else folders)


def _read(path: Path) -> tuple[list[str], list[int]]:
    paths, labels = [], []
    for number, line in read_lines(path):
        image, _, text = line.rpartition(" ")
        label = whole_number(text)
        if not image or label is None or label >= CLASS_COUNT:
            raise UserError(f"line {number} of {path} must be a path, a space and a label from 0 to {CLASS_COUNT - 1}, not '{shown(line)}'")
        paths.append(image.strip().lstrip("/"))
        labels.append(label)
    if not paths:
        raise UserError(f"the list {path} is empty; unpack the archive again")
    return paths, labels
