"""Predictions as one HTML page: thumbnails by class, the least certain first. It needs no network and no other file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from evaluation.classifiers.predict import Predictions
from evaluation.extraction.image_bar import image_bar
from evaluation.report.thumbnails import thumbnail
from zoo.errors import UserError, printable
from zoo.files import replace_text

# Thumbnails of a class, and of all classes together: some 5 kB each.
MOST_OF_A_CLASS = 60
MOST_OF_ALL = 1500
_MOST_BAD = 50


@dataclass(frozen=True)
class Shown:
    """A thumbnail: the image's name and path, its address, what was predicted, and what was the next likely."""

    name: str
    path: str
    address: str
    percent: str
    runner_up: str


@dataclass(frozen=True)
class ClassSection:
    """A class: how many images it was predicted for, how certainly (mean, in percent), and those shown."""

    name: str
    anchor: str
    images: int
    mean: str
    shown: tuple[Shown, ...]


def write_page(path: str | Path, predictions: Predictions, model: str, *, progress: bool = False) -> None:
    """Write the page, whole or not at all. Raises UserError where the system refuses."""
    replace_text(path, page_text(predictions, model, progress=progress))


def page_text(predictions: Predictions, model: str, *, progress: bool = False) -> str:
    """The page's HTML; every text in it is escaped."""
    loader = PackageLoader("evaluation.classifiers", "page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    sections = list(_sections(predictions, progress))
    return environment.get_template("predictions.html").render(
        model=model,
        images=len(predictions.top),
        known=len(predictions.classes),
        sections=sections,
        shown=sum(len(section.shown) for section in sections),
        bad=[(printable(name), printable(reason)) for name, reason in predictions.bad[:_MOST_BAD]],
        bad_count=len(predictions.bad),
    )


def _sections(predictions: Predictions, progress: bool) -> Iterator[ClassSection]:
    first, certain = predictions.top[:, 0], predictions.probabilities[:, 0]
    found = np.unique(first)
    each = max(1, min(MOST_OF_A_CLASS, MOST_OF_ALL // len(found)))
    total = sum(min(each, int((first == number).sum())) for number in found)
    with image_bar("thumbnails", total, show=progress) as done:
        for number in found:
            rows = np.flatnonzero(first == number)
            # Of equally certain ones, the first.
            rows = rows[np.argsort(certain[rows], kind="stable")]
            shown = tuple(_shown(predictions, int(row)) for row in _counted(rows[:each], done))
            name = printable(predictions.classes[number])
            yield ClassSection(name, f"class-{number}", len(rows), f"{100 * certain[rows].mean():.1f}", shown)


def _counted(rows: NDArray[np.int64], done: Callable[[int], None]) -> Iterator[int]:
    for row in rows:
        yield int(row)
        done(1)


def _shown(predictions: Predictions, row: int) -> Shown:
    path = predictions.name(row)
    try:
        address = thumbnail(predictions.images, row)
    except UserError:  # gone since it was classified
        address = ""
    chances = predictions.probabilities[row]
    runner_up = ""
    if len(chances) > 1:
        runner_up = f"{printable(predictions.classes[predictions.top[row, 1]])} {100 * chances[1]:.1f} %"
    return Shown(printable(PurePath(path).name), printable(path), address, f"{100 * chances[0]:.1f}", runner_up)
