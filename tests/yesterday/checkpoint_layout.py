"""The layout of a checkpoint as JSON: names, shapes, dtypes and plain values, without what its tensors hold."""

from __future__ import annotations

from typing import Any

import torch


def describe(value: Any) -> Any:
    """``value`` with every tensor as ``{"tensor": dtype, "shape": [...]}`` and every other dict or sequence as a list of its items."""
    if isinstance(value, torch.Tensor):
        return {"tensor": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
    if isinstance(value, dict):
        # Keys may be numbers, which JSON would turn into text.
        return {"dict": [[key, describe(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [describe(item) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint should not hold a {type(value).__name__}")


def fill(layout: Any, generator: torch.Generator, name: str = "") -> Any:
    """A checkpoint of that layout: small random weights, counters of 0, variances of 1."""
    if not isinstance(layout, dict):
        return layout
    if "tensor" in layout:
        dtype, shape = getattr(torch, layout["tensor"]), layout["shape"]
        if name.endswith("running_var"):
            return torch.ones(shape, dtype=dtype)
        return 0.01 * torch.randn(shape, generator=generator, dtype=dtype) if dtype.is_floating_point else torch.zeros(shape, dtype=dtype)
    if "dict" in layout:
        return {key: fill(item, generator, str(key)) for key, item in layout["dict"]}
    ((kind, items),) = layout.items()
    return {"list": list, "tuple": tuple}[kind](fill(item, generator) for item in items)


def tensors(layout: Any, name: str = "") -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of every tensor, by its keys with slashes between them."""
    if not isinstance(layout, dict):
        return {}
    if "tensor" in layout:
        return {name: (layout["tensor"], tuple(layout["shape"]))}
    items = layout["dict"] if "dict" in layout else enumerate(next(iter(layout.values())))
    return {path: facts for key, item in items for path, facts in tensors(item, f"{name}/{key}").items()}
