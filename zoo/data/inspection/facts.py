"""What is known of each image of a set: one row of a table, all from a single decode."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from zoo.data.images import BadImageError, Reading, decoded, read_facts
from zoo.data.images.facts import ON_ITS_SIDE, Source
from zoo.data.inspection.thumbnails import SIDE, grey_of, thumbnail

DIGEST_BYTES = 16
# Raised when what a row says is computed in another way, so that rows kept by earlier versions are not used.
FORMAT = 1
# Formats that may hold more than one picture; of others nobody asks.
_WITH_FRAMES = frozenset({"TIFF", "GIF", "WEBP", "PNG", "AVIF", "HEIF", "MPO"})

ROW = np.dtype(
    [
        # The first 128 bits of the sha256 of the encoded bytes; of an image in memory, of its pixels.
        ("digest", np.uint8, DIGEST_BYTES),
        # Grey, of the image as it is used.
        ("thumbnail", np.uint8, (SIDE, SIDE)),
        # In pixels, as stored.
        ("width", np.uint32),
        ("height", np.uint32),
        ("frames", np.uint32),
        ("bytes", np.uint64),
        # EXIF's, 1 to 8.
        ("orientation", np.uint8),
        ("turned", np.bool_),
        ("grey", np.bool_),
        # Positions in the table's words.
        ("format", np.uint32),
        ("mode", np.uint32),
        ("reason", np.uint32),
        ("note", np.uint32),
    ]
)
WORD_COLUMNS = ("format", "mode", "reason", "note")
_COLLECTED = ("digest", "width", "height", "frames", "bytes", "orientation", "turned", "grey", *WORD_COLUMNS)
_GREY_MODES = frozenset({"1", "L", "LA"})
# Pixels of a thumbnail that tell most images in colour.
_ASKED = ((SIDE // 2, SIDE // 2), (1, 1), (SIDE - 2, SIDE - 2), (1, SIDE - 2))
_PART_BYTES = 1 << 20


@dataclass
class FactTable:
    """Facts of N images.

    Attributes
    ----------
    rows
        Structured array (N,) of :data:`ROW`. Of a bad image only ``digest``, ``bytes`` and ``reason`` mean anything.
    words
        What the numbers in ``format``, ``mode``, ``reason`` and ``note`` stand for; the first is the empty word.
    """

    rows: NDArray[np.void]
    words: list[str] = field(default_factory=lambda: [""])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def bad(self) -> NDArray[np.bool_]:
        """bool (N,): the images that cannot be decoded."""
        return np.asarray(self.rows["reason"] > 0)

    @property
    def seen_sizes(self) -> NDArray[np.int64]:
        """int64 (N, 2): width and height in pixels as the images are used."""
        sizes = np.stack([self.rows["width"], self.rows["height"]], axis=1).astype(np.int64)
        on_their_side = self.rows["turned"] & np.isin(self.rows["orientation"], ON_ITS_SIDE)
        sizes[on_their_side] = sizes[on_their_side, ::-1]
        return sizes

    def word(self, column: str, index: int) -> str:
        """The word of row ``index`` in ``column``."""
        return self.words[self.rows[column][index]]

    def counts(self, column: str, chosen: NDArray[np.bool_] | None = None) -> dict[str, int]:
        """How often each word stands in ``column``, the most frequent first."""
        numbers = self.rows[column] if chosen is None else self.rows[column][chosen]
        counted = np.bincount(numbers, minlength=len(self.words))
        return {self.words[number]: int(counted[number]) for number in np.argsort(-counted, kind="stable") if counted[number]}

    def take(self, indices: NDArray[np.int64]) -> FactTable:
        """The rows at ``indices``, in that order."""
        return FactTable(self.rows[indices], self.words)

    @classmethod
    def join(cls, tables: Sequence[FactTable]) -> FactTable:
        """The rows of all, one after another."""
        words: dict[str, int] = {"": 0}
        parts = [np.empty(0, ROW)]
        for table in tables:
            numbers = np.array([words.setdefault(word, len(words)) for word in table.words], dtype=np.uint32)
            rows = table.rows.copy()
            for column in WORD_COLUMNS:
                rows[column] = numbers[rows[column]]
            parts.append(rows)
        return cls(np.concatenate(parts), list(words))


class FactCollector:
    """Builds a table, row by row."""

    def __init__(self) -> None:
        # Python's own tuples and lists: assigning single fields of a NumPy row would take as long as decoding a small image.
        self._rows: list[tuple[Any, ...]] = []
        self._thumbnails: list[Image.Image | None] = []
        self._words: dict[str, int] = {"": 0}

    def encoded(self, source: Source, reading: Reading) -> None:
        """Add an encoded image (bytes, or a file that is open at its start), decoding it once."""
        digest, size = _digest(source)
        try:
            with decoded(source, reading) as made:
                facts = made.facts
                grey = self._picture(made.image, told_grey=facts.mode in _GREY_MODES)
                turned, note = made.turned, made.note
                del made  # and with it its pixels, before the next large image is let in
            frames = _frames(source) if facts.format in _WITH_FRAMES else 1
        except BadImageError as error:
            self.unreadable(str(error), digest, size)
            return
        numbers = facts.width, facts.height, frames, size, facts.orientation, turned, grey
        self._rows.append((digest, *numbers, *map(self._number, (facts.format, facts.mode or str(facts), "", note))))

    def pixels(self, image: NDArray[np.uint8]) -> None:
        """Add an image in memory (H, W, 3)."""
        digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()[:DIGEST_BYTES]
        grey = self._picture(Image.fromarray(image), told_grey=False)
        height, width = image.shape[:2]
        self._rows.append((digest, width, height, 1, image.nbytes, 1, False, grey, 0, self._number("RGB"), 0, 0))

    def unreadable(self, reason: str, digest: bytes = bytes(DIGEST_BYTES), size: int = 0) -> None:
        """Add an image that cannot be read."""
        self._thumbnails.append(None)
        self._rows.append((digest, 0, 0, 0, size, 0, False, False, 0, 0, self._number(reason or "unknown"), 0))

    def table(self) -> FactTable:
        """All that was added."""
        rows = np.zeros(len(self._rows), ROW)
        for column, values in zip(_COLLECTED, zip(*self._rows, strict=True), strict=False):
            rows[column] = np.frombuffer(b"".join(values), np.uint8).reshape(-1, DIGEST_BYTES) if column == "digest" else values
        # One picture of all: to have the pixels of each costs as much as to make it.
        strip = Image.new("RGB", (SIDE, SIDE * len(rows)))
        for place, small in enumerate(self._thumbnails):
            if small is not None:
                strip.paste(small, (0, place * SIDE))
        rows["thumbnail"] = grey_of(np.asarray(strip).reshape(-1, SIDE, SIDE, 3))
        return FactTable(rows, list(self._words))

    def _picture(self, image: Image.Image, *, told_grey: bool) -> bool:
        """Keep the thumbnail; returns whether the image is grey: all bands equal in all pixels."""
        small = thumbnail(image)
        self._thumbnails.append(small)
        # Where the means of bands differ in one place, the image is in colour; that is known at a hundredth of the cost.
        return told_grey or (all(_is_grey(small, place) for place in _ASKED) and _bands_equal(image))

    def _number(self, word: str) -> int:
        return self._words.setdefault(word, len(self._words))


def _digest(source: Source) -> tuple[bytes, int]:
    """The first bits of the sha256 of all bytes, and their number."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).digest()[:DIGEST_BYTES], len(source)
    digest, size = hashlib.sha256(), 0
    while part := source.read(_PART_BYTES):
        digest.update(part)
        size += len(part)
    source.seek(0)
    return digest.digest()[:DIGEST_BYTES], size


def _frames(source: Source) -> int:
    if not isinstance(source, bytes):
        source.seek(0)
    try:
        return read_facts(source).frames
    except BadImageError:
        # The picture itself was read; what follows it is damaged.
        return 1


def _is_grey(image: Image.Image, place: tuple[int, int]) -> bool:
    red, green, blue = image.getpixel(place)  # type: ignore[misc]
    return bool(red == green == blue)


def _bands_equal(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return ImageChops.difference(red, green).getbbox() is None and ImageChops.difference(red, blue).getbbox() is None
