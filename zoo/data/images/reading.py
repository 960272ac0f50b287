"""How encoded images become RGB: what a data spec's options say of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from zoo.data.spec import DataSpec, one_of
from zoo.errors import UserError

Exif = Literal["apply", "ignore"]
EXIF: tuple[Exif, Exif] = ("apply", "ignore")
# People's own data, in which a photograph is meant as it is seen. The numbers that were published of the research sets ignore EXIF.
OWN = ("folder", "csv", "hf", "voc", "coco")

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\+({_NUMBER})")


@dataclass(frozen=True, slots=True)
class Reading:
    """How images are read.

    Attributes
    ----------
    range
        The values that become 0 and 255, of images with more than 8 bits a band, signed or floating values; between them the map is
        linear, beyond them values are clipped. None: 16 bits keep their high byte, 9 to 15 bits that a TIFF declares are mapped from
        their own range, and others are refused.
    bands
        Numbers of the bands, from 1, that become red, green and blue; one number: grey. None: the colours that the file itself names.
    exif
        Whether the orientation that EXIF gives is applied.
    """

    range: tuple[float, float] | None = None
    bands: tuple[int, ...] | None = None
    exif: Exif = "ignore"


# As the file stores the pixels, which is what published numbers were measured on; and as a photograph is seen.
AS_STORED = Reading()
AS_SEEN = Reading(exif="apply")


def reading_of(spec: DataSpec) -> Reading:
    """How the images of a data set are read: by its options, and EXIF by whether the set is people's own.

    Raises
    ------
    UserError
        ``range=LOW+HIGH``, ``bands=R+G+B`` (or one band), ``exif=apply|ignore`` with another value.
    """
    exif = one_of(spec, "exif", EXIF, EXIF[0] if spec.name in OWN else EXIF[1])
    return Reading(_range(spec), _bands(spec), "apply" if exif == "apply" else "ignore")


def _range(spec: DataSpec) -> tuple[float, float] | None:
    text = spec.options.get("range")
    if text is None:
        return None
    found = _RANGE.fullmatch(text)
    if found is not None:
        low, high = (float(value) for value in found.groups())
        if math.isfinite(low) and math.isfinite(high) and low < high:
            return low, high
    raise UserError(f"data '{spec.name}': option 'range' takes the lowest and the highest value, such as range=0+4095, not '{text}'")


def _bands(spec: DataSpec) -> tuple[int, ...] | None:
    text = spec.options.get("bands")
    if text is None:
        return None
    parts = text.split("+")
    if len(parts) not in (1, 3) or not all(part.isascii() and part.isdecimal() and 0 < len(part) < 6 and int(part) for part in parts):
        raise UserError(
            f"data '{spec.name}': option 'bands' takes the numbers, from 1, of the bands that are red, green and blue, "
            f"such as bands=4+3+2, or of one band, not '{text}'"
        )
    return tuple(int(part) for part in parts)
