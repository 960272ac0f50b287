"""What a zoo model folder says of itself: ``zoo.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from zoo.errors import UserError
from zoo.normalisation import three_channels
from zoo.ranges import SIDE, Range
from zoo.reading.outside import FieldError, read_fields, read_record
from zoo.results import Result, ResultError

SCHEMA = 1
MANIFEST_FILE = "zoo.json"
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
CURVE_FILE = "training_curve.png"
# What makes a zoo model; the weights come last, so that whatever else is wrong is found before their long transfer.
REQUIRED_FILES = (MANIFEST_FILE, CONFIG_FILE, CARD_FILE, WEIGHTS_FILE)
MODEL_FILES = (*REQUIRED_FILES, CURVE_FILE)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Fields that folders written by earlier versions lack; they have their default there.
_LATER_FIELDS = frozenset({"curve_sha256", "licence_link", "classes", "backbone_sha256"})
# Fields that are written only where they say something, so that earlier versions read the models that need none.
_WHERE_NEEDED = ("licence_link", "classes", "backbone_sha256")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COUNT = Range(0)


@dataclass(frozen=True)
class Manifest:
    """The content of ``zoo.json``.

    Attributes
    ----------
    name
        timm's style: architecture, a dot, a tag, e.g. ``"resnet18.moco_v2_200ep"``.
    arch
        timm's name of the architecture.
    method
        Name of the pre-training method.
    image_size
        Side in pixels of the training images.
    normalisation
        ``{"mean": [3 numbers], "std": [3 numbers]}`` of pixels in [0, 1].
    interpolation, crop_pct
        How test images are resized, and the part of the side that the centre crop keeps.
    encoder
        Which of the method's encoders this is: ``"query"`` (the trained one) or ``"key"`` (its moving average).
    epochs, steps
        Epochs and optimizer steps that the weights have seen.
    data
        What it was trained on, as ``--data`` names it, without the place where it lay.
    recipe
        The resolved recipe.
    source
        Where the weights come from: ``run``, ``checkpoint``, ``commit``, ``versions``.
    licence
        Of the weights: an SPDX identifier; None where nobody stated one.
    licence_link
        Where the text of a licence stands that neither SPDX nor the Hub knows.
    created
        UTC, ISO 8601.
    timm_native
        Whether timm loads the folder without ``import zoo.backbones``. This and what follows is filled in when the folder is written.
    num_features, parameters
        Length of a feature; number of parameters.
    fixed_input
        Whether the network is built for images of ``image_size``.
    file_sha256, tensors_sha256
        Of ``model.safetensors``, and of the tensors in it (:mod:`zoo.hashing`).
    curve_sha256
        Of ``training_curve.png``; None where there is no picture.
    classes
        Of a classifier, the names of its outputs in their order; empty for a backbone.
    backbone_sha256
        Of a classifier, ``tensors_sha256`` of its tensors without the layer that gives the classes.
    results
        What was measured with these weights; all of it is on the card.
    """

    name: str
    arch: str
    method: str | None
    image_size: Annotated[int, SIDE]
    normalisation: dict[str, list[float]]
    interpolation: str
    crop_pct: Annotated[float, Range(0, above=True)]
    encoder: str | None = None
    epochs: Annotated[int | None, _COUNT] = None
    steps: Annotated[int | None, _COUNT] = None
    data: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None
    created: str = ""
    timm_native: bool = True
    num_features: Annotated[int, _COUNT] = 0
    parameters: Annotated[int, _COUNT] = 0
    fixed_input: bool = False
    file_sha256: str = ""
    tensors_sha256: str = ""
    curve_sha256: str | None = None
    licence_link: str | None = None
    classes: tuple[str, ...] = ()
    backbone_sha256: str | None = None
    results: tuple[Result, ...] = ()

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise UserError(f"'{self.name}' cannot name a zoo model: use letters, digits, '.', '_' and '-', such as resnet18.moco_200ep")

    @property
    def mean(self) -> tuple[float, float, float]:
        return three_channels(self.normalisation["mean"])

    @property
    def std(self) -> tuple[float, float, float]:
        return three_channels(self.normalisation["std"])

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``zoo.json``."""
        known = asdict(replace(self, results=()))
        for name in _WHERE_NEEDED:
            if not known[name]:
                del known[name]
        known |= {"classes": list(self.classes)} if self.classes else {}
        return {"schema": SCHEMA, **known, "results": [result.to_dict() for result in self.results]}

    @property
    def arguments(self) -> dict[str, Any]:
        """For timm's constructor, where the network is not the architecture as timm has it (``source`` keeps them as ``model_args``)."""
        arguments = self.source.get("model_args", {})
        return dict(arguments) if isinstance(arguments, Mapping) else {}

    def to_json(self) -> str:
        """The text of ``zoo.json``."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def is_zoo_model(path: str | Path) -> bool:
    """Whether ``path`` is a zoo model folder."""
    return (Path(path) / MANIFEST_FILE).is_file()


def read_manifest(folder: str | Path) -> Manifest:
    """Read and check a folder's ``zoo.json``.

    Raises
    ------
    UserError
        The file is missing, not JSON, of a newer schema, lacks a field, or holds one of the wrong kind; the field is named, what stands
        there and what is expected.
    """
    path = Path(folder) / MANIFEST_FILE
    content = read_json_object(path)
    schema = content.pop("schema", None)
    if type(schema) is not int or schema != SCHEMA:
        raise UserError(
            f"{path} has schema {schema!r}, and this version reads schema {SCHEMA}; update the toolkit or export the model again"
        )
    try:
        results = _read_results(content.pop("results", None))
        manifest = replace(read_fields(Manifest, {**content, "results": []}, later=_LATER_FIELDS), results=results)
        _check(manifest)
    except (FieldError, ResultError) as error:
        raise UserError(f"{path} is not a valid zoo.json: {error}") from error
    return manifest


def _read_results(values: object) -> tuple[Result, ...]:
    if not isinstance(values, list):
        raise FieldError("it lacks 'results', a list" if values is None else "'results' is no list")
    try:
        return tuple(map(Result.from_dict, values))
    except ResultError as error:
        raise FieldError(f"one of its results is none, since {error}") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError where there is none."""
    if not path.exists():
        raise UserError(f"{path.parent} has no {path.name}, so it is not a whole zoo model folder")
    return read_record(path)


