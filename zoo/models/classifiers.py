"""Classifiers: timm's networks with the linear layer that turns features into classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from zoo.backbones import load_state, size_arguments, timm_config
from zoo.errors import UserError, first_line

# Images and relative difference by which a network's own classes are compared with the layer on top of its features.
_CHECKED_IMAGES, _SAME = 2, 1e-4


def build_classifier(arch: str, arguments: Mapping[str, Any], classes: int, *, image_size: int | None = None) -> nn.Module:
    """timm's network with ``classes`` outputs, in eval mode; weights are to be loaded next, and torch's global generator is left as it is.

    Raises UserError for a network that has no linear layer at its end.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = timm.create_model(arch, num_classes=classes, **size_arguments(arch, image_size), **arguments)
    except Exception as error:  # an architecture refuses in its own way
        raise UserError(f"'{arch}' cannot be built with {classes} classes ({first_line(error)})") from error
    linear_layers(network)
    return network.eval()


def linear_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers that give the classes, by name: one, or two whose mean counts (distilled transformers).

    Raises UserError where they are none, or something else than linear layers.
    """
    config = timm_config(network)
    names = config.get("classifier") or ()
    found: dict[str, nn.Module] = {}
    for name in (names,) if isinstance(names, str) else names:
        layer = dict(network.named_modules()).get(name)
        linear = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1)
        if layer is None or not linear:
            found = {}
            break
        found[name] = layer
    if not found:
        raise UserError(f"'{config['architecture']}' has no linear layer at its end, so it cannot keep a classifier; take another network")
    return found


def head_keys(network: nn.Module) -> set[str]:
    """Names of the tensors of :func:`linear_layers`."""
    return {f"{name}.{key}" for name, layer in linear_layers(network).items() for key in layer.state_dict()}


def with_head(network: nn.Module, backbone: nn.Module, weight: Tensor, bias: Tensor, side: int) -> nn.Module:
    """``network`` with the tensors of ``backbone`` and of a linear layer on top.

    Parameters
    ----------
    network
        Of :func:`build_classifier`.
    backbone
        The same architecture without classifier, on the CPU, in eval mode.
    weight, bias
        float32 (C, D) and (C,).
    side
        Of images that the network takes, in pixels.

    Raises
    ------
    UserError
        The network does not compute ``weight @ backbone(images) + bias``.
    """
    arch = timm_config(network)["architecture"]
    layers, state = linear_layers(network), dict(backbone.state_dict())
    for name, layer in layers.items():
        own = layer.state_dict()
        if "bias" not in own or own["weight"].numel() != weight.numel():
            raise UserError(f"the last layer of '{arch}' is not one from {weight.shape[1]} features to {len(weight)} classes with a bias")
        state |= {f"{name}.weight": weight.reshape(own["weight"].shape), f"{name}.bias": bias}
    load_state(network, state, "the trained classifier", arch)
    setattr(network, "num_features", backbone.num_features)  # noqa: B010 - nn.Module types attributes as tensors and modules
    images = torch.randn(_CHECKED_IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = torch.addmm(bias, backbone(images), weight.T), network(images)
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=_SAME, atol=_SAME * float(expected.abs().max())):
        raise UserError(f"'{arch}' does more behind its features than one linear layer, so it cannot keep this classifier")
    return network


def load_classifier(
    arch: str,
    state: Mapping[str, Tensor],
    source: str,
    classes: int,
    *,
    image_size: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A classifier with given weights, in eval mode, on the CPU; every tensor is accounted for (:func:`zoo.backbones.load_state`)."""
    network = build_classifier(arch, arguments or {}, classes, image_size=image_size)
    load_state(network, state, source)
    return network


def class_names(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names of the outputs of a network of timm's: those of its settings, else ImageNet's where the number is that of one of its sets, as
    timm takes it, else numbers.

    Two classes of one name (the crane is a bird and a machine) have another word for them behind it.
    """
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    numbers = list(map(str, range(count)))
    names = list(map(str, config.get("label_names") or ()))
    described = config.get("label_descriptions") or {}
    if len(names) == count:
        told = [str(described.get(name, name)) for name in names] if isinstance(described, Mapping) else list(map(str, described))
        return told_apart(told if len(told) == count else names, names)
    subset = infer_imagenet_subset({"num_classes": count})
    if subset is None:
        return tuple(numbers)
    info = ImageNetInfo(subset)
    return told_apart(
        [info.index_to_description(number) for number in range(count)], [info.index_to_label_name(number) for number in range(count)]
    )


def told_apart(names: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """The names, each that stands there twice with its entry of ``others`` behind it."""
    counts = Counter(names)
    return tuple(f"{name} ({other})" if counts[name] > 1 else name for name, other in zip(names, others, strict=True))
