"""Protocol presets: named sets of every choice that an evaluation depends on. This module imports no torch, for quick commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, TypeVar

from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.transforms import Interpolation

Weight = Literal["exp", "uniform"]
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


@dataclass(frozen=True)
class KnnPreset:
    """A kNN protocol: a weighted vote of the k nearest training images, by the cosine of frozen features.

    Attributes
    ----------
    name
        What ``--preset`` calls it.
    k
        Numbers of neighbours that are reported.
    headline_k
        The one of them that stands for the preset.
    temperature
        T of the weight exp(similarity / T) of a neighbour's vote.
    weight
        ``"exp"``, or ``"uniform"`` for votes of equal weight.
    images
        How images are prepared.
    source
        Who uses it, and where these values are written.
    """

    name: str
    k: tuple[int, ...]
    headline_k: int
    temperature: float
    weight: Weight
    images: ImageChoices
    source: str

    def name_at(self, crop: int) -> str:
        """The preset's name, which says so where images reach the network at another size than the preset's."""
        return self.name if crop == KNN_PRESETS[self.name].images.crop else f"{self.name}@{crop}"

    def change(self, k: Sequence[int] | None = None, temperature: float | None = None) -> KnnPreset:
        """The preset with other values; those that are None stay.

        The headline stays the preset's own k where that is still among them, else it is the largest.

        Raises UserError for a k below 1, one given twice, and a temperature that is not positive.
        """
        changed = self
        if k is not None:
            if not k or min(k) < 1 or len(set(k)) < len(k):
                raise UserError(f"k must be different whole numbers from 1 on, such as --k 1,5,20, not {','.join(map(str, k)) or 'none'}")
            headline = self.headline_k if self.headline_k in k else max(k)
            changed = replace(changed, k=tuple(sorted(k)), headline_k=headline)
        if temperature is not None:
            if not 0 < temperature < float("inf"):
                raise UserError(f"the temperature must be a positive number, such as --temperature 0.07, not {temperature}")
            changed = replace(changed, temperature=temperature)
        return changed

    @property
    def changed(self) -> list[str]:
        """Names of the values that differ from those of the registered preset."""
        registered = KNN_PRESETS[self.name]
        return [name for name in ("k", "temperature", "weight") if getattr(self, name) != getattr(registered, name)]


_DINO = KnnPreset(
    name="dino",
    k=(10, 20, 100, 200),
    headline_k=20,
    temperature=0.07,
    weight="exp",
    images=ImageChoices(resize=256, crop=224, interpolation="bicubic"),
    source="Caron et al., ICCV 2021 (arXiv 2104.14294), eval_knn.py of facebookresearch/dino",
)
_MOCO = KnnPreset(
    name="moco",
    k=(200,),
    headline_k=200,
    temperature=0.1,
    weight="exp",
    images=ImageChoices(resize=256, crop=224, interpolation="bilinear"),
    source="Wu et al., CVPR 2018 (arXiv 1805.01978); the MoCo authors' CIFAR-10 notebook; lightly's ResNet-50 benchmark",
)
KNN_PRESETS: Mapping[str, KnnPreset] = {
    "dino": _DINO,
    "hcsc": replace(_DINO, name="hcsc", source="Guo et al., CVPR 2022 (arXiv 2202.00455), eval_knn.py of gyfastas/HCSC, which is DINO's"),
    "moco": _MOCO,
}


def find(kind: str, name: str, known: Mapping[str, Value]) -> Value:
    """``known[name]``. Raises UserError that names the nearest and all known names."""
    if name in known:
        return known[name]
    nearest = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f" (nearest: '{nearest[0]}')" if nearest else ""
    raise UserError(f"unknown {kind} '{name}'{hint}; known: {', '.join(known)}")
