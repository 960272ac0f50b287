"""``cifar10:ROOT`` and ``cifar100:ROOT`` (Krizhevsky, "Learning multiple layers of features from tiny images", 2009)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import ArrayImages, Data, FileImages, Images, Level
from zoo.data.files import class_folders, labelled_folder, nested_root
from zoo.data.hierarchy import grouping_from_names, read_groupings
from zoo.data.levels import Grouping, checked_labels, make_levels, name_some
from zoo.data.memory import load_images
from zoo.data.scan import OnBad
from zoo.data.sets.cifar_classes import CIFAR10_CLASSES, CIFAR100_CLASSES, CIFAR100_SUPERCLASSES
from zoo.data.sets.torchvision_sets import DOWNLOAD
from zoo.errors import UserError
from zoo.reading.arrays import ArrayFileError, read_arrays
from zoo.reading.plain_pickle import load_plain_pickle

SIDE = 32
SUPERCLASS = "superclass"


@dataclass(frozen=True)
class Variant:
    """What CIFAR-10 and CIFAR-100 differ in."""

    name: str
    classes: tuple[str, ...]
    pickle_folder: str
    pickles: dict[str, tuple[str, ...]]
    label_key: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    built_in: tuple[Grouping, ...] = ()


CIFAR10 = Variant(
    name="cifar10",
    classes=CIFAR10_CLASSES,
    pickle_folder="cifar-10-batches-py",
    pickles={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    label_key="labels",
    mean=(0.4914, 0.4822, 0.4465),
    # The numbers of the published contrastive recipes: a mean of per-batch deviations. Over all pixels it is .2470, .2435, .2616.
    std=(0.2023, 0.1994, 0.2010),
)
CIFAR100 = Variant(
    name="cifar100",
    classes=CIFAR100_CLASSES,
    pickle_folder="cifar-100-python",
    pickles={"train": ("train",), "test": ("test",)},
    label_key="fine_labels",
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    built_in=(grouping_from_names(SUPERCLASS, CIFAR100_SUPERCLASSES, CIFAR100_CLASSES),),
)
# Keys of an .npz per split: images uint8 (N, 32, 32, 3), labels (N,).
_NPZ_KEYS = {"train": ("xtr", "ytr"), "test": ("xte", "yte")}


def open_cifar(variant: Variant, spec: str, root: Path, on_bad: OnBad = "refuse") -> Data:
    """CIFAR in the first of these layouts that ROOT has.

    1. ``cifar10.npz`` / ``cifar100.npz`` with ``xtr``, ``ytr``, ``xte``, ``yte``;
    2. the official pickles, in ROOT or in ``cifar-10-batches-py`` / ``cifar-100-python`` inside it;
    3. ``train`` and ``test`` with one folder per class. Files that are named by their official index (``00017.png``), each once
       in the split, are put in the official order, so that all layouts give the same data; others stay in sorted order.

    Raises
    ------
    UserError
        None of the layouts, or a damaged file.
    """
    groupings = read_groupings(root, variant.classes, built_in=variant.built_in)
    load: Callable[[str], Images]
    pickles = nested_root(root, variant.pickle_folder)
    archive = root / f"{variant.name}.npz"
    if archive.is_file():
        load = partial(_from_npz, variant, archive, groupings)
    elif (pickles / variant.pickles["train"][0]).is_file():
        load = partial(_from_pickles, variant, pickles, groupings)
    elif (root / "train").is_dir() and (root / "test").is_dir():
        load = partial(_from_folders, variant, root, groupings, on_bad)
    else:
        raise UserError(
            f"{root} holds no {variant.name}: neither {archive.name}, nor {variant.pickle_folder}, "
            f"nor train and test with a folder per class; {DOWNLOAD}"
        )
    return Data(
        spec,
        variant.name,
        splits={split: partial(load, split) for split in variant.pickles},
        roles={"pretrain": "train", "train": "train", "test": "test"},
        mean=variant.mean,
        std=variant.std,
        image_size=SIDE,
        root=root,
    )


def _from_npz(variant: Variant, path: Path, groupings: tuple[Grouping, ...], split: str) -> ArrayImages:
    pixel_key, label_key = _NPZ_KEYS[split]
    try:
        pixels, values = read_arrays(path, pixel_key, label_key)
    except KeyError as error:
        raise UserError(f"file {path} lacks an array ({error.args[0]}); it needs xtr, ytr, xte and yte") from error
    except (OSError, ArrayFileError) as error:
        raise UserError(f"file {path} is no readable .npz ({error}); get or make it again") from error
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (SIDE, SIDE, 3):
        raise UserError(f"{pixel_key} of {path} must be uint8 (N, {SIDE}, {SIDE}, 3), not {pixels.dtype} {pixels.shape}")
    labels = checked_labels(values, len(pixels), len(variant.classes), f"{label_key} of {path}")
    return ArrayImages(variant.name, split, pixels, make_levels(labels, variant.classes, groupings))


def _from_pickles(variant: Variant, folder: Path, groupings: tuple[Grouping, ...], split: str) -> ArrayImages:
    pixels, labels, coarse = [], [], []
    for name in variant.pickles[split]:
        path = folder / name
        batch = load_plain_pickle(path)
        images = _planes(batch, path)
        pixels.append(images)
        labels.append(_pickled_labels(batch, variant.label_key, len(images), len(variant.classes), path))
        if variant.built_in and "coarse_labels" in batch:
            coarse.append(_pickled_labels(batch, "coarse_labels", len(images), len(variant.built_in[0].groups), path))
    levels = make_levels(np.concatenate(labels), variant.classes, groupings)
    if coarse:
        levels[SUPERCLASS] = Level(np.concatenate(coarse), variant.built_in[0].groups)
    return ArrayImages(variant.name, split, np.concatenate(pixels), levels)


def _planes(batch: Any, path: Path) -> NDArray[np.uint8]:
    """The images of one official batch: rows of 3072 bytes, a red, a green and a blue plane."""
    data = batch.get("data") if isinstance(batch, dict) else None
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE:
        raise UserError(f"file {path} is no CIFAR batch: 'data' must be uint8 (N, {3 * SIDE * SIDE}); get it again")
    return np.ascontiguousarray(data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _pickled_labels(batch: dict[str, Any], key: str, images: int, classes: int, path: Path) -> NDArray[np.int64]:
    if key not in batch:
        raise UserError(f"file {path} has no '{key}'; it belongs to another data set")
    return checked_labels(batch[key], images, classes, f"'{key}' of {path}")


def _from_folders(variant: Variant, root: Path, groupings: tuple[Grouping, ...], on_bad: OnBad, split: str) -> Images:
    found = class_folders(root / split)
    missing = [name for name in variant.classes if name not in found]
    unknown = [name for name in found if name not in variant.classes]
    if missing or unknown:
        what = f"lacks the class {name_some(missing)}" if missing else f"has the class {name_some(unknown)}"
        raise UserError(f"{root / split} {what}, so it is not {variant.name}; open a set of your own as folder:{root}")
    images = labelled_folder(variant.name, split, root / split, variant.classes, groupings)
    return load_images(_in_official_order(images), SIDE, on_bad)


def _in_official_order(images: FileImages) -> FileImages:
    stems = [Path(entry.path).stem for entry in images.entries]
    if not all(stem.isascii() and stem.isdigit() for stem in stems):
        return images
    positions = np.array([int(stem) for stem in stems], dtype=np.int64)
    order = np.argsort(positions, kind="stable")
    return images.subset(order) if np.array_equal(positions[order], np.arange(len(images))) else images
