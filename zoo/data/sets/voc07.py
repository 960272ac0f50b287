"""``voc07:ROOT``: image classification of PASCAL VOC 2007 (Everingham et al., "The PASCAL visual object classes challenge", IJCV 2010)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import Data, FileImages, MultiLabel, Role
from zoo.data.entries import FileEntry
from zoo.data.files import nested_root
from zoo.data.images import Reading, reading_of
from zoo.data.outside import read_lines
from zoo.data.spec import DataSpec
from zoo.errors import UserError
from zoo.reading.outside import shown

NAME = "voc07"
FOLDER = "VOCdevkit/VOC2007"
# fmt: off
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
TRAIN, VAL, TRAINVAL, TEST = "train", "val", "trainval", "test"
# What a list of a class says of an image: it does not show the class, only objects marked "difficult", or others.
_MARKS = {"-1": -1, "0": 0, "1": 1}


def open_voc07(spec: DataSpec, root: Path) -> Data:
    """PASCAL VOC 2007 as the official archives unpack: ``VOCdevkit/VOC2007/{JPEGImages,ImageSets/Main}``.

    ROOT is the folder that holds ``VOCdevkit``, ``VOCdevkit`` itself, or ``VOC2007``. Labels are those of the 20 lists
    ``ImageSets/Main/<class>_<split>.txt``; an image may have several (``Images.multilabel``), so there is no label level. Images to learn
    from are ``trainval``; ``train`` and ``val`` are its halves. Without the test archive there is no test role.

    Raises
    ------
    UserError
        A list or an image folder is missing, or a list does not fit the others.
    """
    folder = nested_root(nested_root(root, FOLDER), "VOC2007")
    lists = folder / "ImageSets" / "Main"
    for needed in (lists, folder / "JPEGImages"):
        if not needed.is_dir():
            raise UserError(f"folder {needed} is missing; it is part of VOCtrainval_06-Nov-2007.tar (and VOCtest_06-Nov-2007.tar)")
    names = [split for split in (TRAINVAL, TRAIN, VAL, TEST) if (lists / f"{split}.txt").is_file()]
    if TRAINVAL not in names:
        raise UserError(f"the list {lists / 'trainval.txt'} is missing; it is part of VOCtrainval_06-Nov-2007.tar")
    roles: dict[Role, str] = {"pretrain": TRAINVAL, "train": TRAINVAL}
    if TEST in names:
        roles["test"] = TEST
    reading = reading_of(spec)
    return Data(str(spec), NAME, splits={split: partial(_split, folder, split, reading) for split in names}, roles=roles, root=root)


def _split(folder: Path, split: str, reading: Reading) -> FileImages:
    lists = folder / "ImageSets" / "Main"
    names = [line.split()[0] for _, line in _lines(lists / f"{split}.txt")]
    values: NDArray[np.int8] = np.empty((len(names), len(CLASSES)), dtype=np.int8)
    for column, name in enumerate(CLASSES):
        values[:, column] = _marks(lists / f"{name}_{split}.txt", names)
    entries = (FileEntry(str(folder / "JPEGImages" / f"{name}.jpg")) for name in names)
    return FileImages(NAME, split, entries, {}, multilabel=MultiLabel(values, CLASSES), reading=reading)


def _marks(path: Path, names: list[str]) -> list[int]:
    """What the list of a class says of each image."""
    found = {}
    for number, line in _lines(path):
        words = line.split()
        if len(words) != 2 or words[1] not in _MARKS:
            raise UserError(f"line {number} of {path} must be an image's name and -1, 0 or 1, not '{shown(line)}'")
        found[words[0]] = _MARKS[words[1]]
    missing = [name for name in names if name not in found]
    if missing or len(found) != len(names):
        what = f"has no line for image '{missing[0]}'" if missing else f"has {len(found)} images where the split has {len(names)}"
        raise UserError(f"the list {path} {what}; unpack the archive again")
    return [found[name] for name in names]


def _lines(path: Path) -> list[tuple[int, str]]:
    lines = read_lines(path)
    if not lines:
        raise UserError(f"the list {path} is empty; unpack the archive again")
    return lines
