"""Seeded parts of labelled images, with a share of every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UserError
from zoo.randomness import generator

_SUBSET_PURPOSE, _HELD_OUT_PURPOSE, _FOLDS_PURPOSE = "labelled subset", "held out", "folds"


def stratified_subset(labels: NDArray[np.int64], percent: float, seed: int = 0) -> NDArray[np.int64]:
    """A share of every class, at least one image of each.

    Subsets of one seed are nested: the images of 1 % are among those of 10 %.

    Parameters
    ----------
    labels
        int64 (N,).
    percent
        More than 0, at most 100; of each class the nearest whole number of images.

    Returns
    -------
    int64 array of positions, ascending.
    """
    if not 0 < percent <= 100:
        raise UserError(f"the share of labelled images must be more than 0 and at most 100 percent, not {percent:g}")
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(len(members) * percent / 100))
        chosen.append(generator(seed, _SUBSET_PURPOSE, index=int(label)).permutation(members)[:count])
    return np.sort(np.concatenate(chosen))


def split_off(labels: NDArray[np.int64], share: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions to train on and positions to hold out, ascending: of each class about ``share`` is held out, and one stays at least."""
    if not 0 <= share < 1:
        raise UserError(f"the share that is held out must be at least 0 and less than 1, not {share:g}")
    held_out = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(len(members) - 1, round(len(members) * share))
        held_out.append(generator(seed, _HELD_OUT_PURPOSE, index=int(label)).permutation(members)[:count])
    out = np.sort(np.concatenate(held_out)).astype(np.int64)
    if share > 0 and len(out) == 0:
        raise UserError(f"{share:g} of so few labelled images is none at all; hold out a larger share, or nothing (--holdout 0)")
    return np.setdiff1d(np.arange(len(labels)), out), out


def hold_out_doubts(held_out: int, classes: int) -> list[str]:
    """A sentence where fewer images were held out than there are classes, so that what they choose is mostly chance."""
    if not 0 < held_out < classes:
        return []
    images = f"{held_out} image{'s' if held_out > 1 else ''}"
    return [f"{images} held out for {classes} classes: what they choose is mostly chance (a larger --holdout, or more labels, would help)"]


def folds_of(labels: NDArray[np.int64], folds: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """Positions to hold out in turn, ascending: ``folds`` parts, each with about as many images of every class.

    An image that is the only one of its class is in no part, so that whatever remains has every class; parts may be fewer than asked for
    where no class has so many images.
    """
    if folds < 2:
        raise UserError(f"cross-validation needs at least 2 folds, not {folds}")
    parts: list[list[int]] = [[] for _ in range(folds)]
    turn = 0
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            continue
        for position in generator(seed, _FOLDS_PURPOSE, index=int(label)).permutation(members):
            parts[turn % folds].append(int(position))
            turn += 1
    found = [np.sort(np.array(part, dtype=np.int64)) for part in parts if part]
    if not found:
        raise UserError("each class has one labelled image, so none can be held out to choose C; label more, or give --holdout 0 (C = 1)")
    return found
