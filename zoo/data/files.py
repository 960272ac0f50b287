"""Image files in folders, found in the order in which torchvision's ImageFolder finds them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from zoo.data.base import FileImages
from zoo.data.entries import FileEntry
from zoo.data.images import AS_STORED, Reading
from zoo.data.images.endings import RESEARCH_ENDINGS
from zoo.data.levels import Grouping, make_levels, name_some
from zoo.errors import UserError

IMAGE_EXTENSIONS = RESEARCH_ENDINGS


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image: by its extension, and not hidden."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_EXTENSIONS)


def scan_folder(folder: str | Path) -> list[os.DirEntry[str]]:
    """The visible entries of a folder, sorted by name. Raises UserError where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"folder {folder} cannot be listed ({error.strerror})") from error


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the visible folders (or links to folders) in ``folder``, sorted: the class names of an ImageFolder."""
    return tuple(entry.name for entry in scan_folder(folder) if entry.is_dir())


def loose_images(folder: Path) -> list[str]:
    """Paths of the images that lie directly in ``folder``, sorted by name."""
    return [entry.path for entry in scan_folder(folder) if is_image_name(entry.name) and not entry.is_dir()]


def list_images(folder: str | Path) -> list[str]:
    """Paths of all images in and below ``folder``: folders sorted by path, files sorted by name in each.

    Links to folders are followed; one that leads back to a folder above it is not entered again.
    """
    found: list[tuple[str, list[str]]] = []
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(str(folder), frozenset())]
    while pending:
        current, above = pending.pop()
        entries = scan_folder(current)
        status = os.stat(current)
        here = above | {(status.st_dev, status.st_ino)}
        if len(here) == len(above):
            continue
        names = []
        for entry in entries:
            if entry.is_dir():
                pending.append((entry.path, here))
            elif is_image_name(entry.name):
                names.append(entry.path)
        found.append((current, names))
    return [path for _, paths in sorted(found) for path in paths]


def labelled_folder(
    name: str,
    split: str,
    folder: Path,
    classes: Sequence[str],
    groupings: Iterable[Grouping] = (),
    *,
    names: Sequence[str] | None = None,
    present: Sequence[str] | None = None,
    reading: Reading = AS_STORED,
) -> FileImages:
    """One split from a folder that has one folder per class.

    Parameters
    ----------
    name, split
        Of the data set.
    folder
        Holds the class folders.
    classes
        Folder name of each class; a class without a folder here has no images in this split.
    groupings
        Levels above the classes.
    names
        Class names where these are not the folders' names.
    present
        The class folders to read; by default all that are there.
    reading
        How images become RGB.

    Raises
    ------
    UserError
        A class folder without images, or one that is not in ``classes``.
    """
    if present is None:
        present = class_folders(folder)
    check_known_classes(present, classes, f"{split} split {folder}")
    number = {wanted: index for index, wanted in enumerate(classes)}
    paths: list[str] = []
    labels: list[int] = []
    for present_class in present:
        images = list_images(folder / present_class)
        if not images:
            raise UserError(f"class folder {folder / present_class} has no images ({', '.join(IMAGE_EXTENSIONS)}); fill or remove it")
        paths.extend(images)
        labels.extend([number[present_class]] * len(images))
    levels = make_levels(np.array(labels, dtype=np.int64), names or classes, groupings)
    return FileImages(name, split, map(FileEntry, paths), levels, reading=reading)


def check_known_classes(present: Sequence[str], classes: Sequence[str], where: str) -> None:
    """Raise UserError if ``present`` has a class that the training split's ``classes`` lack."""
    known = set(classes)
    unknown = [one for one in present if one not in known]
    if unknown:
        noun = "class" if len(unknown) == 1 else "classes"
        raise UserError(f"{where} has the {noun} {name_some(unknown)}, which the training split lacks")


def unlabelled(name: str, split: str, paths: Sequence[str], reading: Reading = AS_STORED) -> FileImages:
    """Images without labels, in the order of ``paths``."""
    return FileImages(name, split, map(FileEntry, paths), {}, reading=reading)


def nested_root(root: Path, inner: str) -> Path:
    """``root/inner`` if there is such a folder, else ``root``: a user may name an archive's folder or the one it was unpacked in."""
    return root / inner if (root / inner).is_dir() else root
