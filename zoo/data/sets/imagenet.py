"""``imagenet:ROOT`` and ``imagenet200:ROOT``: ILSVRC-2012 (Russakovsky et al., arXiv 1409.0575) and the subset of ContrastiveCrop."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from zoo.data.base import Data, FileImages, Role
from zoo.data.entries import FileEntry
from zoo.data.files import check_known_classes, class_folders, labelled_folder, loose_images, nested_root
from zoo.data.hierarchy import read_groupings
from zoo.data.images import Reading, reading_of
from zoo.data.levels import Grouping, make_levels, name_some
from zoo.data.sets.imagenet_lists import IMAGENET_CLASSES, read_val_list
from zoo.data.spec import DataSpec
from zoo.errors import UserError

IMAGENET, IMAGENET200 = "imagenet", "imagenet200"
TRAIN, VAL = "train", "val"
KAGGLE_FOLDER = "ILSVRC/Data/CLS-LOC"
# md5 of the subset's list of classes: 200 wnids, sorted, one a line, each with its line feed.
IMAGENET200_MD5 = "c9374cf9fead2ccf2abdcaa7c9f4b446"
# The subset's classes as positions in the sorted list of the 1000 wnids.
IMAGENET200_POSITIONS = np.fromstring(
    """
    1 2 7 9 11 12 14 17 18 20 21 28 34 37 51 53 55 67 68 82 86 91 95 97 101 102 103 115 117 118 122 124 128 132 133 136
    137 138 162 164 169 170 171 174 177 183 194 196 198 210 215 230 252 253 265 268 270 272 275 293 298 300 306 307 326
    328 338 349 350 357 358 360 362 365 367 381 394 396 397 410 415 417 428 431 440 443 451 452 454 455 457 466 467 469
    470 475 477 480 487 488 489 494 497 500 507 509 516 517 518 519 520 524 526 532 533 538 553 564 566 568 584 585 588
    592 599 600 605 607 611 622 628 629 636 638 641 642 648 650 653 662 663 677 678 681 690 694 716 720 727 729 740 741
    742 766 772 774 781 783 787 801 804 805 818 819 824 829 831 832 841 842 843 862 873 877 878 885 892 894 897 898 901
    908 910 913 923 928 929 940 941 945 947 948 950 955 958 963 975 986 988 999
    """,
    dtype=np.int64,
    sep=" ",
)


def open_imagenet(spec: DataSpec, root: Path) -> Data:
    """ImageNet, or any subset of its classes, as ``train/<wnid>/*`` and ``val/<wnid>/*`` or a flat ``val/*`` with a list of its labels.

    ROOT may also be Kaggle's folder, with the images in ``ILSVRC/Data/CLS-LOC``. For the lists see
    :func:`zoo.data.sets.imagenet_lists.read_val_list`. Without ``val`` there is no test role. Class names are the wnids.

    Raises
    ------
    UserError
        No class folders, an empty one, validation classes that the training split lacks, a flat ``val`` without a fitting list.
    """
    folder = nested_root(root, KAGGLE_FOLDER)
    found = _train_folders(folder)
    return _open(IMAGENET, spec, root, folder, found, found)


def open_imagenet200(spec: DataSpec, root: Path) -> Data:
    """The 200 classes of ImageNet on which ContrastiveCrop (arXiv 2202.03278, repository xyupeng/ContrastiveCrop) is measured.

    ROOT is as in :func:`open_imagenet` with either all 1000 classes, of which the 200 are taken, or just these. Labels are
    0..199 in the order of the sorted wnids; the order of the images stays.

    Raises
    ------
    UserError
        As :func:`open_imagenet`; class folders that are neither ILSVRC-2012's 1000 nor the 200; a class that ``val`` lacks.
    """
    folder = nested_root(root, KAGGLE_FOLDER)
    found = _train_folders(folder)
    chosen = select_imagenet200(found)
    if chosen is None:
        raise UserError(
            f"the {len(found)} class folders of {folder / TRAIN} are neither the {IMAGENET_CLASSES} of ILSVRC-2012 "
            f"nor the 200 of {IMAGENET200}"
        )
    return _open(IMAGENET200, spec, root, folder, found, chosen)


def select_imagenet200(wnids: Sequence[str]) -> tuple[str, ...] | None:
    """The subset's wnids out of all 1000 (or out of the 200 themselves), both sorted; None where the list's md5 does not fit."""
    chosen = tuple(np.array(wnids)[IMAGENET200_POSITIONS].tolist()) if len(wnids) == IMAGENET_CLASSES else tuple(wnids)
    digest = hashlib.md5("".join(f"{wnid}\n" for wnid in chosen).encode(), usedforsecurity=False).hexdigest()
    return chosen if digest == IMAGENET200_MD5 else None


def _train_folders(folder: Path) -> tuple[str, ...]:
    if not (folder / TRAIN).is_dir():
        raise UserError(f"folder {folder / TRAIN} is missing; ImageNet has train and val")
    found = class_folders(folder / TRAIN)
    if not found:
        raise UserError(f"folder {folder / TRAIN} has no class folders")
    return found


def _open(name: str, spec: DataSpec, root: Path, folder: Path, found: tuple[str, ...], classes: tuple[str, ...]) -> Data:
    """The data set of ``classes``, out of the class folders ``found`` in ``train``."""
    groupings = read_groupings(root, classes)
    reading = reading_of(spec)
    train = partial(labelled_folder, name, TRAIN, folder / TRAIN, classes, groupings, present=classes, reading=reading)
    val = partial(_val, name, root, folder / VAL, found, classes, groupings, reading)
    roles: dict[Role, str] = {"pretrain": TRAIN, "train": TRAIN}
    if not (folder / VAL).is_dir():
        return Data(str(spec), name, splits={TRAIN: train}, roles=roles, root=root)
    return Data(str(spec), name, splits={TRAIN: train, VAL: val}, roles={**roles, "test": VAL}, root=root)


def _val(
    name: str,
    root: Path,
    folder: Path,
    found: tuple[str, ...],
    classes: tuple[str, ...],
    groupings: tuple[Grouping, ...],
    reading: Reading,
) -> FileImages:
    present = class_folders(folder)
    if present:
        if name == IMAGENET200:
            _check_complete(set(present), classes, folder)
            present = classes
        return labelled_folder(name, VAL, folder, classes, groupings, present=present, reading=reading)
    paths = loose_images(folder)
    if not paths:
        raise UserError(f"folder {folder} has neither images nor class folders")
    wnids = read_val_list(root, folder, [Path(path).name for path in paths], found)
    if name == IMAGENET200:
        _check_complete(set(wnids), classes, folder)
    else:
        check_known_classes(sorted(set(wnids)), classes, str(folder))
    wanted = set(classes)
    # In the order that regrouped class folders would have.
    chosen = sorted((wnid, path) for wnid, path in zip(wnids, paths, strict=True) if wnid in wanted)
    number = {wnid: index for index, wnid in enumerate(classes)}
    labels = np.array([number[wnid] for wnid, _ in chosen], dtype=np.int64)
    return FileImages(name, VAL, (FileEntry(path) for _, path in chosen), make_levels(labels, classes, groupings), reading=reading)


def _check_complete(present: set[str], classes: tuple[str, ...], folder: Path) -> None:
    absent = sorted(set(classes) - present)
    if absent:
        raise UserError(f"{folder} lacks the class {name_some(absent)} of {IMAGENET200}")
