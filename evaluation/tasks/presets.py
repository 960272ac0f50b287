"""Protocol presets: named sets of every choice that an evaluation depends on, and what all of them share. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from zoo.errors import UserError, nearest

if TYPE_CHECKING:
    from zoo.models.transforms import Interpolation

Value = TypeVar("Value")


@dataclass(frozen=True)
class ImageChoices:
    """How test images are prepared.

    Attributes
    ----------
    resize
        Length of the short side, in pixels.
    crop
        Side of the centre crop, in pixels.
    interpolation
        Of the resizing, which is antialiased.
    """

    resize: int
    crop: int
    interpolation: Interpolation

    def fitting(self, side: int | None, wanted: int | None = None) -> ImageChoices:
        """The choices for a data set.

        Parameters
        ----------
        side
            Of its images in pixels, None where they have several sizes. Images no larger than the crop keep their own size.
        wanted
            Side at which images shall reach the network instead; the short side is then resized in proportion.
        """
        if side is not None and side <= self.crop and wanted in (None, side):
            return replace(self, resize=side, crop=side)
        if wanted is None or wanted == self.crop:
            return self
        if wanted < 1:
            raise UserError(f"the image size must be at least 1 pixel, not {wanted}")
        return replace(self, resize=round(wanted * self.resize / self.crop), crop=wanted)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What every task's preset has.

    Attributes
    ----------
    name
        What ``--preset`` calls it.
    images
        How images are prepared.
    source
        Who uses it, and where these values are written.
    """

    name: str
    images: ImageChoices
    source: str

    @property
    def procedure(self) -> int:
        """Number of the procedure: a later one measures otherwise than the one before, by the same values."""
        return 1

    def side(self, data_side: int | None, wanted: int | None) -> int | None:
        """The side in pixels that images reach the network at; None: only the model tells.

        Parameters are those of :meth:`ImageChoices.fitting`.
        """
        return self.images.fitting(data_side, wanted).crop

    def name_at(self, crop: int) -> str:
        """The preset's name, which says so where images reach the network at another size than the preset's."""
        return self.name if crop == self.images.crop else f"{self.name}@{crop}"


def find(kind: str, name: str, known: Mapping[str, Value]) -> Value:
    """``known[name]``; capitals, ``-`` and ``_`` in ``name`` do not count. Raises UserError that names the nearest and all known names."""
    if name in known:
        return known[name]
    if same := nearest(name, known, cutoff=1.0):
        return known[same[0]]
    near = nearest(name, known, cutoff=0.4)
    hint = f" (nearest: '{near[0]}')" if near else ""
    raise UserError(f"unknown {kind} '{name}'{hint}; known: {', '.join(known)}")
