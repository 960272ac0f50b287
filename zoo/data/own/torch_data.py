"""Any torch ``Dataset`` of (image, label), as a data set here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.data.base import Data, Images, Level, MultiLabel, Role
from zoo.data.levels import make_levels
from zoo.data.memory import common_side, hold_read_if_small
from zoo.data.own.split_names import TEST, TRAIN
from zoo.errors import UserError, first_line
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD

NAME = "torch"
# Labels that are compared with the images' own before a list of them is believed.
_COMPARED = 5


def torch_data(
    train: Any,
    test: Any = None,
    *,
    name: str = NAME,
    classes: Sequence[str] | None = None,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Data:
    """A data set out of torch's: for :func:`evaluation.run_knn` and every other function that takes :class:`~zoo.data.Data`.

    Parameters
    ----------
    train, test
        Datasets with a length, whose items are an image, or an image and its label. An image is a Pillow image, a uint8 array (H, W, 3) or
        (H, W), or a tensor (3, H, W) or (1, H, W), uint8 or floating in [0, 1]. A label is a whole number from 0 on, or a row of 0 and 1
        with a place for each class that an image may show. Images must not be augmented or normalised: that is done here.
    name
        For messages and results.
    classes
        Names of the classes; by default those that ``train`` has under ``classes``, else the numbers.

    Raises
    ------
    UserError
        Items that are none of this, or labels of both kinds.

    Small images of one size are read at once and held in memory, as those of a folder are.
    """
    parts = {split: part for split, part in ((TRAIN, train), (TEST, test)) if part is not None}
    labels = {split: _labels(part, f"{name} ({split})") for split, part in parts.items()}
    named = _class_names(classes if classes is not None else getattr(train, "classes", None), labels)
    images = {split: hold_read_if_small(TorchImages(parts[split], name, split, labels[split], named)) for split in parts}
    roles: dict[Role, str] = {"pretrain": TRAIN}
    if labels[TRAIN] is not None:
        roles["train"] = TRAIN
        if labels.get(TEST) is not None:
            roles["test"] = TEST
    splits = {split: partial(images.__getitem__, split) for split in images}
    return Data(name, name, splits=splits, roles=roles, mean=mean, std=std, image_size=common_side(*images.values()))  # type: ignore[arg-type]


class TorchImages(Images):
    """The images of a torch ``Dataset``."""

    def __init__(self, dataset: Any, name: str, split: str, labels: NDArray[np.int64] | None, classes: tuple[str, ...]) -> None:
        self.dataset, self.name, self.split = dataset, name, split
        self.levels: dict[str, Level] = {}
        self._positions = np.arange(len(dataset), dtype=np.int64)
        if labels is not None and labels.ndim == 1:
            self.levels = make_levels(labels, classes)
        elif labels is not None:
            self.multilabel = MultiLabel(np.where(labels > 0, 1, -1).astype(np.int8), classes)

    def __len__(self) -> int:
        return len(self._positions)

    def read(self, index: int) -> Image.Image:
        try:
            item = self.dataset[int(self._positions[index])]
        except Exception as error:  # what a user's dataset may raise
            raise UserError(f"image {self.where(index)} cannot be had ({first_line(error)})") from error
        return as_rgb(item[0] if isinstance(item, tuple | list) else item, self.where(index))

    def where(self, index: int) -> str:
        return f"{self.name} {self.split} #{self._positions[index]}"

    def subset(self, indices: NDArray[np.int64]) -> TorchImages:
        taken = object.__new__(TorchImages)
        taken.dataset, taken.name, taken.split = self.dataset, self.name, self.split
        taken._positions = self._positions[indices]
        taken.levels = {name: Level(level.labels[indices], level.classes) for name, level in self.levels.items()}
        if self.multilabel is not None:
            taken.multilabel = MultiLabel(self.multilabel.values[indices], self.multilabel.classes)
        taken.skipped, taken.notes = self.skipped, self.notes
        return taken


def as_rgb(image: Any, where: str) -> Image.Image:
    """An image of a torch dataset as RGB of 8 bits. Raises UserError that names ``where`` for what is none."""
    if isinstance(image, Image.Image):
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"):
            raise UserError(f"image {where} has the mode {image.mode}, of which nothing says what is black and white; convert it to 8 bits")
        return image.convert("RGB")
    is_tensor = hasattr(image, "numpy") and hasattr(image, "detach")
    pixels = image.detach().cpu().numpy() if is_tensor else image
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (2, 3):
        raise UserError(f"image {where} is {type(image).__name__}, not a Pillow image, an array (H, W, 3) or a tensor (3, H, W)")
    if is_tensor and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise UserError(f"image {where} has {pixels.shape[2]} bands, where 3 or 1 are expected")
    if pixels.dtype.kind == "f":
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise UserError(f"image {where} is floating and not within 0 and 1: leave normalisation out of the dataset, it is done here")
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise UserError(f"image {where} is an array of {pixels.dtype}, not of uint8 or of floats within 0 and 1")
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")


def _labels(dataset: Any, where: str) -> NDArray[np.int64] | None:
    """int64 (N,), or (N, C) of 0 and 1; None where items have no label."""
    count = len(dataset)
    if not count:
        raise UserError(f"the dataset {where} is empty")
    first = dataset[0]
    if not isinstance(first, tuple | list) or len(first) < 2:
        return None
    listed = _listed(dataset, count)
    if listed is not None and all(
        np.array_equal(listed[index], _label(dataset[index][1], where))
        for index in np.linspace(0, count - 1, min(count, _COMPARED)).astype(int).tolist()
    ):
        return listed
    # Only the items themselves say it.
    labels = [_label(dataset[index][1], where) for index in range(count)]
    if len({label.shape for label in labels}) > 1:
        raise UserError(f"the labels of {where} are of several kinds")
    return np.stack(labels)


def _listed(dataset: Any, count: int) -> NDArray[np.int64] | None:
    """The list of labels that datasets of torchvision have, also through ``Subset``; it may say something else than the items."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        inner = _listed(dataset.dataset, len(dataset.dataset))
        return None if inner is None else inner[np.asarray(dataset.indices, dtype=np.int64)]
    for name in ("targets", "labels", "_labels", "_samples"):
        listed = getattr(dataset, name, None)
        try:
            values = np.asarray([sample[1] for sample in listed] if name == "_samples" and listed else listed)
        except (ValueError, TypeError, IndexError):
            continue
        if values.dtype.kind in "iu" and values.shape == (count,) and values.min() >= 0:
            return values.astype(np.int64)
    return None


def _label(value: Any, where: str) -> NDArray[np.int64]:
    label = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    whole = label.dtype.kind in "iub" or (label.dtype.kind == "f" and label.ndim == 1)
    if not whole or label.ndim > 1 or (label < 0).any() or (label.ndim == 1 and not np.isin(label, (0, 1)).all()):
        raise UserError(f"a label of {where} is {str(value)[:40]!r}, not a whole number from 0 on or a row of 0 and 1")
    return label.astype(np.int64)


def _class_names(given: Any, labels: dict[str, NDArray[np.int64] | None]) -> tuple[str, ...]:
    known = [part for part in labels.values() if part is not None]
    if not known:
        return ()
    count = max(part.shape[1] if part.ndim == 2 else int(part.max()) + 1 for part in known)
    names = tuple(map(str, given)) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    if names and len(names) < count:
        raise UserError(f"there are {len(names)} names of classes, and the largest label is {count - 1}")
    return names or tuple(map(str, range(count)))
