"""From encoded bytes to an RGB image of 8 bits: the one place where images are decoded.

What becomes of what:

- 8 bits a band: grey is repeated, alpha dropped, palettes, inks, YCbCr and CIE Lab converted as Pillow does; 1 bit is black or white.
- 16 bits keep their high byte, 9 to 15 bits that a TIFF declares are mapped from 0 .. 2^bits - 1, both the other way round where the TIFF
  says that white is zero. With a range (:class:`~zoo.data.images.reading.Reading`) values are mapped linearly from it.
- Signed, floating and 32-bit values are refused without a range: nothing says what is black and what white.
- More than three bands that are neither colours nor alpha are refused unless three (or one) are chosen.
- The first page or frame counts.

Memory is bounded. Dimensions are checked before pixels are allocated: beyond Pillow's limit for decompression bombs an image is refused,
and of images beyond :data:`LARGE` one is decoded at a time in a process.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.data.images.errors import BadImageError
from zoo.data.images.facts import ORIENTATION, ImageFacts, Source, open_image, reason_of
from zoo.data.images.reading import AS_STORED, Reading
from zoo.data.images.tiff import read_tiff

# Pixels (at four bytes each) beyond which one image at a time is decoded.
LARGE = 64_000_000
# Values that are mapped at a time, so that wide numbers never stand in memory beside the whole image.
_STRIP_VALUES = 1 << 20
# A range that is used up to less than this share deserves a word.
_DARK = 8
_MAX_8_BIT, _MAX_16_BIT = 0xFF, 0xFFFF
_8_BITS, _16_BITS, _MOST_COLOURS = 8, 16, 3
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_gate: AbstractContextManager[Any] = threading.Lock()


def share_gate(gate: AbstractContextManager[Any]) -> None:
    """Let several processes decode one large image at a time together: ``gate`` is a lock that they share."""
    global _gate
    _gate = gate


@dataclass(slots=True)
class Decoded:
    """A decoded image.

    Attributes
    ----------
    image
        RGB, 8 bits.
    facts
        What its header says; pages and frames are not counted.
    turned
        Whether EXIF's orientation changed it.
    note
        What its owner should know of it, or empty: that it is very dark since its values use a small part of their range.
    """

    image: Image.Image
    facts: ImageFacts
    turned: bool = False
    note: str = ""


@contextmanager
def decoded(source: Source, reading: Reading = AS_STORED) -> Iterator[Decoded]:
    """Decode an image for the length of a block: so long no other large one is decoded.

    Parameters
    ----------
    source
        The encoded bytes, or a file that is open at their start (for files too large to be read at once).
    reading
        How.

    Raises
    ------
    BadImageError
        Not an image, truncated, empty, larger than Pillow's limit for decompression bombs; or values or bands whose meaning neither the
        file nor ``reading`` says.
    """
    image, facts = open_image(source, turned=reading.exif == "apply")
    if _cost(facts) <= LARGE:
        yield _decode(source, image, facts, reading)
        return
    with _one_at_a_time(source, image, facts, reading) as made:
        # All that is held goes before the next one may begin.
        del image
        yield made
        del made


@contextmanager
def _one_at_a_time(source: Source, image: Image.Image | None, facts: ImageFacts, reading: Reading) -> Iterator[Decoded]:
    with _gate:
        try:
            made = _decode(source, image, facts, reading)
            del image
            yield made
            del made
        finally:
            _give_memory_back()


def decode_rgb(source: Source, reading: Reading = AS_STORED) -> Image.Image:
    """The RGB image of :func:`decoded`."""
    image, facts = open_image(source, turned=reading.exif == "apply")
    if _cost(facts) <= LARGE:
        return _decode(source, image, facts, reading).image
    with _one_at_a_time(source, image, facts, reading) as made:
        return made.image


def header_size(source: Source, reading: Reading = AS_STORED) -> tuple[int, int]:
    """Width and height in pixels of what :func:`decode_rgb` gives, from the header alone. Raises BadImageError."""
    image, facts = open_image(source, turned=reading.exif == "apply")
    with nullcontext() if image is None else image:
        return facts.seen_size if reading.exif == "apply" else (facts.width, facts.height)


def check_facts(facts: ImageFacts, reading: Reading) -> None:
    """Raise the BadImageError that :func:`decoded` would raise for what the header says, without decoding."""
    _cost(facts)
    _chosen(facts, reading)
    _scale(facts, reading)


def _cost(facts: ImageFacts) -> float:
    """The image's size in pixels of four bytes, which is what Pillow takes for one. Raises BadImageError beyond Pillow's limit."""
    cost = facts.width * facts.height * max(facts.bands * -(-facts.bits // 8) / 4, 1)
    limit = Image.MAX_IMAGE_PIXELS
    # Pillow refuses what it opens at twice of what it warns of; so is the rest.
    if limit is not None and cost > 2 * limit:
        raise BadImageError(
            f"{facts.width} x {facts.height} pixels of {facts.bands} bands exceed the limit of {2 * limit:,} pixels (decompression bomb)"
        )
    return cost


def _decode(source: Source, image: Image.Image | None, facts: ImageFacts, reading: Reading) -> Decoded:
    try:
        with nullcontext() if image is None else image:
            if image is not None and facts.orientation != 1 and facts.format == "TIFF":
                # Pillow turns a TIFF by itself when it loads it; here the reading decides.
                image.getexif()[ORIENTATION] = 1
            made, note = _rgb(source, image, facts, reading)
        if image is not None:
            # What was opened may share its pixels, or hold others.
            Image.Image.close(image)
        turn = _TURNS.get(facts.orientation) if reading.exif == "apply" else None
        if turn is not None:
            _give_back_of(made)
        return Decoded(made if turn is None else made.transpose(turn), facts, turn is not None, note)
    except (MemoryError, BadImageError):
        raise
    except Exception as error:  # Pillow's plug-ins let nearly any exception out on damaged bytes
        raise BadImageError(reason_of(error)) from error


def _give_back_of(image: Image.Image) -> None:
    """:func:`_give_memory_back` before more is taken for a large image: what the last one left would stand beside it."""
    if image.width * image.height > LARGE:
        _give_memory_back()


def _give_memory_back() -> None:
    """Have the system take what was freed; glibc would keep it for the thread, and other threads take more."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _rgb(source: Source, image: Image.Image | None, facts: ImageFacts, reading: Reading) -> tuple[Image.Image, str]:
    """The image as it is stored, and the note."""
    if image is not None and reading.bands is None and facts.unnamed == 0 and not facts.deep:
        return _plain(image), ""
    scale = _scale(facts, reading)
    chosen = _chosen(facts, reading)
    if image is not None and facts.bands == 1 and facts.deep:
        return _mapped(_rows_of_pillow(image, facts, scale), facts, scale)
    if image is not None and len(image.getbands()) == facts.bands and (scale is None or facts.bits == _8_BITS):
        # Of colours of 16 bits Pillow keeps the high byte.
        made = _plain(image) if chosen is None else _merged([image.getchannel(band - 1) for band in chosen])
        brightest = max(high for _, high in made.getextrema()) << _8_BITS if facts.bits == _16_BITS else 0  # type: ignore[misc]
        return made, _note(brightest, facts)
    if facts.format != "TIFF":
        raise BadImageError(f"{facts}: of its {facts.bits} bits only 8 can be had, so no range can be applied; convert it to TIFF")
    planes = read_tiff(source, facts)
    if len(planes) > _MOST_COLOURS and chosen is None:
        planes = planes[:_MOST_COLOURS]  # colours, and alpha
    if chosen is not None:
        planes = [planes[band - 1] for band in chosen]
    parts = [_mapped(_rows_of_array(plane), facts, scale, grey=True) for plane in planes]
    return _merged([part for part, _ in parts]), parts[0][1]


