"""Small real image files for the tests of the data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from zoo.errors import UserError


def noise(seed: int, side: int = 8, channels: int = 3) -> NDArray[np.uint8]:
    """An image (side, side, channels) that no other seed gives."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, channels), dtype=np.uint8)


def write_image(path: Path, pixels: NDArray[np.uint8] | int = 0, side: int = 8) -> Path:
    """Save pixels (or the noise of a seed), making the folder; PNG keeps them exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(pixels, side) if isinstance(pixels, int) else pixels).save(path)
    return path


def shared_data() -> Path:
    """The folder of real data beside the repository; skips the test where there is none."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data beside the repository (../shared/data) are not there")
    return folder


def message_of(function, *arguments, **options) -> str:
    """The UserError that a call must raise, checked to be one line."""
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text
