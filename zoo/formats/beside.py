"""What lies beside a checkpoint in a folder of transformers: its settings, how its images are prepared, which of the files is the weights.

The folder is what ``save_pretrained`` writes, and what the Hub holds. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.normalisation import three_channels
from zoo.ranges import SIDE, Range
from zoo.reading.outside import read_record

SETTINGS_FILE, IMAGES_FILE = "config.json", "preprocessor_config.json"
# What transformers writes; safetensors first, which holds nothing but tensors.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_PARTS = tuple(f"{name}.index.json" for name in _WEIGHTS)
# Of PIL's resampling filters (`resample` of transformers), those that the zoo has.
_RESAMPLING = {2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of images for a network, as far as somebody stated it.

    Attributes
    ----------
    image_size
        Side in pixels.
    mean, std
        Per channel, RGB, of pixels in [0, 1].
    interpolation, crop_pct
        How test images are resized, and the part of the side that the centre crop keeps.
    """

    image_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None

    def over(self, other: Preprocessing) -> Preprocessing:
        """This one, with what it leaves open as ``other`` has it."""
        return Preprocessing(
            self.image_size or other.image_size,
            self.mean or other.mean,
            self.std or other.std,
            self.interpolation or other.interpolation,
            self.crop_pct or other.crop_pct,
        )


def is_transformers_folder(path: str | Path) -> bool:
    """Whether a folder holds settings and weights as transformers writes them, the latter in one file or in several."""
    folder = Path(path)
    return (folder / SETTINGS_FILE).is_file() and any((folder / name).is_file() for name in (*_WEIGHTS, *_PARTS))


def weights_file(path: str | Path) -> Path:
    """The file of weights in a folder of transformers; any other path as it is.

    Raises UserError where the weights are in several files.
    """
    path = Path(path)
    if not path.is_dir() or not is_transformers_folder(path):
        return path
    for name in _WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise UserError(
        f"the weights in {path} are in several files, which are not read; save them in one: save_pretrained(..., max_shard_size='100GB')"
    )


def settings_beside(weights: str | Path) -> dict[str, Any] | None:
    """``config.json`` of transformers in the folder of a file of weights; None where there is none, or one of others (timm's).

    Raises UserError where the file is no JSON object.
    """
    path = Path(weights).parent / SETTINGS_FILE
    if not path.is_file():
        return None
    content = read_record(path)
    return content if isinstance(content.get("model_type"), str) else None


def images_beside(weights: str | Path) -> Preprocessing:
    """What ``preprocessor_config.json`` in the folder of a file of weights says; nothing where there is none."""
    path = Path(weights).parent / IMAGES_FILE
    return read_preprocessing(path) if path.is_file() else Preprocessing()


def read_preprocessing(path: Path) -> Preprocessing:
    """What transformers' ``preprocessor_config.json`` says, as far as it is of the kinds that the zoo has."""
    content = read_record(path)
    crop, size = (_side(content.get(key)) for key in ("crop_size", "size"))
    side = (crop or size) if content.get("do_center_crop", crop is not None) else size
    mean, std = (_numbers(content.get(key)) for key in ("image_mean", "image_std"))
    percent = content.get("crop_pct")
    if percent not in Range(0.1, 1):
        percent = side / size if side and size and side <= size else None
    resample = content.get("resample")
    return Preprocessing(side, mean, std, _RESAMPLING.get(resample) if type(resample) is int else None, percent)


def _side(value: Any) -> int | None:
    """A side in pixels: a number, or an object with one of the names that transformers has for it."""
    if isinstance(value, Mapping):
        value = value.get("shortest_edge", value.get("height"))
    return value if type(value) is int and value in SIDE else None


def _numbers(values: Any) -> tuple[float, float, float] | None:
    if not isinstance(values, list) or len(values) != 3 or not all(type(value) in (int, float) and 0 <= value <= 1 for value in values):
        return None
    return three_channels(values)
