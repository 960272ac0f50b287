"""Features in a file for anyone's own analysis: the task `features`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.feature_file.run import run_features, write_features

__all__ = ["run_features", "write_features"]


def __getattr__(name: str) -> Any:
    # Imported when they are asked for: the command reads the presets, and does without torch for that.
    if name not in __all__:
        raise AttributeError(f"module 'evaluation.feature_file' has no attribute '{name}'")
    return getattr(import_module("evaluation.feature_file.run"), name)