def _chosen(facts: ImageFacts, reading: Reading) -> tuple[int, ...] | None:
    """The bands that are red, green and blue (or grey) where the reading says it. Raises BadImageError where it must, and does not."""
    if reading.bands is None:
        if facts.unnamed and (facts.bands > _MOST_COLOURS or not facts.mode):
            raise BadImageError(f"{facts}: nothing says which of them are red, green and blue; choose, such as with bands=3+2+1")
        return None
    if facts.bands == 1 and set(reading.bands) == {1}:
        return None
    if max(reading.bands) > facts.bands:
        raise BadImageError(f"{facts}: it has no band {max(reading.bands)}, which bands= asks for")
    return reading.bands


def _scale(facts: ImageFacts, reading: Reading) -> tuple[float, float] | None:
    """The values that become 0 and 255; None: 8 bits, or the high byte of 16. Raises BadImageError where nothing says it."""
    if facts.deep and reading.range is not None:
        return reading.range
    if facts.kind != "unsigned" or facts.bits > _16_BITS:
        example = "range=0+1" if facts.kind == "float" else "range=0+65535"
        raise BadImageError(f"{facts}: nothing says which values are black and white; give their range in the data spec, such as {example}")
    return (0, (1 << facts.bits) - 1) if _8_BITS < facts.bits < _16_BITS else None


