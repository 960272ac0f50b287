"""What the header of an image says of it: format, mode, size, bits, bands, pages, orientation. No pixel is decoded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from io import SEEK_CUR, BytesIO
from typing import Any, BinaryIO, Literal

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from zoo.data.images.endings import content_of, heif_reader, read_formats
from zoo.data.images.errors import BadImageError

Kind = Literal["unsigned", "signed", "float"]
# The encoded image, or a file that is open at its start.
Source = bytes | BinaryIO

ORIENTATION = 0x0112
# Orientations that lay an image on its side (EXIF 2.3, table "Orientation").
ON_ITS_SIDE = (5, 6, 7, 8)
# Keys of Pillow's ``info`` in which an orientation may stand.
_WITH_EXIF = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})
# The common modes; Pillow's own way to know is slower than the rest of this.
_BANDS = {"L": 1, "P": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}
_WITH_ALPHA = ("LA", "La", "RGBA", "RGBa", "PA")
# Formats whose grey images of 16 bits Pillow opens in the 32-bit mode "I" (which of the two depends on its version).
_FORMATS_OF_16_BIT_I = ("PNG", "PPM")
_8_BITS = 8
_TAG_BITS, _TAG_PHOTOMETRIC, _TAG_SAMPLES, _TAG_EXTRA, _TAG_SAMPLE_FORMAT = 258, 262, 277, 338, 339
_TAG_WIDTH, _TAG_HEIGHT = 256, 257
_WHITE_IS_ZERO = 0
# PhotometricInterpretation -> bands that are colours: grey (white or black is 0), RGB, palette, inks, YCbCr, CIE Lab.
_TIFF_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_TIFF_ALPHA = (1, 2, 999)  # ExtraSamples: premultiplied, not; and what Pillow takes for alpha as well
_TIFF_KINDS: dict[int, Kind] = {1: "unsigned", 2: "signed", 3: "float", 4: "unsigned"}
_MOST_PAGES = 100_000
_BIG_TIFF = 43
_PNG = b"\x89PNG\r\n\x1a\n"

# This layer has bounds of its own (zoo.data.images.decode), so that Pillow's warning at half of its limit helps nobody; nor does one
# about damaged EXIF that does not name the file. Whoever filters warnings otherwise has precedence.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.", append=True)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a header says.

    Attributes
    ----------
    format
        Pillow's name of it: ``"JPEG"``, ``"PNG"``, ``"TIFF"``, ...
    mode
        Pillow's mode (``"L"``, ``"RGB"``, ``"I;16"``, ``"F"``, ...); empty for a TIFF that Pillow cannot hold.
    width, height
        In pixels, as the file stores them (:attr:`seen_size`: as it is seen).
    bits, kind
        Of each band: its number of bits, and how they are a number.
    bands
        Their number, alpha included.
    unnamed
        How many of the bands the file does not say the meaning of: neither colours nor alpha.
    alpha
        Whether there is transparency, as a band or an entry of the palette.
    orientation
        EXIF's, 1 (as it is) to 8; of a TIFF its own tag.
    frames
        Pages or frames in the file; only the first is read. 1 also where they were not counted.
    white_is_zero
        Whether a grey TIFF's lowest value is white.
    """

    format: str
    mode: str
    width: int
    height: int
    bits: int = _8_BITS
    kind: Kind = "unsigned"
    bands: int = 1
    unnamed: int = 0
    alpha: bool = False
    orientation: int = 1
    frames: int = 1
    white_is_zero: bool = False

    @property
    def seen_size(self) -> tuple[int, int]:
        """Width and height once the orientation is applied."""
        return (self.height, self.width) if self.orientation in ON_ITS_SIDE else (self.width, self.height)

    @property
    def deep(self) -> bool:
        """Whether values are more than 8 bits without a sign, so that a range says what is black and what white."""
        return self.bits > _8_BITS or self.kind != "unsigned"

    def __str__(self) -> str:
        """Bits, kind, bands and mode for a message: ``"32-bit float, 1 band (mode F)"``."""
        kind = "" if self.kind == "unsigned" else f" {self.kind}"
        mode = f" (mode {self.mode})" if self.mode else ""
        return f"{self.bits}-bit{kind}, {self.bands} band{'s' if self.bands > 1 else ''}{mode}"


