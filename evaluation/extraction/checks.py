"""What arrays of features and labels must be before anything is computed from them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from zoo.errors import UserError

# Feature values checked for being finite at a time.
_VALUES_AT_ONCE = 1 << 24
# More classes than that are no classes, but numbers of another kind: an identity, a hash.
MOST_CLASSES = 1 << 24


def checked_labels(values: ArrayLike, count: int, split: str) -> Tensor:
    """Labels as an int64 tensor (count,), of any whole-number type and from any device.

    Raises ValueError unless they are whole numbers from 0 on, one per feature vector.
    """
    labels = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        found = f"{labels.dtype} of shape {labels.shape}"
        raise ValueError(f"{split} labels must be {count} whole numbers, one per feature vector, not {found}")
    if count == 0 or labels.min() < 0:
        raise ValueError(f"{split} labels must be whole numbers from 0 on, at least one")
    if labels.max() >= MOST_CLASSES:
        most = f"{MOST_CLASSES:,} at most"
        raise ValueError(f"a {split} label is {labels.max()}; labels number the classes from 0 on, and there may be {most}")
    return torch.from_numpy(labels.astype(np.int64))


def check_classes(train: Tensor, test: Tensor, classes: int) -> None:
    """Raise ValueError for a training label from ``classes`` on, UserError for test labels that no training image has."""
    if int(train.max()) >= classes:
        raise ValueError(f"there is a training label {int(train.max())}, but num_classes is {classes}")
    known = torch.zeros(max(classes, int(test.max()) + 1), dtype=torch.bool)
    known[train] = True
    foreign = test[~known[test]]
    if len(foreign):
        raise UserError(
            f"{len(foreign)} of {len(test)} test images have labels that no training image has, first label {int(foreign[0])}; "
            "they can never be predicted"
        )


def check_widths(train: Tensor, test: Tensor) -> None:
    """Raise ValueError where feature vectors (N, D) and (Q, D) are not of one length."""
    if train.shape[1] != test.shape[1]:
        widths = f"train features have {train.shape[1]} columns and test features {test.shape[1]}"
        raise ValueError(f"{widths}; they must be of the same network")


def check_finite(features: Tensor, split: str) -> None:
    """Raise UserError, with their number and the first of them, where rows (N, D) hold NaN or infinity, or what float32 cannot hold."""
    rows = max(1, _VALUES_AT_ONCE // max(1, features.shape[1]))
    count, first = 0, -1
    for start in range(0, len(features), rows):
        # A sum of finite numbers may leave float32's range, but one with NaN or infinity never stays in it; it takes a tenth of the time.
        if torch.isfinite(features[start : start + rows].sum(dtype=torch.float32)):
            continue
        bad = (~torch.isfinite(features[start : start + rows].float()).all(1)).nonzero()[:, 0]
        first = start + int(bad[0]) if len(bad) and count == 0 else first
        count += len(bad)
    if count:
        raise UserError(f"{count} of {len(features)} {split} feature vectors hold NaN or infinity, first in row {first}; they mean nothing")
