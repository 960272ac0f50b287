"""How a model is made: views, methods, the training loop, recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy_names

if TYPE_CHECKING:
    from pretrain.verbs import train

__all__ = ["train"]

__getattr__ = lazy_names(__name__, {"train": "verbs"})