def read_facts(source: Source) -> ImageFacts:
    """The facts of an encoded image, its pages and frames counted. Raises :class:`~zoo.data.images.errors.BadImageError`."""
    image, facts = open_image(source, count=True)
    with nullcontext() if image is None else image:
        return facts


def open_image(source: Source, *, count: bool = False, turned: bool = True) -> tuple[Image.Image | None, ImageFacts]:
    """The image, opened and not decoded, and its facts; no image for a TIFF that Pillow cannot hold.

    Parameters
    ----------
    source
        Bytes, or a file that stays open while the image is used.
    count
        Count pages and frames too, which reads all of a GIF.
    turned
        Whether the orientation matters: in a PNG it may stand behind the pixels, where it is looked for only then.

    Raises
    ------
    BadImageError
        Empty, no image, an image in a format that is not read here, or one beyond Pillow's limit for decompression bombs.
    """
    file = BytesIO(source) if isinstance(source, bytes) else source
    try:
        try:
            image: Image.Image = Image.open(file, formats=read_formats())
        except UnidentifiedImageError:
            found = _otherwise(file, count=count)
            if isinstance(found, ImageFacts):
                return None, found
            image = found
        facts = facts_of(image, count=count)
        if turned and facts.format == "PNG" and facts.orientation == 1 and _WITH_EXIF.isdisjoint(image.info):
            place = file.tell()
            facts = replace(facts, orientation=_behind_the_pixels(file))
            file.seek(place)
        return image, facts
    except (MemoryError, BadImageError):
        raise
    except Exception as error:  # Pillow's plug-ins let nearly any exception out on damaged bytes
        raise BadImageError(reason_of(error)) from error


def reason_of(error: BaseException) -> str:
    """What Pillow says of a damaged image, without a full stop."""
    return " ".join(str(error).split()).rstrip(". ") or type(error).__name__


def facts_of(image: Image.Image, *, count: bool = False) -> ImageFacts:
    """The facts of an image that Pillow has opened and not loaded yet."""
    mode, kind_of_file = image.mode, image.format or ""
    frames = getattr(image, "n_frames", 1) if count else 1
    orientation = orientation_of(image)
    if kind_of_file == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        # Pillow has turned the size of one that lies on its side.
        width, height = image.size if orientation not in ON_ITS_SIDE else image.size[::-1]
        return _of_tiff(tags, mode, width, height, orientation, frames)
    bits, kind = _depth(image, mode, kind_of_file)
    alpha = mode in _WITH_ALPHA or "transparency" in image.info
    bands = _BANDS.get(mode) or len(image.getbands())
    return ImageFacts(kind_of_file, mode, *image.size, bits, kind, bands, 0, alpha, orientation, frames)


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none or it cannot be read."""
    if image.format != "TIFF" and _WITH_EXIF.isdisjoint(image.info):
        return 1
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF is no reason to lose a picture; viewers show it as it is stored
        return 1
    return _orientation(value)


def _behind_the_pixels(file: BinaryIO) -> int:
    """The orientation in a PNG's chunk of EXIF, wherever it stands (PNG 1.5 allows it behind the pixels); 1 where there is none."""
    file.seek(len(_PNG))
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            exif = Image.Exif()
            try:
                exif.load(file.read(length))
                return _orientation(exif.get(ORIENTATION, 1))
            except Exception:  # as in orientation_of
                return 1
        file.seek(length + 4, SEEK_CUR)
    return 1


