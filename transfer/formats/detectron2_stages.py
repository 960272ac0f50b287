"""Whether detectron2's ResNet computes what the source model does, stage by stage.

Every part of the way is detectron2's own: it reads the picture, normalises it, loads the file through its checkpointer. Two
comparisons: on one and the same input tensor, where the activations must be bit-equal (weights, names, strides, statistics), and from the
pixels of a PNG file, where they may differ by rounding (channel order, mean, standard deviation). A wrong stride or lost running
statistics change no shape and no message of detectron2's; here they change numbers.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from transfer.formats.detectron2_config import config_values
from zoo.errors import UserError
from zoo.models.model import Model
from zoo.models.transforms import normalise
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD
from zoo.randomness import generator

PIXEL_TOLERANCE = 1e-5  # relative L2 difference of activations; the two normalisations round differently
# Sides of the picture: multiples of 32, which FPN would pad to, and unequal, so that nothing can be transposed unseen.
_HEIGHT, _WIDTH = 64, 96
_OUR_STAGES = {"stem": "maxpool", "res2": "layer1", "res3": "layer2", "res4": "layer3", "res5": "layer4"}


@dataclass(frozen=True)
class StageDifference:
    """How far detectron2's activations after a stage are from the source's.

    Attributes
    ----------
    stage
        ``"stem"`` (after pooling), ``"res2"``, ... ``"res5"``.
    largest
        Largest absolute difference on one and the same input tensor.
    from_pixels
        Relative L2 difference from the pixels of a picture on.
    """

    stage: str
    largest: float
    from_pixels: float

    @property
    def fits(self) -> bool:
        return self.largest == 0.0 and self.from_pixels < PIXEL_TOLERANCE


def check_file(model: Model, path: Path, config: dict[str, Any] | None = None) -> list[str]:
    """Load the pickle ``path`` into detectron2's ResNet and compare it with ``model``.

    Parameters
    ----------
    config
        Config keys and values to check with; None: those that :func:`config_values` gives.

    Returns
    -------
    Lines of a table to print.

    Raises
    ------
    UserError
        The networks differ; the text says from which stage on, and what that points to.
    """
    network = load_resnet(path, {**config_values(model), **(config or {})})
    return stage_table(model, compare_stages(model, network))


def stage_table(model: Model, differences: list[StageDifference]) -> list[str]:
    """A table of the comparison. Raises UserError where it fails."""
    wrong = [difference for difference in differences if not difference.fits]
    if wrong:
        first = wrong[0]
        same_weights = all(difference.largest == 0.0 for difference in differences)
        if same_weights:
            hint = f"the weights agree, so channel order, mean or standard deviation of the pixels are not the model's ({_wanted(model)})"
        elif first.stage == "stem":
            hint = "the stem's weights or statistics are not the model's"
        else:
            hint = f"weights, statistics, shortcut or stride in {first.stage} are not the model's (RESNETS.STRIDE_IN_1X1 must be False)"
        size = f"{first.from_pixels:.2g} from pixels" if same_weights else f"{first.largest:.2g} on one input"
        raise UserError(f"'{model.name}' does not give the same activations in detectron2 from {first.stage} on ({size}): {hint}")
    rows = [f"{difference.stage:<6}bit-equal   {difference.from_pixels:.1e}" for difference in differences]
    return ["stage  same input  from pixels (relative L2)", *rows]


def load_resnet(path: Path, values: dict[str, Any]) -> nn.Module:
    """detectron2's ResNet within its pixel normalisation, with the weights of ``path`` by detectron2's own checkpointer, in eval mode."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import GeneralizedRCNN, build_resnet_backbone

    cfg = get_cfg()
    for key, value in values.items():
        cfg.merge_from_list([key, value])
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = GeneralizedRCNN(
            backbone=build_resnet_backbone(cfg, ShapeSpec(channels=3)),
            proposal_generator=nn.Identity(),
            roi_heads=nn.Identity(),
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            pixel_std=cfg.MODEL.PIXEL_STD,
            input_format=cfg.INPUT.FORMAT,
        )
    with _quiet():
        DetectionCheckpointer(network).load(str(path))
    return network.eval()


@torch.no_grad()
def compare_stages(model: Model, network: Any) -> list[StageDifference]:
    """The activations of a detectron2 model (any GeneralizedRCNN with a ResNet) beside the source's; both keep their mode.

    Of a model with a C4 head, res5 is the head's, without the norm that may follow it.
    """
    from detectron2.data.detection_utils import read_image

    stages = _their_stages(network)
    if next(network.parameters()).device.type != "cpu":
        # Bit-equality is a matter of one device.
        stages = {name: copy.deepcopy(stage).cpu().eval() for name, stage in stages.items()}
    training = network.training
    network.eval()
    try:
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "noise.png"
            pixels = generator(0, "stages").integers(0, 256, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(picture)
            seen = read_image(str(picture), format=network.input_format)
        ours = normalise(torch.from_numpy(pixels)[None], model.mean or IMAGENET_MEAN, model.std or IMAGENET_STD)
        theirs = network.preprocess_image([{"image": torch.from_numpy(seen.transpose(2, 0, 1).copy())}]).tensor.cpu()
        wanted = _our_activations(model.module, ours)
        same, pixelwise = ours, theirs
        differences = []
        for name, stage in stages.items():
            same, pixelwise = stage(same), stage(pixelwise)
            differences.append(StageDifference(name, _largest(same, wanted[name]), _relative(pixelwise, wanted[name])))
    finally:
        network.train(training)
    return differences


def _their_stages(network: Any) -> dict[str, nn.Module]:
    bottom_up = getattr(network.backbone, "bottom_up", network.backbone)
    stages = {"stem": bottom_up.stem, **{name: getattr(bottom_up, name) for name in list(_OUR_STAGES)[1:] if hasattr(bottom_up, name)}}
    if "res5" not in stages:
        # The norm of MoCo's protocol is the head's own and has no counterpart.
        stages["res5"] = nn.Sequential(*(block for name, block in network.roi_heads.res5.named_children() if name != "norm"))
    return stages


def _our_activations(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Activations after each stage of a timm ResNet."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = output

        return hook

    handles = [module.get_submodule(ours).register_forward_hook(keep(name)) for name, ours in _OUR_STAGES.items()]
    try:
        module(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _largest(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    difference = (found.cpu() - wanted).abs().max().item()
    return difference if difference == difference else float("inf")


def _relative(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    difference = ((found.cpu() - wanted).norm() / wanted.norm()).item()
    return difference if difference == difference else float("inf")


def _wanted(model: Model) -> str:
    values = config_values(model)
    return ", ".join(f"{key} {values[key]}" for key in ("INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep detectron2's lists of matched and missing names to itself: the numbers say more."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