def _plain(image: Image.Image) -> Image.Image:
    """8 bits a band, and colours that the file names."""
    image.load()
    if image.mode == "RGB":
        # `convert` would copy the pixels; and the opened file, with all that its reader holds, is not handed out.
        return image._new(image.im)
    _give_back_of(image)
    # Alpha is dropped, a palette's too, of which Pillow would warn.
    image.info.pop("transparency", None)
    return image.convert("RGB")


def _merged(bands: list[Image.Image]) -> Image.Image:
    """RGB of one or three grey images."""
    grey = [band if band.mode == "L" else band.convert("L") for band in bands]
    return grey[0].convert("RGB") if len(grey) == 1 else Image.merge("RGB", grey[:_MOST_COLOURS])


@dataclass(slots=True)
class _Rows:
    """The values of one band, some rows at a time: (rows, width), as the file means them."""

    width: int
    height: int
    read: Callable[[int, int], NDArray[Any]]
    release: Callable[[], None]


def _rows_of_pillow(image: Image.Image, facts: ImageFacts, scale: tuple[float, float] | None) -> _Rows:
    factor = _pgm_factor(image) if scale is not None else 1.0
    image.load()
    width, height = image.im.size
    held = image._new(image.im)
    Image.Image.close(image)
    _give_back_of(held)

    def read(first: int, stop: int) -> NDArray[Any]:
        values = np.asarray(held.crop((0, first, width, stop)))
        if facts.kind == "signed" and facts.bits == _8_BITS:
            return values.view(np.int8)
        if facts.kind == "unsigned" and facts.bits > _16_BITS:
            return values.view(np.uint32)
        return values if factor == 1 else np.rint(values * factor)

    return _Rows(width, height, read, held.close)


def _pgm_factor(image: Image.Image) -> float:
    """By what values of a PGM, which Pillow spreads over 16 bits, become those that the file holds."""
    how = image.tile[0][3] if image.format == "PPM" and image.mode == "I" and image.tile else None  # type: ignore[attr-defined]
    return how[1] / _MAX_16_BIT if isinstance(how, tuple) and len(how) > 1 and isinstance(how[1], int) else 1.0


def _rows_of_array(plane: NDArray[Any]) -> _Rows:
    height, width = plane.shape
    return _Rows(width, height, lambda first, stop: plane[first:stop], lambda: None)


def _mapped(rows: _Rows, facts: ImageFacts, scale: tuple[float, float] | None, *, grey: bool = False) -> tuple[Image.Image, str]:
    """One band as RGB, or as an image of one band where ``grey`` says so; and the note."""
    made = Image.new("L", (rows.width, rows.height))
    step = max(_STRIP_VALUES // rows.width, 1)
    brightest = 0
    for first in range(0, rows.height, step):
        values = rows.read(first, min(first + step, rows.height))
        if facts.bits == _16_BITS and facts.kind == "unsigned":
            brightest = max(brightest, int(values.max()))
        made.paste(Image.fromarray(_to_8_bits(values, facts, scale)), (0, first))
    rows.release()
    _give_back_of(made)
    return made if grey else made.convert("RGB"), _note(brightest, facts) if scale is None else ""


def _to_8_bits(values: NDArray[Any], facts: ImageFacts, scale: tuple[float, float] | None) -> NDArray[np.uint8]:
    if scale is None:
        # In wide numbers: a PGM's may lie beyond 16 bits where the file is damaged.
        high = values.astype(np.uint8) if facts.bits <= _8_BITS else (np.clip(values.astype(np.int32), 0, _MAX_16_BIT) >> _8_BITS)
        return (_MAX_8_BIT - high if facts.white_is_zero and facts.bands == 1 else high).astype(np.uint8)
    low, high_value = scale
    wide = values.astype(np.float64)
    if facts.kind == "float" and np.isnan(wide).any():
        raise BadImageError(f"{facts}: some of its values are no numbers (NaN)")
    wide = (high_value - wide) if facts.white_is_zero and facts.bands == 1 else (wide - low)
    return np.clip(np.rint(wide * (_MAX_8_BIT / (high_value - low))), 0, _MAX_8_BIT).astype(np.uint8)


def _note(brightest: int, facts: ImageFacts) -> str:
    """A word where values without a declared range use so little of 16 bits that the picture is nearly black."""
    if facts.bits != _16_BITS or not 0 < brightest < (_MAX_16_BIT + 1) // _DARK:
        return ""
    likely = (1 << brightest.bit_length()) - 1
    return f"its largest value is {brightest} of {_MAX_16_BIT}, so it is very dark; if its range is smaller, say so: range=0+{likely}"
