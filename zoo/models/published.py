"""Weights that others publish through their own libraries: timm's and torchvision's."""

from __future__ import annotations

from typing import Any

import timm
import torch
import torchvision
from torch import nn

from zoo.backbones import (
    TORCHVISION_NAMES,
    checked,
    create_empty_backbone,
    fixed_input,
    load_state,
    native_size,
    size_arguments,
    timm_config,
)
from zoo.errors import UserError, did_you_mean, root_cause
from zoo.models.model import Inputs, Model

# Where torchvision's weights lie.
TORCHVISION_HOST = "download.pytorch.org"
_NO_NETWORK = "without network, put the file in the cache first, or use a zoo model, a run or random:ARCH"


def open_timm(name: str, image_size: int | None) -> Model:
    """A timm network with its pretrained weights; ``name`` may have a tag (``resnet50.a1_in1k``), else timm's default is taken."""
    if not timm.models.is_model_pretrained(name):
        _refuse_timm_name(name)
    arguments = size_arguments(name, image_size)
    try:
        # Made with its classifier and stripped of it afterwards: timm loads strictly only where the class count is that of the file, and
        # a load that is not strict would let missing tensors pass in silence.
        with torch.random.fork_rng(devices=[]):
            network: Any = timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # the download clients raise errors of unrelated families
        raise UserError(f"the weights of 'timm:{name}' cannot be loaded ({root_cause(error)}); {_NO_NETWORK}") from error
    network.reset_classifier(0)
    config = timm_config(network)
    arch = config["architecture"]
    module = checked(network, name, image_size)
    side = image_size if image_size is not None and fixed_input(module) else native_size(module)
    tag = config.get("tag")
    return _published("timm", f"{arch}.{tag}" if tag else arch, arch, module, side, config, {"license": config.get("license")})


def open_torchvision(name: str, image_size: int | None) -> Model:
    """torchvision's ResNet weights in the timm network of the same key names; ``NAME.WEIGHTS`` picks others than the default ones."""
    arch, _, wanted = name.partition(".")
    if arch not in TORCHVISION_NAMES:
        raise UserError(f"'torchvision:{name}' is not one of the networks whose keys timm shares: {', '.join(TORCHVISION_NAMES)}")
    choices = {weights.name: weights for weights in torchvision.models.get_model_weights(arch)}
    if wanted and wanted.upper() not in choices:
        raise UserError(f"torchvision has no weights '{wanted}' for {arch}; it has: {', '.join(choices)}")
    weights = choices[wanted.upper()] if wanted else torchvision.models.get_model_weights(arch).DEFAULT
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except Exception as error:  # a damaged file in the cache, no network, a wrong hash: errors of unrelated families
        raise UserError(f"the weights of 'torchvision:{name}' cannot be loaded ({root_cause(error)}); {_NO_NETWORK}") from error
    test = weights.transforms()
    side = int(test.crop_size[0])
    module = create_empty_backbone(arch)
    load_state(module, {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}, f"torchvision:{name}")
    if image_size is not None:
        checked(module, arch, image_size)
    config = {
        "mean": tuple(test.mean),
        "std": tuple(test.std),
        "interpolation": test.interpolation.value,
        "crop_pct": side / int(test.resize_size[0]),
    }
    return _published("torchvision", f"{arch}.{weights.name.lower()}", arch, module, side, config, {"url": weights.url})


def _published(kind: str, name: str, arch: str, module: nn.Module, side: int, config: dict[str, Any], metadata: dict[str, Any]) -> Model:
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Model.of_backbone(
        module,
        name=f"{kind}:{name}",
        kind=kind,
        arch=arch,
        input_size=side,
        mean=mean,
        std=std,
        declared=Inputs(mean, std, "rgb"),
        interpolation=config["interpolation"],
        crop_pct=float(config["crop_pct"]),
        metadata={key: value for key, value in metadata.items() if value is not None},
    )


def _refuse_timm_name(name: str) -> None:
    arch = name.partition(".")[0]
    tags = timm.list_pretrained(f"{arch}.*")
    if tags and arch:
        raise UserError(f"timm has no pretrained weights '{name}'; it has: {', '.join(tags)}")
    if timm.is_model(arch):
        raise UserError(f"timm has no pretrained weights for '{arch}'; 'random:{arch}' has random ones")
    raise UserError(f"timm has no network '{arch}'{did_you_mean(arch, timm.list_models(), 3)}")
