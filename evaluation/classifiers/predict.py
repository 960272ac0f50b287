"""What a classifier says of images: the most likely classes of each, with their probabilities."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from evaluation.classifiers import DEFAULT_TOP
from evaluation.extraction.batches import BATCH_SIZE
from evaluation.extraction.features import eval_mode
from evaluation.extraction.image_bar import image_bar
from evaluation.loading import ClosableLoader
from zoo.cores import own_cores
from zoo.data.base import FileImages, UnusedFile
from zoo.data.entries import FileEntry
from zoo.data.files import list_images
from zoo.data.images import BadImageError, Reading
from zoo.data.images.endings import read_endings
from zoo.data.images.reading import AS_SEEN, OWN, reading_of
from zoo.data.spec import parse_spec
from zoo.errors import UserError, printable
from zoo.models.model import Model
from zoo.models.transforms import EvalTransform, own_transform

_MOST_WORKERS = 16


@dataclass(frozen=True, eq=False)
class Predictions:
    """The most likely classes of N images.

    Attributes
    ----------
    images
        Those that could be read, in their order.
    classes
        The names of all classes.
    top
        int64 array (N, K): the K most likely classes, the likeliest first, the smaller of equals.
    probabilities
        float64 array (N, K): softmax of the network's outputs.
    bad
        Images that could not be read, each with the reason.
    """

    images: FileImages
    classes: tuple[str, ...]
    top: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    bad: tuple[tuple[str, str], ...]

    def name(self, row: int) -> str:
        """Path of an image, as it was given or found."""
        return self.images.where(row)


def check_classifier(model: Model) -> None:
    """Raise UserError for a model that gives no classes."""
    if not model.classes:
        raise UserError(
            f"'{model.name}' gives features and no classes; `evaluate --task linear --model MODEL --data DATA --save DIR` makes one"
        )


def find_images(places: Sequence[str | Path], unused: list[UnusedFile] | None = None) -> list[str]:
    """Paths of images: files as they are named, of folders all images in and below them; each path once.

    ``unused`` gets files of the folders that look like images and are not read. Raises UserError for a place that is not there, and where
    there are no images at all.
    """
    found: dict[str, None] = {}
    for place in map(str, places):
        if os.path.isdir(place):
            found.update(dict.fromkeys(list_images(place, read_endings(), unused)))
        elif os.path.lexists(place):
            found[place] = None
        else:
            raise UserError(f"there is no image or folder '{place}'")
    if not found:
        more = f"; {len(unused)} other files, first {unused[0]}" if unused else ""
        raise UserError(f"there are no images in {', '.join(map(str, places))} ({', '.join(read_endings())}{more})")
    return list(found)


def reading_for(model: Model) -> Reading:
    """How images become RGB: as those that the classifier was trained on, where these were people's own too; else as they are seen."""
    trained = (model.metadata.get("source") or {}).get("classifier") or {}
    try:
        spec = parse_spec(str(trained["data"]))
        return reading_of(spec) if spec.name in OWN else AS_SEEN
    except (KeyError, UserError):
        return AS_SEEN


