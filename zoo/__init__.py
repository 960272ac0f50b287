"""What a model is: backbones, zoo models, data sets, results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy_names

if TYPE_CHECKING:
    from zoo.model_spec import load, open_model

_HOMES = {"load": "model_spec", "open_model": "model_spec"}

__all__ = ["load", "open_model"]

__getattr__ = lazy_names(__name__, _HOMES)
