"""``folder:ROOT``: a user's own image files."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from zoo.data.base import Data, FileImages, Role
from zoo.data.files import IMAGE_EXTENSIONS, class_folders, labelled_folder, list_images, loose_images, unlabelled
from zoo.data.hierarchy import read_groupings
from zoo.data.images import Reading, reading_of
from zoo.data.memory import common_side, hold_if_small
from zoo.data.scan import OnBad
from zoo.data.spec import DataSpec
from zoo.errors import UserError

NAME = "folder"
TRAIN = "train"
# Folders with the test images, by precedence: beside `val/`, the labels of `test/` are often withheld.
TEST_SPLITS = ("val", "test")
ALL = "all"


def open_folder(spec: DataSpec, root: Path, on_bad: OnBad = "refuse") -> Data:
    """Image files in folders.

    With ``ROOT/train`` the set has splits, and a split's own subfolders are its classes, as in torchvision's ImageFolder (images
    beside class folders are not part of it). The test role goes to the first of ``val`` and ``test`` that has class folders.
    A ``train`` without subfolders is a flat folder without labels. Without ``ROOT/train``, all images in and below ROOT are
    one split ``all`` without labels, however they are nested. Splits without labels can only be pre-trained on.

    Raises
    ------
    UserError
        No images; a class folder without images; test classes that the training split lacks; test folders but no ``train``;
        and, for small images that are held in memory, bad images unless ``on_bad`` is ``"skip"``.
    """
    splits = _splits(root, reading_of(spec))
    held = {name: hold_if_small(images, on_bad) for name, images in splits.items()}
    first = next(iter(held))
    roles: dict[Role, str] = {"pretrain": first}
    if held[first].levels:
        roles["train"] = first
        test = next((name for name in TEST_SPLITS if name in held), None)
        if test is not None:
            roles["test"] = test
    return Data(
        str(spec),
        NAME,
        splits={name: partial(held.__getitem__, name) for name in held},
        roles=roles,
        image_size=common_side(*held.values()),
        root=root,
    )


def _splits(root: Path, reading: Reading) -> dict[str, FileImages]:
    """The splits that lie in ``root``, the one to pre-train on first."""
    test_folders = [name for name in TEST_SPLITS if (root / name).is_dir()]
    if not (root / TRAIN).is_dir():
        if test_folders:
            raise UserError(f"data folder {root} has '{test_folders[0]}' but no '{TRAIN}'; labelled data needs both")
        return {ALL: unlabelled(NAME, ALL, _some(list_images(root), root), reading)}
    classes = class_folders(root / TRAIN)
    if not classes:
        return {TRAIN: unlabelled(NAME, TRAIN, _some(loose_images(root / TRAIN), root / TRAIN), reading)}
    groupings = read_groupings(root, classes)
    splits: dict[str, FileImages] = {}
    for name in (TRAIN, *test_folders):
        if class_folders(root / name):
            splits[name] = labelled_folder(NAME, name, root / name, classes, groupings, reading=reading)
        else:
            _some(loose_images(root / name), root / name)
    return splits


def _some(paths: list[str], folder: Path) -> list[str]:
    if not paths:
        raise UserError(f"folder {folder} has no images ({', '.join(IMAGE_EXTENSIONS)})")
    return paths
