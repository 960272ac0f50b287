"""PASCAL VOC 2007 image classification: the task `voc07`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.voc07.precision import average_precision, per_image_precision
    from evaluation.voc07.run import run_voc07
    from evaluation.voc07.svm import LowShotScores, SvmScores, evaluate_low_shot, evaluate_svm

# Imported when they are asked for: the command reads the presets, and does without scikit-learn for that.
_HOMES = {
    "LowShotScores": "svm",
    "SvmScores": "svm",
    "average_precision": "precision",
    "evaluate_low_shot": "svm",
    "evaluate_svm": "svm",
    "per_image_precision": "precision",
    "run_voc07": "run",
}

__all__ = [
    "LowShotScores",
    "SvmScores",
    "average_precision",
    "evaluate_low_shot",
    "evaluate_svm",
    "per_image_precision",
    "run_voc07",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation.voc07' has no attribute '{name}'")
    return getattr(import_module(f"evaluation.voc07.{_HOMES[name]}"), name)
