"""What a model is turned into: weights for other frameworks, and detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import evaluation as _evaluation  # noqa: F401 (says so where something hides zoo)
from zoo.lazy import check_not_hidden, lazy_names

check_not_hidden("evaluation")

if TYPE_CHECKING:
    from transfer.conversion import convert
    from transfer.verbs import detect, evaluate, predict

__all__ = ["convert", "detect", "evaluate", "predict"]

__getattr__ = lazy_names(__name__, {"convert": "conversion", "detect": "verbs", "evaluate": "verbs", "predict": "verbs"})