def predict_images(
    model: Model,
    paths: Sequence[str],
    *,
    top: int = DEFAULT_TOP,
    batch_size: int = BATCH_SIZE,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    progress: bool = False,
    transform: EvalTransform | None = None,
) -> Predictions:
    """Classify image files.

    Parameters
    ----------
    model
        A classifier, as :func:`zoo.model_spec.open_model` gives it with ``classifier=True``.
    paths
        Image files, as :func:`find_images` gives them.
    top
        Classes of each image; all where there are fewer.
    batch_size
        Images per forward pass.
    workers
        Decoding processes; None: one per core.
    transform
        How images are prepared; None: as the model itself says.

    Raises
    ------
    UserError
        The model is no classifier, or does not say how its images are prepared; no image can be read; outputs that are not finite.
    """
    check_classifier(model)
    transform = own_transform(model) if transform is None else transform
    images = FileImages("images", "all", map(FileEntry, paths), {}, reading=reading_for(model))
    place, count = torch.device(device), min(top, len(model.classes))
    network = model.module.to(place)
    rows: list[NDArray[np.int64]] = []
    tops: list[Tensor] = []
    likely: list[Tensor] = []
    bad: list[tuple[str, str]] = []
    with eval_mode(network), torch.inference_mode(), image_bar("predicting", len(images), show=progress) as done:
        for numbers, batch, reasons in _batches(images, transform, batch_size, workers, place):
            bad += [(images.where(number), reason) for number, reason in reasons]
            if batch is not None:
                outputs = network(transform.normalise(batch.to(place, non_blocking=True))).to("cpu", torch.float32)
                unfinite = (~torch.isfinite(outputs).all(1)).nonzero()[:, 0].tolist()
                if unfinite:
                    raise UserError(
                        f"the outputs for image {images.where(int(numbers[unfinite[0]]))} are not finite; the weights are damaged"
                    )
                order = outputs.sort(dim=1, descending=True, stable=True).indices[:, :count]
                tops.append(order)
                likely.append(torch.softmax(outputs.double(), 1).gather(1, order))
                rows.append(numbers)
            done(len(numbers) + len(reasons))
    if not rows:
        name, reason = bad[0]
        raise UserError(f"none of {len(paths)} images can be read, first {name} ({reason})")
    read = images.subset(np.concatenate(rows))
    return Predictions(read, model.classes, torch.cat(tops).numpy(), torch.cat(likely).numpy(), tuple(bad))


def _batches(
    images: FileImages, transform: EvalTransform, batch_size: int, workers: int | None, device: torch.device
) -> Iterator[tuple[NDArray[np.int64], Tensor | None, list[tuple[int, str]]]]:
    """Positions and uint8 pixels (B, S, S, 3) of the images that can be read, and positions and reasons of the others."""
    starts = range(0, len(images), batch_size)
    most = min(_MOST_WORKERS, own_cores()) if workers is None else workers
    loader: ClosableLoader[Any] = ClosableLoader(
        _Decoded(images, transform),
        batch_sampler=[list(range(start, min(start + batch_size, len(images)))) for start in starts],
        # With one batch there is nothing that decoding could run beside.
        num_workers=0 if len(starts) <= 1 else min(len(starts), most),
        collate_fn=_together,
        pin_memory=device.type == "cuda",
        # Without one of its own the loader would draw from torch's global generator.
        generator=torch.Generator(),
    )
    with loader:
        yield from loader


class _Decoded(Dataset["tuple[int, NDArray[np.uint8] | str]"]):
    """Position and pixels of each image, or why it cannot be read."""

    def __init__(self, images: FileImages, transform: EvalTransform) -> None:
        self.images, self.transform = images, transform

    def __getitem__(self, index: int) -> tuple[int, NDArray[np.uint8] | str]:
        try:
            return index, self.transform.crop_pil(self.images.decode(index))
        except BadImageError as error:
            return index, str(error)


def _together(items: list[tuple[int, Any]]) -> tuple[NDArray[np.int64], Tensor | None, list[tuple[int, str]]]:
    good = [(index, found) for index, found in items if not isinstance(found, str)]
    batch = torch.from_numpy(np.stack([found for _, found in good])) if good else None
    return np.array([index for index, _ in good], dtype=np.int64), batch, [item for item in items if isinstance(item[1], str)]


def summary_line(predictions: Predictions, row: int, most: int = 3) -> str:
    """An image and its likeliest classes, on one line."""
    said = (
        f"{predictions.classes[number]} {100 * chance:.1f} %"
        for number, chance in zip(predictions.top[row][:most], predictions.probabilities[row], strict=False)
    )
    return printable(f"{predictions.name(row)}: {', '.join(said)}")


Say = Callable[[str], None]


def say_what_was_left_out(predictions: Predictions, unused: Sequence[UnusedFile], say: Say) -> None:
    """Name what could not be read, or was not."""
    for name, reason in predictions.bad:
        say(printable(f"left out: {name} ({reason})"))
    if unused:
        several = f"{len(unused)} files look like images and were" if len(unused) > 1 else "1 file looks like an image and was"
        say(printable(f"{several} not read, first {unused[0]}"))
