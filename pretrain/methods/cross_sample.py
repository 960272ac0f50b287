"""CsMl's cross-sample parts: the mixed view, and InfoNCE with several positives that share their negatives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from evaluation.views.parameters import to_device
from pretrain.methods.parts import full_precision, info_nce
from pretrain.methods.selection import LossLevels, Rejected, join_levels
from zoo.randomness import generator

MIX_PURPOSE = "cutmix"
# Of the Beta law of the share that stays the anchor's, before the box is clipped; as in the released code.
MIX_ALPHA = 2.0


def mix_box(side: int, *, seed: int, step: int, part: int, group: int) -> tuple[int, int, int, int]:
    """The box of CutMix (Yun et al., arXiv 1905.04899) of a group of images of ``side`` pixels: top, left, bottom, right.

    A share is drawn from Beta(2, 2); the box has that of the area which is left, a centre anywhere, and is clipped at the edges.
    """
    draws = generator(seed, MIX_PURPOSE, step, part, group)
    # Half the side is a whole number of pixels, as in the code of CutMix's authors.
    half = int(side * math.sqrt(1.0 - draws.beta(MIX_ALPHA, MIX_ALPHA))) // 2
    row, column = draws.integers(side, size=2)
    ends = np.clip([row - half, column - half, row + half, column + half], 0, side)
    return int(ends[0]), int(ends[1]), int(ends[2]), int(ends[3])


def mix(anchor: Tensor, neighbour: Tensor, boxes: Sequence[tuple[int, int, int, int]]) -> tuple[Tensor, Tensor]:
    """Paste a box of each neighbour image into its anchor image.

    Parameters
    ----------
    anchor, neighbour
        float32 (b, 3, S, S). They are left as they are.
    boxes
        One for each of so many consecutive groups of equal size.

    Returns
    -------
    mixed, share
        float32 (b, 3, S, S), and float32 (b,): the share of pixels that are the anchor's.
    """
    mixed = anchor.clone()
    size, area = len(anchor) // len(boxes), anchor.shape[2] * anchor.shape[3]
    shares: NDArray[np.float32] = np.empty(len(anchor), dtype=np.float32)
    for group, (top, left, bottom, right) in enumerate(boxes):
        rows = slice(group * size, (group + 1) * size)
        mixed[rows, :, top:bottom, left:right] = neighbour[rows, :, top:bottom, left:right]
        shares[rows] = 1.0 - (bottom - top) * (right - left) / area
    return mixed, to_device(shares, anchor.device)


class Contrast:
    """InfoNCE of queries against one queue, for any number of positives.

    Of the negatives, InfoNCE needs only log(sum of exp(similarity / temperature)), whatever the positive. So the product of a query with
    the queue is made once, for all its positives.

    Parameters
    ----------
    negatives
        float32 (K, D), of unit length.
    temperature
        Divides all similarities.
    kept
        L x bool (b, K), as HCSC selects negatives on each of its levels; none: all are kept.
    rejected
        What becomes of the others.
    loss_levels
        How the losses of the levels are joined.
    """

    def __init__(
        self,
        negatives: Tensor,
        temperature: float,
        kept: Sequence[Tensor] = (),
        rejected: Rejected = Rejected.zero,
        loss_levels: LossLevels = LossLevels.sum,
    ) -> None:
        self._negatives, self._temperature = negatives, temperature
        self._kept, self._rejected, self._loss_levels = kept, rejected, loss_levels
        self._against: list[tuple[Tensor, list[Tensor]]] = []

    def loss(self, positives: Sequence[tuple[Tensor, Tensor, float | Tensor]]) -> Tensor:
        """The mean over the batch of a weighted sum of InfoNCE losses, each with one positive; the others are not in its denominator.

        Parameters
        ----------
        positives
            Queries float32 (b, D), their keys (b, D), both of unit length, and weights: a number, or one for each row (b,).
        """
        if len(positives) == 1 and not self._kept:
            # One positive has the whole weight, and there is nothing to share: MoCo's own loss, bit for bit.
            query, key, _ = positives[0]
            return info_nce(query, key, self._negatives, self._temperature)
        return torch.stack([weight * self._entropy(query, key) for query, key, weight in positives]).sum(0).mean()

    def _entropy(self, query: Tensor, key: Tensor) -> Tensor:
        """InfoNCE (b,) of each query with its key."""
        with full_precision(query):
            positive = (query * key).sum(1) / self._temperature
            # -log(e^p / (e^p + e^n)) = log(1 + e^(n - p)).
            return join_levels([F.softplus(negative - positive) for negative in self._log_negatives(query)], self._loss_levels)

    def _log_negatives(self, query: Tensor) -> list[Tensor]:
        """float32 (b,): what the negatives come to; for each level, or once where nothing is selected."""
        for known, found in self._against:
            if known is query:
                return found
        logits = (query / self._temperature) @ self._negatives.T
        if self._kept:
            fill = 0.0 if self._rejected is Rejected.zero else -torch.inf
            found = [torch.logsumexp(logits.where(mask, fill), dim=1) for mask in self._kept]
        else:
            found = [torch.logsumexp(logits, dim=1)]
        self._against.append((query, found))
        return found
