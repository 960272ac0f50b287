"""Small pictures of a data set's images, as part of a page."""

from __future__ import annotations

import base64
import io

from PIL import Image

from zoo.data import Images

# The longest side in pixels, twice of what the page shows for sharp screens; and up to which side pictures stay lossless.
_SIDE, _LOSSLESS = 128, 64
_QUALITY = 82


def thumbnail(images: Images, index: int) -> str:
    """The ``data:`` address of the centre square of an image. Raises UserError where the image cannot be decoded."""
    image = images.read(index)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if side > _SIDE:
        image = image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    if image.width <= _LOSSLESS:
        image.save(encoded, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(encoded, "JPEG", quality=_QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded.getvalue()).decode()}"
