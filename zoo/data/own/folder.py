"""``folder:ROOT``: a user's own image files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from zoo.data.base import Data, FileImages, UnusedFile
from zoo.data.files import class_folders, labelled_folder, list_images, loose_images, unlabelled
from zoo.data.hierarchy import read_groupings
from zoo.data.images import Reading, reading_of
from zoo.data.images.endings import read_endings
from zoo.data.levels import Grouping
from zoo.data.own.assemble import ALL, Parts, assemble
from zoo.data.own.holdout import holdout_of
from zoo.data.own.layouts import FoundSplits, find_splits, has_labels, refusal
from zoo.data.own.split_names import TEST_SPLITS, TRAIN
from zoo.data.scan import OnBad
from zoo.data.spec import DataSpec
from zoo.errors import UserError

NAME = "folder"


def open_folder(spec: DataSpec, root: Path, on_bad: OnBad = "refuse") -> Data:
    """Image files in folders.

    With a folder for training (:func:`zoo.data.own.layouts.find_splits`), in ROOT or one level down, the set has splits, and a split's own
    subfolders are its classes, as in torchvision's ImageFolder (images beside class folders are not part of it). The test role goes to the
    first of ``val`` and ``test`` that has class folders. A training folder without subfolders is a flat one without labels. Without one,
    ``holdout=`` makes the subfolders of ROOT classes and parts each; otherwise all images in and below ROOT are one split ``all`` without
    labels, however they are nested. Splits without labels can only be pre-trained on.

    Raises
    ------
    UserError
        No images; a class folder without images; test classes that the training split lacks; test folders but none for training; a
        holdout without classes or beside a test split; and, for small images that are held in memory, bad images unless ``on_bad`` is
        ``"skip"``.
    """
    share = holdout_of(spec)
    found = find_splits(root)
    reading = reading_of(spec)
    unused: list[UnusedFile] = []
    if TRAIN not in found.folders:
        if found.folders:
            raise UserError(refusal(root, f"data folder {root} has '{found.named()}' but no 'train'; labelled data needs both"))
        parts = _without_splits(root, reading, unused, labels=share is not None)
    else:
        parts = _with_splits(root, found, reading, unused)
    return assemble(spec, NAME, parts, root=root, on_bad=on_bad, unused=unused)


def _without_splits(root: Path, reading: Reading, unused: list[UnusedFile], *, labels: bool) -> Parts:
    """All images of ROOT: labelled by its folders where these are to be parted, else without labels."""
    if labels:
        classes = class_folders(root)
        if not classes:
            raise UserError(refusal(root, f"data folder {root} has no class folders, so there is nothing to hold out by class"))
        _note_beside(loose_images(root, read_endings(), unused), unused)
        images = _labelled(root, TRAIN, root, classes, read_groupings(root, classes), reading, unused)
        return Parts({TRAIN: lambda: images}, (f"each of the {len(classes)} folders of {root} is a class",))
    paths = list_images(root, read_endings(), unused)
    if not paths:
        raise UserError(refusal(root, _nothing(root, unused)))
    images = unlabelled(NAME, ALL, paths, reading)
    advice = "if its folders are classes, add ,holdout=0.2 to part them" if has_labels(root) else ""
    return Parts({ALL: lambda: images}, (f"{root} has no train folder: all its images are one split without labels",), advice)


def _with_splits(root: Path, found: FoundSplits, reading: Reading, unused: list[UnusedFile]) -> Parts:
    folder = found.folders[TRAIN]
    classes = class_folders(folder)
    if not classes:
        paths = loose_images(folder, read_endings(), unused)
        if not paths:
            raise UserError(refusal(root, _nothing(folder, unused)))
        train = unlabelled(NAME, TRAIN, paths, reading)
        return Parts({TRAIN: lambda: train}, (*found.decisions, f"{folder} has no class folders: its images have no labels"))
    base = found.base if not (root / "hierarchy.json").is_file() else root
    groupings = read_groupings(base, classes)
    splits: dict[str, Callable[[], FileImages]] = {}
    decisions = list(found.decisions)
    for name, place in found.folders.items():
        if class_folders(place):
            splits[name] = partial(_labelled, root, name, place, classes, groupings, reading, unused)
        elif not loose_images(place, read_endings()):
            if not any(class_folders(found.folders[other]) for other in TEST_SPLITS if other in found.folders):
                raise UserError(refusal(root, f"folder {place} has no images"))
        else:
            decisions.append(f"{place} has no class folders: it is not used")
    return Parts(splits, tuple(decisions))


def _labelled(
    root: Path,
    split: str,
    folder: Path,
    classes: tuple[str, ...],
    groupings: tuple[Grouping, ...],
    reading: Reading,
    unused: list[UnusedFile],
) -> FileImages:
    if folder != root:
        _note_beside(loose_images(folder, read_endings(), unused), unused)
    return labelled_folder(NAME, split, folder, classes, groupings, reading=reading, endings=read_endings(), unused=unused)


def _note_beside(paths: list[str], unused: list[UnusedFile]) -> None:
    unused.extend(UnusedFile(path, "it lies beside class folders, in none of them") for path in paths)


def _nothing(folder: Path, unused: list[UnusedFile]) -> str:
    more = f"; {len(unused)} other images, first {unused[0]}" if unused else ""
    return f"folder {folder} has no images ({', '.join(read_endings())}{more})"