@dataclass(frozen=True)
class _Settings:
    """Of ``pretrained_cfg`` in ``config.json``, what timm prepares images by."""

    input_size: tuple[int, Annotated[int, SIDE], Annotated[int, SIDE]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_pct: float


@dataclass(frozen=True)
class Config:
    """Of ``config.json``, which timm reads, what is looked at here."""

    architecture: str
    pretrained_cfg: dict[str, Any]
    model_args: dict[str, Any] = field(default_factory=dict)
    num_classes: Annotated[int, _COUNT] = 0
    label_names: tuple[str, ...] | None = None


def read_config(folder: str | Path) -> Config:
    """A folder's ``config.json``. Raises UserError where it is missing, not JSON, or holds a value of the wrong kind."""
    path = Path(folder) / CONFIG_FILE
    content = read_json_object(path)
    try:
        config = read_fields(Config, _known(Config, content), later=frozenset({"model_args", "num_classes", "label_names"}))
        read_fields(_Settings, _known(_Settings, config.pretrained_cfg))
    except FieldError as error:
        raise UserError(f"{path} is not a config.json of timm: {error}") from error
    return config


def _known(kind: type[Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an object that ``kind`` has fields for: timm has more of them with every version."""
    names = {item.name for item in fields(kind)}
    return {name: value for name, value in content.items() if name in names}


def _check(manifest: Manifest) -> None:
    """Raise FieldError for what the types of the fields do not say."""
    for name in ("file_sha256", "tensors_sha256", "curve_sha256", "backbone_sha256"):
        value = getattr(manifest, name)
        if value is not None and _SHA256.fullmatch(value) is None:
            raise FieldError(f"{name} is not 64 hex digits")
    if len(set(manifest.classes)) < len(manifest.classes):
        raise FieldError("'classes' has a name twice")
    if bool(manifest.classes) != (manifest.backbone_sha256 is not None):
        raise FieldError("'classes' and 'backbone_sha256' are both of a classifier: one of them is missing")
    for name in ("mean", "std"):
        if len(manifest.normalisation.get(name, ())) != 3:
            raise FieldError(f"'normalisation' has no {name} of three numbers")
    if min(manifest.normalisation["std"]) <= 0:
        raise FieldError("'normalisation' has a std that is not above 0")
