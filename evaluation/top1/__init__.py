"""The accuracy of a network's own classifier."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.top1.run import run_top1

__all__ = ["run_top1"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'evaluation.top1' has no attribute '{name}'")
    return getattr(import_module("evaluation.top1.run"), name)
