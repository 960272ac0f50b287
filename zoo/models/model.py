"""A model that is open: a backbone, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from zoo.backbones import feature_width, fixed_input
from zoo.hashing import tensors_sha256

Channels = Literal["rgb", "bgr"]
# Kinds of models that may have a classifier, which is there or not as it is asked for.
KINDS_WITH_CLASSES = ("zoo", "timm", "torchvision")


@dataclass(frozen=True)
class Inputs:
    """What a network declares of the images that it takes; None where it says nothing.

    Attributes
    ----------
    mean, std
        Per-channel statistics, in the order of the channels, of pixels in [0, 1].
    channels
        The order of the channels as they reach the network.
    """

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    channels: Channels | None = None


@dataclass(frozen=True)
class Model:
    """A backbone, and what must be known to use it and to say which one it was.

    Attributes
    ----------
    module
        In eval mode; float32 images (B, 3, H, W), normalised, -> features (B, D).
    name
        What results call it.
    kind
        ``"zoo"``, ``"run"``, ``"file"``, ``"timm"``, ``"torchvision"``, ``"python"``, ``"random"`` or ``"pixels"``.
    arch
        timm's name of the architecture; ``"pixels"`` for raw pixels; the function's name for a network of one's own.
    num_features
        D, for a classifier the number of its classes; None where only a forward pass tells: for raw pixels, networks of one's own, and
        inner layers.
    input_size
        Side in pixels of the images it was made for; None where any will do.
    fixed_input
        Whether the network was built for images of ``input_size`` and takes no others (most vision transformers).
    mean, std
        Per-channel statistics, in the order of ``channels``, that its images are normalised with; None: those of the data.
    channels
        The order in which the channels reach the network.
    declared
        What the network says of its input; other values than these may be used, and evaluations then warn.
    layer
        The layer whose output ``module`` gives (:mod:`zoo.models.layers`); None for the network's own output.
    classes
        Of a classifier, the names of its outputs in their order: ``module`` then gives these and not features. Empty for a backbone.
    notes
        What was done when it was opened that a user should know.
    interpolation, crop_pct
        How test images are resized, and which part of the side the centre crop keeps; None: no preference.
    file_sha256
        Of the weights' file; None where there is not one such file.
    tensors_sha256
        :func:`zoo.hashing.tensors_sha256` of the backbone.
    metadata
        The zoo.json of a zoo model; encoder, step and recipe of a run; else what is known.
    """

    module: nn.Module
    name: str
    kind: str
    arch: str
    num_features: int | None
    tensors_sha256: str
    input_size: int | None = None
    fixed_input: bool = False
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    channels: Channels = "rgb"
    declared: Inputs = field(default_factory=Inputs)
    layer: str | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    interpolation: str | None = None
    crop_pct: float | None = None
    file_sha256: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_backbone(cls, backbone: nn.Module, **facts: Any) -> Model:
        """A model of a timm network, in eval mode from now on; what the network itself tells is filled in, beside the ``facts`` given.

        That is the length of its features, whether it takes one size of images only, and the hash of its tensors.
        """
        facts.setdefault("tensors_sha256", tensors_sha256(backbone.state_dict()))
        width = len(facts.get("classes", ())) or feature_width(backbone)
        return cls(backbone.eval(), num_features=width, fixed_input=fixed_input(backbone), **facts)
