"""Arrays of anybody's, as tensors to compute with: NumPy arrays of any numbers and any order in memory, lists, tensors."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Matrix: TypeAlias = "Tensor | NDArray[Any] | ArrayLike"

# Types of which torch has all that is computed here. Truth values and the larger unsigned numbers are not among them.
_COMPUTED = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def as_matrix(values: Matrix, name: str, *, least_rows: int = 1) -> Tensor:
    """A matrix of real numbers (N, D) as a tensor without gradient, which shares memory with ``values`` where it can.

    Parameters
    ----------
    values
        A tensor, on any device, or anything that NumPy makes an array of: of floating, whole or truth values, in any byte order and any
        order in memory, also memory that may not be written to. Nothing here writes to it.
    name
        What messages call it.
    least_rows
        The smallest N.

    Returns
    -------
    The numbers in their own type where torch computes with it, else as float64 (long double) or float32 (truth values, unsigned numbers).

    Raises
    ------
    ValueError
        Anything else than real numbers, or another shape.
    """
    rows = values.detach() if isinstance(values, Tensor) else _tensor(np.asarray(values), name)
    if rows.is_complex():
        raise ValueError(f"{name} must be real numbers, not {rows.dtype}")
    if rows.ndim != 2 or rows.shape[1] == 0 or len(rows) < least_rows:
        at_least = f"at least {least_rows} row{'s' if least_rows > 1 else ''} and " if least_rows else "at least "
        raise ValueError(f"{name} must be a matrix (N, D) of {at_least}one column, not of shape {tuple(rows.shape)}")
    return rows if rows.dtype in _COMPUTED else rows.to(torch.float32)


def _tensor(array: NDArray[Any], name: str) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be real numbers, not {array.dtype}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in native.strides):
        native = np.ascontiguousarray(native)
    with warnings.catch_warnings():
        # Of memory that may not be written to, such as a mapped file, torch warns; it is only read here.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(native)
