"""Label levels: the class of each image, and coarser groupings of the classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo.data.base import CLASS_LEVEL, Level
from zoo.errors import UserError
from zoo.reading.outside import shown

NAMED_IN_MESSAGES = 3


@dataclass(frozen=True)
class Grouping:
    """One level above the classes: a partition of them.

    Attributes
    ----------
    name
        The level's name, such as ``"superclass"``.
    groups
        Names of the G groups.
    of_class
        int64 array (C,): the group of each class, 0 .. G-1.
    """

    name: str
    groups: tuple[str, ...]
    of_class: NDArray[np.int64]


def make_levels(labels: NDArray[np.int64], classes: Sequence[str], groupings: Iterable[Grouping] = ()) -> dict[str, Level]:
    """Levels of one split, coarse to fine: the grouping with the fewest groups first, ``"class"`` last.

    Parameters
    ----------
    labels
        int64 array (N,), values in 0 .. C-1.
    classes
        The C class names.
    groupings
        Levels above the classes.
    """
    coarser = sorted(groupings, key=lambda grouping: len(grouping.groups))
    levels = {grouping.name: Level(grouping.of_class[labels], grouping.groups) for grouping in coarser}
    return {**levels, CLASS_LEVEL: Level(labels, tuple(classes))}


def checked_labels(values: ArrayLike, images: int, classes: int, where: str) -> NDArray[np.int64]:
    """Labels as an int64 array (N,); UserError naming ``where`` unless they are N = ``images`` whole numbers in 0 .. ``classes`` - 1."""
    labels = np.asarray(values)
    if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iu"):
        raise UserError(f"{where} must hold one whole number per image as its label, not {labels.dtype} of shape {labels.shape}")
    if len(labels) != images:
        raise UserError(f"{where} has {len(labels)} labels for {images} images; the file is damaged or belongs to another set")
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise UserError(f"{where} has the label {labels[bad[0]]} (image #{bad[0]}), but labels must lie in 0 .. {classes - 1}")
    return labels.astype(np.int64)


def name_some(names: Sequence[str]) -> str:
    """The first few of ``names`` for a message, and how many more there are."""
    first = ", ".join(f"'{shown(name)}'" for name in names[:NAMED_IN_MESSAGES])
    more = len(names) - NAMED_IN_MESSAGES
    return f"{first} and {more} more" if more > 0 else first