def _orientation(value: Any) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _depth(image: Image.Image, mode: str, kind_of_file: str) -> tuple[int, Kind]:
    if mode in _BANDS and kind_of_file not in _FORMATS_OF_16_BIT_I:
        return _8_BITS, "unsigned"
    if mode == "1":
        return 1, "unsigned"
    if mode.startswith("I;16") or (mode == "I" and kind_of_file in _FORMATS_OF_16_BIT_I):
        return 16, "unsigned"
    if mode == "I":
        return 32, "signed"
    if mode == "F":
        return 32, "float"
    if kind_of_file in _FORMATS_OF_16_BIT_I and image.tile:  # type: ignore[attr-defined]
        # Colour of 16 bits, of which Pillow keeps the high byte.
        how = image.tile[0][3]  # type: ignore[attr-defined]
        if ";16" in how if isinstance(how, str) else isinstance(how, tuple) and isinstance(how[-1], int) and how[-1] > 255:
            return 16, "unsigned"
    return _8_BITS, "unsigned"


def _of_tiff(tags: Mapping[int, Any], mode: str, width: int, height: int, orientation: int, frames: int) -> ImageFacts:
    bits = _all(tags.get(_TAG_BITS, 1))
    bands = tags.get(_TAG_SAMPLES, len(bits))
    if not isinstance(bands, int) or not all(isinstance(one, int) for one in bits):
        raise BadImageError("a TIFF whose header has no whole numbers as bits and bands")
    formats = _all(tags.get(_TAG_SAMPLE_FORMAT, 1))
    extra = _all(tags.get(_TAG_EXTRA, ()))
    photometric = tags.get(_TAG_PHOTOMETRIC, _WHITE_IS_ZERO)
    # Compressed within JPEG, YCbCr and RGB are the same three colours.
    surplus = bands - _TIFF_COLOURS.get(photometric, bands)
    alpha = surplus > 0 and (extra[0] in _TIFF_ALPHA if extra else surplus == 1)
    kind = _TIFF_KINDS.get(formats[0] if formats else 1, "unsigned")
    return ImageFacts(
        "TIFF",
        mode,
        width,
        height,
        max(bits, default=1),
        kind,
        bands,
        max(surplus - int(alpha), 0),
        alpha,
        orientation,
        frames,
        photometric == _WHITE_IS_ZERO,
    )


def _all(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _otherwise(file: BinaryIO, *, count: bool) -> ImageFacts | Image.Image:
    """What can be said of bytes that Pillow does not know: a TIFF's facts, a HEIC file by its extra, else BadImageError with the reason."""
    file.seek(0)
    head = file.read(64)
    if not head:
        raise BadImageError("the file is empty")
    found = content_of(head)
    if found is None:
        raise BadImageError("not an image, or of an unknown format")
    if found == "HEIC":
        if not heif_reader():
            raise BadImageError("a HEIC image, which is read with an extra: pip install 'backbone-loop[heif]'")
        file.seek(0)
        return Image.open(file, formats=("HEIF",))
    if found == "TIFF":
        return _tiff_facts(file, head, count=count)
    if found in read_formats():
        raise BadImageError(f"damaged, or a kind of {found} that cannot be read here")
    raise BadImageError(f"an image in the format {found}, which cannot be read here; convert it to PNG or TIFF")


def _tiff_facts(file: BinaryIO, head: bytes, *, count: bool) -> ImageFacts:
    try:
        tags = ImageFileDirectory_v2(head[: 16 if _BIG_TIFF in head[2:4] else 8])
        file.seek(tags.next)
        tags.load(file)
        pages, seen = 1, {0}
        first = dict(tags)
        while count and tags.next not in seen and pages < _MOST_PAGES:
            seen.add(tags.next)
            file.seek(tags.next)
            tags.load(file)
            pages += 1
        width, height = int(first[_TAG_WIDTH]), int(first[_TAG_HEIGHT])
        return _of_tiff(first, "", width, height, _orientation(first.get(ORIENTATION, 1)), pages)
    except Exception as error:  # as above
        raise BadImageError(f"a damaged TIFF ({reason_of(error)})") from error
