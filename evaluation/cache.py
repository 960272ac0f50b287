"""Features that were computed before, so that several tasks on one model compute them once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


class FeatureCache:
    """Features by what they depend on, in memory."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def get(self, description: Mapping[str, Any], compute: Callable[[], Tensor]) -> Tensor:
        """The features (N, D) that ``description`` (anything that is JSON) names, computed if they are not there yet."""
        key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
        if key not in self._held:
            self._held[key] = compute()
        return self._held[key]

    def forget(self) -> None:
        """Let go of what is held in memory."""
        self._held.clear()
