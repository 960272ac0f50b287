"""What detectron2 must be told of a model's weights."""

from __future__ import annotations

from typing import Any

from transfer.formats.detectron2_names import DEPTHS, is_basic
from zoo.models.model import Model
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD


def config_values(model: Model) -> dict[str, Any]:
    """What a detectron2 config must say for the model's weights, by key.

    detectron2's own defaults are those of Caffe's weights: BGR, a standard deviation of 1, the stride in the 1x1 convolution.
    """
    depth = DEPTHS[model.arch]
    values: dict[str, Any] = {
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [round(255 * value, 4) for value in model.mean or IMAGENET_MEAN],
        "MODEL.PIXEL_STD": [round(255 * value, 4) for value in model.std or IMAGENET_STD],
    }
    if is_basic(depth):
        values["MODEL.RESNETS.RES2_OUT_CHANNELS"] = 64
    return values
