"""``tiny-imagenet:ROOT``: Tiny-ImageNet-200 (Stanford CS231n), 200 classes at 64 px."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from zoo.data.base import Data, FileImages, Images
from zoo.data.entries import FileEntry
from zoo.data.files import check_known_classes, class_folders, labelled_folder, loose_images, nested_root
from zoo.data.hierarchy import read_groupings
from zoo.data.levels import Grouping, make_levels, name_some
from zoo.data.memory import load_images
from zoo.data.outside import read_lines
from zoo.data.scan import OnBad
from zoo.errors import UserError
from zoo.reading.outside import shown

NAME = "tiny-imagenet"
FOLDER = "tiny-imagenet-200"
SIDE = 64
MEAN = (0.4802, 0.4481, 0.3975)
STD = (0.2302, 0.2265, 0.2262)
TRAIN, VAL = "train", "val"
ANNOTATIONS = "val_annotations.txt"


def open_tiny_imagenet(spec: str, root: Path, on_bad: OnBad = "refuse") -> Data:
    """Tiny-ImageNet in its official layout, in ROOT or in ``tiny-imagenet-200`` inside it.

    ``train/<wnid>/images/*.JPEG``; ``val/images/*.JPEG`` with ``val/val_annotations.txt``, or a ``val`` that has been regrouped into
    class folders (both give the same images in the same order); names from ``words.txt``. The unlabelled ``test`` is not used.

    Raises
    ------
    UserError
        A missing folder or file, images without annotation or annotations without image, unknown classes, bad images.
    """
    folder = nested_root(root, FOLDER)
    for split in (TRAIN, VAL):
        if not (folder / split).is_dir():
            raise UserError(f"folder {folder / split} is missing; {NAME} has train and val")
    wnids = class_folders(folder / TRAIN)
    if not wnids:
        raise UserError(f"folder {folder / TRAIN} has no class folders")
    names = _class_names(folder / "words.txt", wnids)
    groupings = read_groupings(root, names, keys=wnids)
    return Data(
        spec,
        NAME,
        splits={
            TRAIN: partial(_train, folder, wnids, names, groupings, on_bad),
            VAL: partial(_val, folder, wnids, names, groupings, on_bad),
        },
        roles={"pretrain": TRAIN, "train": TRAIN, "test": VAL},
        mean=MEAN,
        std=STD,
        image_size=SIDE,
        root=root,
    )


def _train(folder: Path, wnids: tuple[str, ...], names: tuple[str, ...], groupings: tuple[Grouping, ...], on_bad: OnBad) -> Images:
    return load_images(labelled_folder(NAME, TRAIN, folder / TRAIN, wnids, groupings, names=names), SIDE, on_bad)


def _val(folder: Path, wnids: tuple[str, ...], names: tuple[str, ...], groupings: tuple[Grouping, ...], on_bad: OnBad) -> Images:
    flat = folder / VAL / "images"
    paths = loose_images(flat) if flat.is_dir() else []
    if not paths:
        # A regrouped `val` often keeps the empty folder.
        present = [name for name in class_folders(folder / VAL) if name != flat.name]
        if not present:
            raise UserError(f"folder {folder / VAL} has neither images nor class folders")
        return load_images(labelled_folder(NAME, VAL, folder / VAL, wnids, groupings, names=names, present=present), SIDE, on_bad)
    annotations = folder / VAL / ANNOTATIONS
    wnid_of = _read_annotations(annotations)
    by_name = {Path(path).name: path for path in paths}
    absent = sorted(set(wnid_of) - set(by_name))
    if absent:
        raise UserError(f"{annotations} names the image {name_some(absent)}, which {flat} lacks")
    unnamed = sorted(set(by_name) - set(wnid_of))
    if unnamed:
        raise UserError(f"{annotations} has no line for the image {name_some(unnamed)}")
    check_known_classes(sorted(set(wnid_of.values())), wnids, str(annotations))
    number = {wnid: index for index, wnid in enumerate(wnids)}
    ordered = sorted((number[wnid], image) for image, wnid in wnid_of.items())
    labels = np.array([label for label, _ in ordered], dtype=np.int64)
    entries = [FileEntry(by_name[image]) for _, image in ordered]
    return load_images(FileImages(NAME, VAL, entries, make_levels(labels, names, groupings)), SIDE, on_bad)


def _read_annotations(path: Path) -> dict[str, str]:
    """Image file name -> wnid, from lines of file name, wnid and a box, separated by tabs."""
    if not path.is_file():
        raise UserError(f"file {path} is missing; without it the images of 'val' have no labels")
    wnid_of: dict[str, str] = {}
    for number, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) < 2 or fields[0] in wnid_of:
            raise UserError(f"{path}, line {number}: expected a new image file name and its wnid, separated by a tab, not '{shown(line)}'")
        wnid_of[fields[0]] = fields[1].strip()
    return wnid_of


def _class_names(path: Path, wnids: tuple[str, ...]) -> tuple[str, ...]:
    """The first word of each wnid in ``words.txt`` (lines of wnid, tab, words), with the wnid where it is not unique; else wnids."""
    if not path.is_file():
        return wnids
    words = {}
    for _, line in read_lines(path):
        wnid, _, text = line.partition("\t")
        words[wnid] = text.partition(",")[0].strip()
    first = [words.get(wnid) or wnid for wnid in wnids]
    count = Counter(first)
    return tuple(word if count[word] == 1 else f"{word} ({wnid})" for word, wnid in zip(first, wnids, strict=True))
