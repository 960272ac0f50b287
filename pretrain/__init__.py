"""How a model is made: views, methods, the training loop, recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import evaluation as _evaluation  # noqa: F401 (says so where something hides zoo)
from zoo.lazy import check_not_hidden, lazy_names

check_not_hidden("evaluation")

if TYPE_CHECKING:
    from pretrain.verbs import train

__all__ = ["train"]

__getattr__ = lazy_names(__name__, {"train": "verbs"})
