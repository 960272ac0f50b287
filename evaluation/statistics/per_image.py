"""Which test images were answered rightly, packed into a result so that results can be compared image by image."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from zoo.results import Result

DETAIL = "per_image"


def pack(correct: Mapping[str, NDArray[np.bool_]]) -> dict[str, str]:
    """What ``details["per_image"]`` holds: base64 of the bits (``numpy.packbits``, the first image in the highest bit), by metric."""
    return {metric: base64.b64encode(np.packbits(right).tobytes()).decode() for metric, right in correct.items()}


def unpack(result: Result, metric: str) -> NDArray[np.bool_] | None:
    """bool (test images,) of a result, or None where it has none for this metric."""
    text = result.details.get(DETAIL, {}).get(metric)
    if text is None:
        return None
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8))
    return bits[: result.counts["test_images"]].astype(bool)
