"""Weights that others publish through their own libraries: timm's and torchvision's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
import torch
import torchvision
from huggingface_hub import constants
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
from zoo.models.classifiers import class_names, load_classifier, told_apart
from zoo.models.model import Inputs, Model
from zoo.models.transforms import crop_pct_of
from zoo.reading.reach import why_away

# Where torchvision's weights lie.
TORCHVISION_HOST = "download.pytorch.org"
_NO_NETWORK = "without network, put the file in the cache first, or use a zoo model, a run or random:ARCH"


def open_timm(name: str, image_size: int | None, *, classifier: bool = False) -> Model:
    """A timm network with its pretrained weights; ``name`` may have a tag (``resnet50.a1_in1k``), else timm's default is taken.

    ``classifier``: with the layer that gives its classes, where these weights have one.
    """
    if not timm.models.is_model_pretrained(name):
        _refuse_timm_name(name)
    arguments = size_arguments(name, image_size)
    known = timm.models.get_pretrained_cfg(name)
    away = why_away(constants.ENDPOINT) if known is not None and known.hf_hub_id and not constants.HF_HUB_OFFLINE else None
    try:
        # Made with its classifier and stripped of it afterwards: timm loads strictly only where the class count is that of the file, and
        # a load that is not strict would let missing tensors pass in silence.
        with torch.random.fork_rng(devices=[]), _from_the_cache(away is not None):
            network: Any = timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # the download clients raise errors of unrelated families
        raise UserError(f"the weights of 'timm:{name}' cannot be loaded ({away or root_cause(error)}); {_NO_NETWORK}") from error
    config = timm_config(network)
    if classifier and network.num_classes > 0:
        whole, classes = network.eval(), class_names(config, network.num_classes)
        return _published("timm", _timm_name(config), config["architecture"], whole, _side(whole, image_size), config, {}, classes)
    network.reset_classifier(0)
    arch = config["architecture"]
    module = checked(network, name, image_size)
    return _published("timm", _timm_name(config), arch, module, _side(module, image_size), config, {"license": config.get("license")})


@contextmanager
def _from_the_cache(alone: bool) -> Iterator[None]:
    """Have the Hub's client look no further than its cache, where ``alone``: what it does itself by HF_HUB_OFFLINE."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or alone
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _timm_name(config: dict[str, Any]) -> str:
    tag = config.get("tag")
    return f"{config['architecture']}.{tag}" if tag else str(config["architecture"])


def _side(network: nn.Module, image_size: int | None) -> int:
    return image_size if image_size is not None and fixed_input(network) else native_size(network)


def open_torchvision(name: str, image_size: int | None, *, classifier: bool = False) -> Model:
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
    classes: tuple[str, ...] = ()
    if classifier:
        names = list(weights.meta["categories"])
        classes = told_apart(names, list(map(str, range(len(names)))))
        module = load_classifier(arch, state, f"torchvision:{name}", len(classes))
    else:
        module = create_empty_backbone(arch)
        load_state(module, {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}, f"torchvision:{name}")
    if image_size is not None and not classifier:
        checked(module, arch, image_size)
    config = {
        "mean": tuple(test.mean),
        "std": tuple(test.std),
        "interpolation": test.interpolation.value,
        "crop_pct": crop_pct_of(int(test.resize_size[0]), side),
    }
    return _published("torchvision", f"{arch}.{weights.name.lower()}", arch, module, side, config, {"url": weights.url}, classes)


def _published(
    kind: str,
    name: str,
    arch: str,
    module: nn.Module,
    side: int,
    config: dict[str, Any],
    metadata: dict[str, Any],
    classes: tuple[str, ...] = (),
) -> Model:
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
        classes=classes,
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
