"""From encoded bytes to an RGB image: the one place where images are decoded."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

_BITS_DROPPED_OF_16 = 8
_MAX_16_BIT = 0xFFFF
# Formats whose grey images of 16 bits Pillow opens in the 32-bit mode "I" (which of the two depends on its version).
_FORMATS_OF_16_BIT_I = ("PNG", "PPM")


class BadImageError(Exception):
    """Bytes that are no readable image; the text says why, without a full stop."""


def decode_rgb(data: bytes) -> Image.Image:
    """Decode a whole image to RGB.

    Alpha is dropped, EXIF orientation is not applied, and the first frame of an animation is taken, as
    ``torchvision.datasets.folder.default_loader`` does. Grey images of 16 bits keep their high byte; there Pillow's own
    conversion (and so torchvision's) cuts every value above 255 to white.

    Raises
    ------
    BadImageError
        Not an image, truncated, empty, or larger than Pillow's limit for decompression bombs.
    """
    if not data:
        raise BadImageError("the file is empty")
    try:
        with Image.open(BytesIO(data)) as image:
            return _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plug-ins let nearly any exception out on damaged bytes
        raise BadImageError(_reason(error)) from error


def header_size(data: bytes) -> tuple[int, int]:
    """Width and height of an image in pixels, from its header alone. Raises BadImageError."""
    try:
        with Image.open(BytesIO(data)) as image:
            return image.size
    except Exception as error:  # as above
        raise BadImageError(_reason(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _FORMATS_OF_16_BIT_I):
        high = np.clip(np.asarray(image).astype(np.int32), 0, _MAX_16_BIT) >> _BITS_DROPPED_OF_16
        return Image.fromarray(high.astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        # The same colours by a way on which Pillow does not warn about the alpha that is dropped.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"
    return str(error).rstrip(". ") or type(error).__name__
