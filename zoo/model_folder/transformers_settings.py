"""What transformers' ``config.json`` and ``preprocessor_config.json`` say of a network's function and of its images. Imports no torch.

The tensors' names and shapes do not say it: the number of heads, the activation, the epsilon of norms, where a block has its stride.
Source: the configuration classes of transformers 5.24.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.model_folder.importing import Preprocessing
from zoo.normalisation import three_channels
from zoo.ranges import SIDE, Range
from zoo.reading.outside import read_record, told

_HEADS, _EPSILON = "num_attention_heads", "layer_norm_eps"
_GELU = {"hidden_act": ("gelu",)}
# model_type -> what its settings must be for timm's networks to compute the same.
_AS_TIMM: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "resnet": {"hidden_act": ("relu",), "downsample_in_bottleneck": (False,), "downsample_in_first_stage": (False,)},
    **dict.fromkeys(("vit", "deit", "vit_mae", "vit_msn", "dinov2", "dinov2_with_registers", "ijepa", "beit", "convnext", "swin"), _GELU),
}
# Those whose heads are said by one number, which zoo import's --heads takes.
_WITH_HEADS = ("vit", "deit", "vit_mae", "vit_msn", "dinov2", "dinov2_with_registers", "ijepa")
# timm's vision transformers have 1e-6, transformers' default of a ViT is 1e-12. Beside a variance of activations near 1 neither is seen;
# beside that of fresh random weights, some 1e-4, features differ in the third digit. Larger ones are refused.
_LARGEST_EPSILON = 1e-5
# PIL's resampling filters (`resample`) that the zoo has.
_RESAMPLING = {2: "bilinear", 3: "bicubic"}


def function_settings(content: Mapping[str, Any], where: str) -> int | None:
    """The number of heads that a ``config.json`` says, where it is one of transformers' vision transformers; else None.

    Raises UserError, which begins with ``where``, for a setting that makes another function than timm's network of the same shapes.
    """
    kind = content.get("model_type")
    if not isinstance(kind, str):
        return None
    for name, usual in _AS_TIMM.get(kind, {}).items():
        value = content.get(name, usual[0])
        if value not in usual:
            raise UserError(
                f"{where} says {name} {told(value)} of a '{kind}', where timm's networks have {told(usual[0])}: every shape fits, and the "
                "features would be wrong"
            )
    epsilon = content.get(_EPSILON, 0.0)
    if type(epsilon) not in (int, float) or not 0 <= epsilon <= _LARGEST_EPSILON:
        raise UserError(f"{where} says {_EPSILON} {told(epsilon)}, and the norms of timm's networks have at most {_LARGEST_EPSILON:g}")
    heads = content.get(_HEADS) if kind in _WITH_HEADS else None
    if heads is not None and (type(heads) is not int or heads < 1):
        raise UserError(f"{where} says {_HEADS} {told(heads)}, which is no number of heads")
    return heads


def read_preprocessing(path: Path) -> Preprocessing:
    """What a ``preprocessor_config.json`` says, as far as it is of the kinds that the zoo has."""
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
