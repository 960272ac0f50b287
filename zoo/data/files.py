"""Image files in folders, found in the order in which torchvision's ImageFolder finds them."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from zoo.data.base import FileImages, UnusedFile
from zoo.data.entries import FileEntry
from zoo.data.images import AS_STORED, Reading
from zoo.data.images.endings import HEAD_BYTES, RESEARCH_ENDINGS, is_told_by_name, why_not_read
from zoo.data.levels import Grouping, make_levels, name_some
from zoo.errors import UserError
from zoo.reading.outside import open_file


def is_image_name(name: str, endings: tuple[str, ...] = RESEARCH_ENDINGS) -> bool:
    """Whether a file of this name counts as an image: by its ending, and not hidden."""
    return not name.startswith(".") and name.lower().endswith(endings)


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which names are compared: macOS may write them in another."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


# How many entries of folders may still be looked at; None: all.
_left: ContextVar[list[int] | None] = ContextVar("_left", default=None)


@contextmanager
def listing_at_most(count: int) -> Iterator[None]:
    """Folders that are listed in the block end in a UserError behind ``count`` entries: for a place that a stranger's file names."""
    token = _left.set([count])
    try:
        yield
    finally:
        _left.reset(token)


def _counted(entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    left = _left.get()
    for entry in entries:
        if left is not None:
            left[0] -= 1
            if left[0] < 0:
                raise UserError(f"there are far more files in {os.path.dirname(entry.path)} and beside it than there should be")
        yield entry


def scan_folder(folder: str | Path) -> list[os.DirEntry[str]]:
    """The visible entries of a folder, sorted by name. Raises UserError where it cannot be listed, or :func:`listing_at_most` ends it."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in _counted(entries) if not entry.name.startswith(".")), key=lambda entry: composed(entry.name))
    except OSError as error:
        raise UserError(f"folder {folder} cannot be listed ({error.strerror})") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link that leads to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def why_no_file(entry: os.DirEntry[str]) -> str | None:
    """Why what bears an image's name is no file that could be read; None for files, and for links to what is gone, which are bad images."""
    try:
        mode = entry.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        return "it is a link that leads to itself" if error.errno == errno.ELOOP else f"it cannot be looked at ({error.strerror})"
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "it is a pipe, a socket or a device, not a file"


def class_paths(folder: Path) -> dict[str, Path]:
    """Name -> path of the visible folders (or links to folders) in ``folder``, sorted by name.

    Raises UserError for two whose names are the same but for the way in which Unicode writes them.
    """
    found: dict[str, Path] = {}
    for entry in scan_folder(folder):
        if is_folder(entry):
            name = composed(entry.name)
            if name in found:
                raise UserError(f"folder {folder} has '{name}' twice, in two ways of writing the same letters; rename or join them")
            found[name] = Path(entry.path)
    return found


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the visible folders in ``folder``, sorted: the class names of an ImageFolder."""
    return tuple(class_paths(folder))


def loose_images(folder: Path, endings: tuple[str, ...] = RESEARCH_ENDINGS, unused: list[UnusedFile] | None = None) -> list[str]:
    """Paths of the images that lie directly in ``folder``, sorted by name; parameters as in :func:`list_images`."""
    found = []
    for entry in scan_folder(folder):
        if not is_folder(entry) and _counts(entry, endings, unused):
            found.append(entry.path)
    return found


def list_images(folder: str | Path, endings: tuple[str, ...] = RESEARCH_ENDINGS, unused: list[UnusedFile] | None = None) -> list[str]:
    """Paths of all images in and below ``folder``: folders sorted by path, files sorted by name in each.

    Links to folders are followed; one that leads back to a folder above it is not entered again.

    Parameters
    ----------
    endings
        Of the files that count as images.
    unused
        Gets files that are images and do not count, with the reason; their first bytes are looked at where the name does not tell.
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
            if is_folder(entry):
                pending.append((entry.path, here))
            elif _counts(entry, endings, unused):
                names.append(entry.path)
        found.append((current, names))
    return [path for _, paths in sorted(found, key=lambda part: composed(part[0])) for path in paths]


def _counts(entry: os.DirEntry[str], endings: tuple[str, ...], unused: list[UnusedFile] | None) -> bool:
    """Whether an entry that is no folder counts as an image; one that does not, and looks like one, is noted."""
    named = is_image_name(entry.name, endings)
    # Of an ordinary file, or a link to one, this asks the system nothing that it has not said.
    reason = None if entry.is_file(follow_symlinks=False) else why_no_file(entry)
    if reason is None and named:
        return True
    if unused is not None and named:
        assert reason is not None
        unused.append(UnusedFile(entry.path, f"{reason}; it was passed over"))
    elif unused is not None and reason is None:
        _note_unused(entry, unused)
    return False


def _note_unused(entry: os.DirEntry[str], unused: list[UnusedFile]) -> None:
    head = b""
    if not is_told_by_name(entry.name):
        try:
            with open_file(entry.path) as file:
                head = file.read(HEAD_BYTES)
        except OSError:
            return
    reason = why_not_read(entry.name, head)
    if reason is not None:
        unused.append(UnusedFile(entry.path, reason))


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
    endings: tuple[str, ...] = RESEARCH_ENDINGS,
    unused: list[UnusedFile] | None = None,
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
    endings, unused
        As in :func:`list_images`.

    Raises
    ------
    UserError
        A class folder without images, or one that is not in ``classes``.
    """
    folders = class_paths(folder)
    if present is None:
        present = tuple(folders)
    check_known_classes(present, classes, f"{split} split {folder}")
    number = {wanted: index for index, wanted in enumerate(classes)}
    paths: list[str] = []
    labels: list[int] = []
    for present_class in present:
        place = folders.get(present_class, folder / present_class)
        images = list_images(place, endings, unused)
        if not images:
            raise UserError(f"class folder {place} has no images ({', '.join(endings)}); fill or remove it")
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
