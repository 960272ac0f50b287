"""Classification with few labels: the task `semi`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.semi.label_lists import read_label_list, simclr_list
    from evaluation.semi.pseudo_labels import PseudoLabels, choose_pseudo_labels
    from evaluation.semi.run import run_semi

# Imported when they are asked for: the command reads the presets, and does without torch for that.
_HOMES = {
    "PseudoLabels": "pseudo_labels",
    "choose_pseudo_labels": "pseudo_labels",
    "read_label_list": "label_lists",
    "run_semi": "run",
    "simclr_list": "label_lists",
}

__all__ = [
    "PseudoLabels",
    "choose_pseudo_labels",
    "read_label_list",
    "run_semi",
    "simclr_list",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation.semi' has no attribute '{name}'")
    return getattr(import_module(f"evaluation.semi.{_HOMES[name]}"), name)
