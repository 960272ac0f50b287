"""Labels that a network gives to images without any, and which of them to trust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.arrays import Matrix, as_matrix
from evaluation.extraction.checks import check_finite


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """The images that were chosen, and what was predicted for them.

    Attributes
    ----------
    positions
        int64 (M,): of the chosen ones among the images that were predicted, ascending.
    labels
        int64 (M,): their predicted classes.
    sure
        How many images had an entropy within the threshold.
    by_class
        int64 (C,): how many were chosen of each class.
    """

    positions: NDArray[np.int64]
    labels: NDArray[np.int64]
    sure: int
    by_class: NDArray[np.int64]


def entropy_bits(outputs: Matrix) -> Tensor:
    """Entropy (N,) in bits of the softmax of outputs (N, C), in float64."""
    logs = as_matrix(outputs, "outputs", least_rows=0).double().log_softmax(1)
    return -(logs.exp() * logs).sum(1) / np.log(2)


def choose_pseudo_labels(outputs: Matrix, *, max_entropy: float, per_class: int) -> PseudoLabels:
    """Keep the images that a network is surest about, the same number of each class where there are enough.

    An image is of the class with the largest output. Those whose entropy exceeds ``max_entropy`` bits are left out, and of each class the
    ``per_class`` ones of the smallest entropy stay (the first of equals). These two steps are what later code quotes from CsMl (Xu et al.,
    arXiv 2012.02733), whose own was not released.

    Parameters
    ----------
    outputs
        (N, C), before the softmax: a tensor or an array of any real numbers (:func:`evaluation.arrays.as_matrix`).

    Raises
    ------
    UserError
        Outputs that are not finite, of which nothing can be predicted.
    """
    outputs = as_matrix(outputs, "outputs", least_rows=0)
    check_finite(outputs, "predicted")
    entropy, labels = entropy_bits(outputs), outputs.argmax(1)
    order = torch.argsort(entropy, stable=True)
    order = order[entropy[order] <= max_entropy]
    chosen = [order[labels[order] == label][:per_class] for label in range(outputs.shape[1])]
    positions = np.sort(torch.cat(chosen).numpy())
    return PseudoLabels(
        positions=positions,
        labels=labels.numpy()[positions],
        sure=len(order),
        by_class=np.array([len(part) for part in chosen], dtype=np.int64),
    )
