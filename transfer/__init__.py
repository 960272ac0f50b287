"""What a model is turned into: weights for other frameworks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy import lazy_names

if TYPE_CHECKING:
    from transfer.conversion import convert

__all__ = ["convert"]

__getattr__ = lazy_names(__name__, {"convert": "conversion"})
