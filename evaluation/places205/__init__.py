"""A linear layer on Places205: the task `places205`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.places205.run import run_places205

__all__ = ["run_places205"]


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: the command reads the presets, and does without torch for that.
    if name not in __all__:
        raise AttributeError(f"module 'evaluation.places205' has no attribute '{name}'")
    return getattr(import_module("evaluation.places205.run"), name)
