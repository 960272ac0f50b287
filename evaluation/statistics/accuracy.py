"""Counting right answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

# A truth among the first so many classes counts for the second accuracy, which is given for more classes than that.
TOP = 5


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Right answers among images.

    Attributes
    ----------
    predictions
        int64 array (N,): the class with the largest output, the smaller one of equals.
    correct
        Images whose prediction is their label.
    correct5
        Images whose label is among the five classes with the largest outputs; None for five classes or fewer.
    class_correct, class_total
        int64 arrays (C,): the correct ones, and all, by their label.
    """

    predictions: NDArray[np.int64]
    correct: int
    correct5: int | None
    class_correct: NDArray[np.int64]
    class_total: NDArray[np.int64]

    @property
    def total(self) -> int:
        return len(self.predictions)


def count_correct(outputs: Tensor, labels: ArrayLike) -> Accuracy:
    """Count right answers of outputs (N, C), such as logits, with labels (N,) in 0 .. C-1.

    Of equal outputs the smaller class stands first.
    """
    truth = torch.as_tensor(np.asarray(labels)).long()
    predictions = outputs.argmax(1)
    own = outputs.gather(1, truth[:, None])
    before = (outputs > own) | ((outputs == own) & (torch.arange(outputs.shape[1]) < truth[:, None]))
    classes = outputs.shape[1]
    right = predictions == truth
    return Accuracy(
        predictions=predictions.numpy(),
        correct=int(right.sum()),
        correct5=int((before.sum(1) < TOP).sum()) if classes > TOP else None,
        class_correct=torch.bincount(truth[right], minlength=classes).numpy(),
        class_total=torch.bincount(truth, minlength=classes).numpy(),
    )
