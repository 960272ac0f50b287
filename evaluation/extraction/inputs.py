"""Whether a network gets the input that it was made for: normalisation, order of channels, mode.

A network that gets another input still gives features, and numbers that only look low (BGR for RGB cost a ResNet-20 on CIFAR-10 some
nine points). What a network declares is compared with what it gets. A wrong normalisation shows without that: batch norms keep the mean
and variance of what they saw in training. A wrong order of channels does not, for it moves these less than another data set does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from evaluation.extraction.features import eval_mode
from evaluation.extraction.forward import vectors
from zoo.data.base import Images
from zoo.models.model import Model
from zoo.models.transforms import EvalTransform
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD

# Images that are looked at: enough for a mean per channel, few enough to be no time at all.
_PROBED = 64
# Declared and used statistics that differ by no more mean the same.
_SAME_STATISTICS = 2e-3
# Relative difference of features from which an image's batch, or chance, has a say in them; rounding is a thousandth of it.
_SAME_FEATURES = 1e-2
# Another input must explain the statistics of the first batch norm so many times better, and these must be so far off (nats per channel).
_TIMES_BETTER, _FAR_OFF = 3.0, 0.02
_NAMED_LAYERS = 3


def input_warnings(model: Model, images: Images, transform: EvalTransform, device: torch.device) -> list[str]:
    """What is doubtful about the input that ``transform`` gives the model, a sentence each; empty where nothing is.

    Parameters
    ----------
    images
        Of the data that the model is evaluated on; some 64 of them go through the network.

    Raises
    ------
    UserError
        An image cannot be decoded, or the network gives something else than one vector for each image.
    """
    if model.kind == "pixels":
        return []
    found = _declared(model, transform)
    sample = images.subset(np.unique(np.linspace(0, len(images) - 1, min(len(images), _PROBED)).round().astype(np.int64)))
    pixels = torch.stack([torch.from_numpy(transform.crop_pil(sample.read(index))) for index in range(len(sample))]).to(device)
    network = model.module.to(device)
    with torch.inference_mode(), eval_mode(network):
        found += _mode(network, transform.normalise(pixels))
        found += _statistics(network, pixels, transform)
    return found


def _declared(model: Model, transform: EvalTransform) -> list[str]:
    declared, found = model.declared, []
    for name, said, used in (("mean", declared.mean, transform.mean), ("std", declared.std, transform.std)):
        if said is not None and max(abs(a - b) for a, b in zip(said, used, strict=True)) > _SAME_STATISTICS:
            found.append(f"it declares the {name} {_numbers(said)} and gets images normalised by {_numbers(used)}")
    if declared.channels is not None and declared.channels != transform.channels:
        found.append(f"it declares channels in the order {declared.channels} and gets {transform.channels}")
    if model.kind == "python" and declared.mean is None and model.mean is None:
        found.append(
            f"it declares no mean and std, so those of the data are used, {_numbers(transform.mean)} and {_numbers(transform.std)}"
        )
    return found


def _mode(network: nn.Module, images: Tensor) -> list[str]:
    stuck = [name or type(module).__name__ for name, module in network.named_modules() if module.training]
    if stuck:
        more = f" and {len(stuck) - _NAMED_LAYERS} more" if len(stuck) > _NAMED_LAYERS else ""
        norms = sum(module.training for module in network.modules() if isinstance(module, _BatchNorm))
        own = f"{norms} batch norm{'s use' if norms > 1 else ' uses'} each batch's own statistics"
        told = f"; {own}, so that its features depend on --batch-size" if norms else ""
        return [f"it stays in training mode when it is put into eval mode ({', '.join(stuck[:_NAMED_LAYERS])}{more}){told}"]
    if len(images) < 2:
        return []
    half = len(images) // 2
    together, again, apart = (vectors(network(part), len(part))[:half] for part in (images, images, images[:half]))
    if _far(together, again):
        return ["it gives other features each time, though in eval mode: some layer draws at random"]
    if _far(together, apart):
        return ["the features of an image depend on the others in its batch, though in eval mode: some layer normalises by the batch"]
    return []


def _far(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).float().norm() > _SAME_FEATURES * a.float().norm())


def _statistics(network: nn.Module, pixels: Tensor, transform: EvalTransform) -> list[str]:
    """Whether the first batch norm was trained on images of another usual normalisation."""
    norm = _first_batch_norm(network, transform.normalise(pixels[:1]))
    if norm is None:
        return []
    candidates = {
        "pixels in [0, 1] without normalisation": replace(transform, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        "images normalised by ImageNet's mean and std": replace(transform, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        "images normalised by a mean and std of 0.5": replace(transform, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    }
    used = _distance(network, norm, transform.normalise(pixels))
    distances = {text: _distance(network, norm, candidate.normalise(pixels)) for text, candidate in candidates.items()}
    best = min(distances, key=lambda text: distances[text])
    if used > _FAR_OFF and used > _TIMES_BETTER * distances[best]:
        return [f"what its first batch norm saw in training looks like {best}, and it gets other ones"]
    return []


def _first_batch_norm(network: nn.Module, image: Tensor) -> _BatchNorm | None:
    """The batch norm that is used first, if it has gathered statistics."""
    order: list[_BatchNorm] = []
    handles = [
        module.register_forward_pre_hook(lambda used, _inputs: order.append(used))
        for module in network.modules()
        if isinstance(module, _BatchNorm)
    ]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    first = order[0] if order else None
    if first is None or first.running_mean is None or first.running_var is None:
        return None
    untouched = bool((first.running_mean == 0).all()) and bool((first.running_var == 1).all())
    return None if untouched else first


class _Seen(Exception):
    """The rest of a forward pass is of no interest."""


@contextmanager
def _input_of(norm: _BatchNorm) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []

    def stop(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].float())
        raise _Seen

    handle = norm.register_forward_pre_hook(stop)
    try:
        yield seen
    finally:
        handle.remove()


def _distance(network: nn.Module, norm: _BatchNorm, images: Tensor) -> float:
    """Kullback-Leibler divergence of normal laws, nats per channel: what the batch norm gets here against what it has seen."""
    with _input_of(norm) as seen, suppress(_Seen):
        network(images)
    values = seen[0].transpose(0, 1).flatten(1)
    mean, variance = values.mean(1), values.var(1).clamp(min=1e-12)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    expected = norm.running_var.clamp(min=1e-12)
    ratio = variance / expected
    return float((0.5 * (ratio - 1 - ratio.log() + (mean - norm.running_mean) ** 2 / expected)).median())


def _numbers(values: tuple[float, float, float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
