"""What a model is turned into: weights for other frameworks, and detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy_names

if TYPE_CHECKING:
    from transfer.conversion import convert
    from transfer.verbs import detect, evaluate, predict

__all__ = ["convert", "detect", "evaluate", "predict"]

__getattr__ = lazy_names(__name__, {"convert": "conversion", "detect": "verbs", "evaluate": "verbs", "predict": "verbs"})
