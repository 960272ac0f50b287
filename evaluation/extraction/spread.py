"""Whether features tell images apart at all: the collapse of a network that gives all images the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Rows that are looked at, evenly spread.
_ROWS = 2048
# Mean of 1 - cosine over pairs of images below which features are all but equal. Networks with random weights have 4e-3 and more on shapes
# and digits; those that were trained have tenths.
_NO_SPREAD = 1e-3
# Effective number of directions (participation ratio of the covariance's eigenvalues) below which all features lie on a line, in effect.
# The same random networks have 3 and more.
_ONE_LINE = 1.5
# Share of columns that may be the same for all images, as of units that are never active.
_CONSTANT_COLUMNS = 0.5


def feature_doubts(features: Tensor, images: str) -> list[str]:
    """What is doubtful about features (N, D), a sentence at most; ``images`` is what it calls them.

    Told are features that are all equal, nearly equal in direction, on one line, or mostly constant columns. The effective number of
    directions is the square of the sum of the covariance's eigenvalues over the sum of their squares.
    """
    if len(features) < 2 or features.shape[1] < 2:
        return []
    chosen = torch.from_numpy(np.unique(np.linspace(0, len(features) - 1, min(len(features), _ROWS)).round().astype(np.int64)))
    rows = features[chosen].double()
    constant = int((rows == rows[0]).all(0).sum())
    width = rows.shape[1]
    if constant == width:
        return [f"the features of all {images} are equal: the network tells nothing apart"]
    unit = functional.normalize(rows, dim=1)
    mean = unit.mean(0)
    spread = 1 - float(mean @ mean)
    if spread < _NO_SPREAD:
        how = f"1 - cosine is {spread:.1e} on average"
        return [f"the features of {images} are nearly the same for all of them ({how}): collapsed, or untrained"]
    centred = unit - mean
    # Of the smaller of the two matrices of products, which have the same eigenvalues.
    products = centred @ centred.T if len(rows) < width else centred.T @ centred
    directions = float(products.trace() ** 2 / products.square().sum())
    if directions < _ONE_LINE:
        return [f"the features of {images} lie on one line, in effect ({directions:.2f} directions of {width}): collapsed in dimension"]
    if constant > _CONSTANT_COLUMNS * width:
        return [f"{constant} of {width} features are the same for all {images}"]
    return []
