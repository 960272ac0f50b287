"""ONNX: a network that runs without torch, checked by onnxruntime."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from transfer.formats.target import Target, check_features, check_images
from zoo.backbones import SMALL_STEM_NAMES, TORCHVISION_NAMES, native_size
from zoo.models.model import Model
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD

INPUT, OUTPUT = "images", "features"
OPSET = 18
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
# Sides that the check tries beside the model's own, where the file takes any: with one that no stage divides evenly.
_OTHER_SIDES = (65, 96)


def _refusal(model: Model) -> str | None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    return f"{', '.join(missing)} missing; pip install {' '.join(_NEEDED)}" if missing else None


def _any_size(model: Model) -> bool:
    """Whether the file may take images of any size: true of ResNets; other networks may have their own size built in."""
    return model.arch in TORCHVISION_NAMES + SMALL_STEM_NAMES


def _write(model: Model, path: Path) -> None:
    import onnx

    side = model.input_size or native_size(model.module)
    sizes = {0: torch.export.Dim("batch")}
    if _any_size(model):
        sizes |= {2: torch.export.Dim("height", min=32), 3: torch.export.Dim("width", min=32)}
    # The exporter tells of its steps on standard output and warns of torch's own matters.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.module,
            (check_images(side),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(sizes,),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    facts = {
        "arch": model.arch,
        "mean": json.dumps(list(model.mean or IMAGENET_MEAN)),
        "std": json.dumps(list(model.std or IMAGENET_STD)),
        "channels": "RGB, pixels in [0, 1]",
        "tensors_sha256": model.tensors_sha256,
    }
    onnx.helper.set_model_props(proto, facts)
    path.write_bytes(proto.SerializeToString())


def _check(model: Model, path: Path) -> list[str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def theirs(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    lines = [check_features(model, theirs, "onnx")]
    if _any_size(model):
        for side in _OTHER_SIDES:
            check_features(model, theirs, f"onnx ({side} px)", side)
        lines.append(f"and at {' and '.join(map(str, _OTHER_SIDES))} px")
    return lines


ONNX = Target(
    suffix=".onnx",
    refusal=_refusal,
    write=_write,
    check=_check,
    usage=lambda model, path: (
        f"features = onnxruntime.InferenceSession({str(path)!r}).run(None, {{{INPUT!r}: images}})[0]"
        "  # float32 (B, 3, H, W), normalised by the file's mean and std"
    ),
)
