"""``holdout=SHARE,seed=N``: parting a set that has no test images, class by class, near duplicates on one side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import FileImages
from zoo.data.inspection.scan import scan_images
from zoo.data.own.split_names import TEST, TRAIN
from zoo.data.spec import DataSpec, whole_number
from zoo.errors import UserError
from zoo.randomness import generator

_PURPOSE = "holdout"
# Images that cannot be compared belong to no group.
_ALONE = -1


@dataclass(frozen=True)
class Share:
    """What is held out: a share of each class, drawn by the seed."""

    share: float
    seed: int


@dataclass(frozen=True)
class HeldOut:
    """The two parts, and what a reader should know of them."""

    train: FileImages
    test: FileImages
    decision: str


def holdout_of(spec: DataSpec) -> Share | None:
    """What a spec wants held out, or None. Raises UserError for a share that is none."""
    text = spec.options.get("holdout")
    if text is None:
        if "seed" in spec.options:
            raise UserError(f"data '{spec}' has a seed but no holdout=; the seed draws what is held out")
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise UserError(f"data '{spec}': option 'holdout' takes a share between 0 and 1, such as holdout=0.2, not '{text}'")
    return Share(share, whole_number(spec, "seed", 0))


def hold_out(images: FileImages, share: Share) -> HeldOut:
    """Part a labelled set. Which image goes where depends on the images, their order and the seed alone.

    Every image is looked at (:func:`zoo.data.inspection.scan.scan_images`, which keeps what it saw for the next time): near duplicates
    (:mod:`zoo.data.inspection.duplicates`) stay on one side, so that no test image has been trained on.

    Raises
    ------
    UserError
        No class has two images that are not near duplicates of each other.
    """
    from zoo.data.inspection.duplicates import find_duplicates  # by scipy, which takes its time and is needed here alone

    table = scan_images(images).table
    groups = find_duplicates(table.rows["digest"], table.rows["thumbnail"]).near
    groups[table.bad] = _ALONE
    labels = images.labels if images.labels is not None else np.zeros(len(images), dtype=np.int64)
    chosen, whole = part(labels, groups, share)
    if not chosen.any():
        alike = "no class has two images that are not near duplicates of each other"
        raise UserError(f"nothing of {images.name} can be held out: {alike}; give more images")
    bound = len(np.unique(groups[groups != _ALONE]))
    what = "each class" if images.labels is not None else "all images, whatever their labels"
    told = f"{share.share:g} of {what} is held out for testing, drawn by seed {share.seed}: {int(chosen.sum())} of {len(images)} images"
    if bound:
        told += f"; {bound} groups of near duplicates stay on one side each"
    if whole:
        told += f"; {whole} classes with too few different images are trained on only"
    parts = []
    for split, where in ((TRAIN, ~chosen), (TEST, chosen)):
        taken = images.subset(np.flatnonzero(where))
        taken.split = split
        parts.append(taken)
    return HeldOut(parts[0], parts[1], told)


def part(labels: NDArray[np.int64], groups: NDArray[np.int64], share: Share) -> tuple[NDArray[np.bool_], int]:
    """Which of N images are held out, and how many classes give none.

    Parameters
    ----------
    labels
        int64 (N,).
    groups
        int64 (N,): images of one group stay together; -1: a group of its own. A group belongs to the class of its first image.
    """
    unit = np.where(groups == _ALONE, np.arange(len(labels)) + len(labels), groups)
    _, first, unit = np.unique(unit, return_index=True, return_inverse=True)
    sizes = np.bincount(unit)
    label_of = labels[first]
    held = np.zeros(len(sizes), dtype=bool)
    whole = 0
    for label in np.unique(labels):
        units = np.flatnonzero(label_of == label)
        units = units[np.argsort(first[units])]
        target = max(round(share.share * sizes[units].sum()), 1)
        taken = 0
        # At least one unit stays to be trained on.
        for position in generator(share.seed, _PURPOSE, int(label)).permutation(len(units))[: len(units) - 1] if len(units) else ():
            size = sizes[units[position]]
            if taken + size <= target:
                held[units[position]] = True
                taken += size
        whole += taken == 0
    return held[unit], whole
