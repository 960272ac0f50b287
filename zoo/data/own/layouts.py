"""Which folder of a user's is which split, and what to say of a layout that means nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.data.files import class_folders, is_folder, is_image_name, scan_folder
from zoo.data.images.endings import read_endings
from zoo.data.own.split_names import NAMES, TEST, TEST_SPLITS, TRAIN, VAL, split_of
from zoo.errors import UserError

WORKING = (
    "train/CLASS/* with val/CLASS/* (or test/CLASS/*), or CLASS/* with ,holdout=0.2, or a table (csv:FILE,root=DIR,...), or, to pre-train "
    "only, images in any folders"
)
_SHOWN = 4


@dataclass(frozen=True)
class FoundSplits:
    """The folders of splits.

    Attributes
    ----------
    base
        The folder that they lie in: the data's, or one below it.
    folders
        ``"train"``, ``"val"``, ``"test"`` -> folder, the first first.
    decisions
        What was decided, for a reader.
    """

    base: Path
    folders: dict[str, Path]
    decisions: tuple[str, ...] = ()

    def named(self) -> str:
        """The first folder, as it is called."""
        return next(iter(self.folders.values())).name


def find_splits(root: Path) -> FoundSplits:
    """The folders in ROOT whose names say a split; if there are none, those of the one folder in it that has splits and nothing else.

    Raises
    ------
    UserError
        Two folders for one split; two folders that have splits.
    """
    found = _in(root)
    if found.folders:
        return found
    below = [one for entry in scan_folder(root) if is_folder(entry) for one in [_only_splits(Path(entry.path))] if one is not None]
    if len(below) > 1:
        raise UserError(f"data folder {root} has splits in {' and in '.join(str(one.base) for one in below)}; name one of these folders")
    return below[0] if below else found


def _in(base: Path) -> FoundSplits:
    by_split: dict[str, list[Path]] = {}
    for entry in scan_folder(base):
        split = split_of(entry.name)
        if split is not None and is_folder(entry):
            by_split.setdefault(split, []).append(Path(entry.path))
    for split, folders in by_split.items():
        if len(folders) > 1:
            names = " and ".join(folder.name for folder in folders)
            raise UserError(f"data folder {base} has two folders for '{split}', {names}; rename or join them (names are {NAMES})")
    chosen = {split: by_split[split][0] for split in (TRAIN, VAL, TEST) if split in by_split}
    return FoundSplits(base, chosen, _decisions(chosen))


def _only_splits(folder: Path) -> FoundSplits | None:
    """The splits of a folder that has nothing else, with images to train on: among others, a folder called train may be a class."""
    entries = scan_folder(folder)
    words = [split_of(entry.name) for entry in entries if is_folder(entry)]
    if TRAIN not in words or None in words or any(is_image_name(entry.name, read_endings()) for entry in entries):
        return None
    found = _in(folder)
    return found if _has_images(found.folders[TRAIN]) else None


def _has_images(folder: Path, depth: int = 3) -> bool:
    entries = scan_folder(folder)
    if any(is_image_name(entry.name, read_endings()) for entry in entries):
        return True
    return depth > 0 and any(_has_images(Path(entry.path), depth - 1) for entry in entries if is_folder(entry))


def _decisions(folders: dict[str, Path]) -> tuple[str, ...]:
    decided = [f"{folder} is the {split} split" for split, folder in folders.items()]
    if all(split in folders for split in TEST_SPLITS):
        decided.append(f"there are {folders[VAL].name} and {folders[TEST].name}: the test role goes to {folders[VAL].name}")
    return tuple(decided)


def has_labels(root: Path) -> bool:
    """Whether a folder looks as if its subfolders were classes: two or more of them, and no images beside."""
    entries = scan_folder(root)
    return len(class_folders(root)) > 1 and not any(is_image_name(entry.name, read_endings()) for entry in entries)


def refusal(root: Path, what: str) -> str:
    """A sentence that shows the layout that was found beside those that work."""
    return f"{what}; found: {_shown(root)}; what works: {WORKING}"


def _shown(folder: Path, depth: int = 1) -> str:
    """The first few entries of a folder, and how many more there are."""
    entries = scan_folder(folder)
    folders = [entry for entry in entries if is_folder(entry)]
    files = [entry for entry in entries if not is_folder(entry)]
    parts = []
    for entry in folders[:_SHOWN]:
        inner = f" ({_shown(Path(entry.path), depth - 1)})" if depth else ""
        parts.append(f"{entry.name}/{inner}")
    if len(folders) > _SHOWN:
        parts.append(f"{len(folders) - _SHOWN} more folders")
    if files:
        parts.append(files[0].name if len(files) == 1 else f"{len(files)} files such as {files[0].name}")
    return ", ".join(parts) or "nothing"
