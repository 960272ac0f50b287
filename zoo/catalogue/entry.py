"""One row of the catalogue."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD
from zoo.results import Result


@dataclass(frozen=True)
class PublishedResult:
    """A number that others printed; nobody here measured it.

    Attributes
    ----------
    task
        ``"linear"``, ``"knn"``, ``"finetune"``, ``"voc07-svm"``, ``"voc-detection"``, ...
    metric, value
        ``"top1"`` and the like in percent; AP as it was printed.
    data
        What it was measured on, e.g. ``"imagenet"``.
    source
        Where it is printed.
    note
        What else the source says of it.
    """

    task: str
    metric: str
    value: float
    data: str
    source: str
    note: str | None = None


@dataclass(frozen=True)
class Home:
    """Where the weights are: a repository on the Hub, or the authors' URL. Exactly one of ``repository`` and ``url`` is set.

    Attributes
    ----------
    repository, revision
        ``"org/name"`` on the Hugging Face Hub, which holds a zoo model, and the 40 hex digits of a commit.
    url
        Of one file, as the authors serve it. None here has been tried unless ``CatalogueEntry.confirmed`` says so.
    md5_prefix, sha256_prefix
        What the authors print of the file's hash: its first hex digits.
    """

    repository: str | None = None
    revision: str | None = None
    url: str | None = None
    md5_prefix: str | None = None
    sha256_prefix: str | None = None


@dataclass(frozen=True)
class CatalogueEntry:
    """What is known of one published backbone; what is unknown is None.

    Attributes
    ----------
    name
        timm's style, ``"resnet50.hcsc_200ep"``.
    arch
        timm's name of the architecture.
    method
        Name of the pre-training method; ``"supervised"`` for classifiers.
    encoder
        Which of the method's networks is taken: ``"query"``, ``"online"``, ``"teacher"``; None where there is only one.
    epochs, batch
        Of the pre-training; global batch.
    crops
        Number and side of the crops of one image, e.g. ``"2x224+6x96"``.
    data
        What it was trained on, as ``--data`` names it.
    parameters
        Of the backbone, without any head.
    published
        What others printed, each number with its source.
    own
        What was measured with this toolkit; a catalogue file lists result files beside it.
    licence, licence_note
        SPDX identifier, and what it was stated for.
    home
        Where the weights are; None: they are published nowhere, as far as we know.
    sha256
        Of the file at ``home``; None where nobody printed it.
    reader
        The format reader that loads the file (:mod:`zoo.formats`); None: no reader of ours can.
    recipe
        Name of the recipe of this toolkit that would make such weights.
    citation
        The paper.
    note
        Anything else worth knowing.
    ask
        Where the weights are given to those who ask and accept the terms; the file is then imported by ``zoo import``.
    image_size, mean, std, interpolation, crop_pct
        Preprocessing of test images.
    confirmed
        Whether the reader has been tried on the real file.
    origin
        The catalogue file that the entry is from.
    """

    name: str
    arch: str
    method: str
    encoder: str | None = None
    epochs: int | None = None
    batch: int | None = None
    crops: str | None = None
    data: str | None = None
    parameters: int | None = None
    published: tuple[PublishedResult, ...] = ()
    own: tuple[Result, ...] = ()
    licence: str | None = None
    licence_note: str | None = None
    home: Home | None = None
    sha256: str | None = None
    reader: str | None = None
    recipe: str | None = None
    citation: str | None = None
    note: str | None = None
    ask: str | None = None
    image_size: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"
    crop_pct: float = 0.875
    confirmed: bool = False
    origin: str = ""

    @property
    def missing(self) -> bool:
        """Whether the weights are published nowhere, as far as we know."""
        return self.home is None

    def to_dict(self) -> dict[str, Any]:
        """The entry as a JSON object; what is unknown is null."""
        return {**asdict(self), "own": [result.to_dict() for result in self.own], "missing": self.missing}
