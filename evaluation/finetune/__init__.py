"""Training the whole network with labels: the task `finetune`, and what `semi` builds on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.finetune.run import run_finetune
    from evaluation.finetune.training import FineTuned, fine_tune

# Imported when they are asked for: the command reads the presets, and does without torch for that.
_HOMES = {"FineTuned": "training", "fine_tune": "training", "run_finetune": "run"}

__all__ = ["FineTuned", "fine_tune", "run_finetune"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation.finetune' has no attribute '{name}'")
    return getattr(import_module(f"evaluation.finetune.{_HOMES[name]}"), name)
