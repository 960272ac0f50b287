"""Seeded parts of labelled images, with a share of every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UserError
from zoo.randomness import generator

_SUBSET_PURPOSE, _HELD_OUT_PURPOSE = "labelled subset", "held out"


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
