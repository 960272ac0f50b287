"""Counting right answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

# A truth among the first so many classes counts for the second accuracy, which is given for more classes than that.
TOP = 5
_NAMED = 3


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


def right_answers(answers: Mapping[str, Accuracy]) -> dict[str, int]:
    """Right answers by metric: ``top1`` with the suffix that is the key of each of ``answers``, then ``top5`` where there is one."""
    counts = {f"top1{suffix}": found.correct for suffix, found in answers.items()}
    return counts | {f"top5{suffix}": found.correct5 for suffix, found in answers.items() if found.correct5 is not None}


def per_class(classes: Sequence[str], answers: Mapping[str, Accuracy]) -> dict[str, Any]:
    """What a result's ``details["per_class"]`` holds: names, test images and, by metric, right answers of each class."""
    return {
        "classes": list(classes),
        "total": next(iter(answers.values())).class_total.tolist(),
        "correct": {metric: found.class_correct.tolist() for metric, found in answers.items()},
    }


def never_predicted(answers: Accuracy, classes: Sequence[str]) -> list[str]:
    """A sentence where classes that test images are of are never predicted; empty where there are none."""
    predicted = np.bincount(answers.predictions, minlength=len(classes)) > 0
    missing = np.flatnonzero((answers.class_total > 0) & ~predicted[: len(answers.class_total)])
    if not len(missing):
        return []
    named = ", ".join(classes[number] for number in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
    present = int((answers.class_total > 0).sum())
    return [f"{len(missing)} of the {present} classes of the test images {'is' if len(missing) == 1 else 'are'} never predicted ({named})"]


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
