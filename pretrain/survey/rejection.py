"""How well HCSC's selection of negatives knows the classes: measured at a survey where there are labels, used by nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from numpy import int64
from numpy.typing import NDArray
from torch import Tensor


def rejection_precision(kept: Tensor, same: Tensor) -> tuple[float, float]:
    """How often a rejected negative is of the query's own class, and how often a negative is at all.

    Parameters
    ----------
    kept
        float (Q, K): the probability to keep each negative.
    same
        bool (Q, K): whether it has the query's label.
    """
    rejected = 1 - kept.double()
    return float((rejected * same).sum() / rejected.sum()), float(same.double().mean())


def rejection_numbers(
    kept: Sequence[Tensor], queries: Tensor, negatives: Tensor, labels: Mapping[str, NDArray[int64]]
) -> dict[str, float]:
    """``prototypes/LEVEL/rejected_L`` and ``prototypes/LEVEL/chance_L`` for each label level L.

    Parameters
    ----------
    kept
        For each level of the hierarchy float (Q, K): the probability to keep each negative.
    queries, negatives
        int64 (Q,), (K,): their positions among the images that ``labels`` are of. A query is no negative of its own.
    """
    numbers: dict[str, float] = {}
    other = queries[:, None] != negatives[None]
    for name, truth in labels.items():
        values = torch.from_numpy(truth)
        same = (values[queries][:, None] == values[negatives][None]) & other
        for level, probability in enumerate(kept):
            masked = torch.where(other.to(probability.device), probability, torch.ones_like(probability)).cpu()
            found, chance = rejection_precision(masked, same)
            numbers |= {f"prototypes/{level}/rejected_{name}": found, f"prototypes/{level}/chance_{name}": chance}
    return numbers
