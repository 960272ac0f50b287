"""Backbones: any timm encoder by name, and ResNets with a stem for small images.

A backbone is a timm network without classifier. Its forward takes normalised float32 images (B, 3, H, W) and gives pooled features
(B, D), with D = ``num_features``. For a vision transformer that is the class token if the network has one, else the mean of the patch
tokens; the few whose trained pooling is another part of the network keep it (BEiT and EVA-02 normalise the mean, SigLIP attends).

Importing this module registers ``resnet18_small``, ``resnet34_small``, ``resnet50_small`` and, for work on a CPU, ``resnet10_small`` with
timm's registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import timm
import torch
from timm.layers import create_norm
from timm.layers.norm import LayerNorm
from timm.models import build_model_with_cfg, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from zoo.errors import UserError, did_you_mean, first_line, listed
from zoo.ranges import STEM_PADDING

# ResNets whose timm networks have torchvision's key names and compute what torchvision's compute.
TORCHVISION_NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
SMALL_STEM_NAMES = ("resnet10_small", "resnet18_small", "resnet34_small", "resnet50_small")
_MOST_SIDE_COMPUTED = 1024  # pixels: whether a network takes larger images is found without computing its features
# What vision transformers have instead of the exact GELU, by timm's names.
ACTIVATIONS = ("quick_gelu", "gelu_tanh", "relu", "silu")
_STEM_REDUCTION = 4  # the ImageNet stem halves the image twice (stride 2, pool); the small one never does


class WeightsError(UserError):
    """Weights that do not fit an architecture.

    Attributes
    ----------
    wanted, missing
        The names of the architecture's tensors, and those of them that the weights lack.
    """

    def __init__(self, text: str, wanted: Iterable[str], missing: Sequence[str]) -> None:
        super().__init__(text)
        self.wanted = frozenset(wanted)
        self.missing = tuple(missing)


class SmallStemResNet(ResNet):
    """A ResNet for images of some 32 pixels: conv1 is 3x3 with stride 1, and nothing is pooled before the first stage.

    The stem that CIFAR ResNets have in the contrastive literature (Chen et al., "A simple framework for contrastive learning of visual
    representations", ICML 2020, appendix B.9). Key names are those of the ordinary ResNet; only ``conv1.weight`` has another shape.

    ``stem_padding`` is conv1's, in pixels; solo-learn's networks have 2.
    """

    def __init__(self, *args: Any, stem_padding: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        large: Tensor = self.get_parameter("conv1.weight")
        small = nn.Conv2d(large.shape[1], large.shape[0], 3, padding=stem_padding, bias=False, device=large.device, dtype=large.dtype)
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
        self.add_module("conv1", small)
        self.add_module("maxpool", nn.Identity())
        stages: list[dict[str, Any]] = self.feature_info
        for stage in stages:
            stage["reduction"] = max(1, stage["reduction"] // _STEM_REDUCTION)


# timm reads this table when a model of this module is registered.
default_cfgs = {
    name: {
        "input_size": (3, 32, 32),
        "pool_size": (4, 4),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "first_conv": "conv1",
        "classifier": "fc",
    }
    for name in SMALL_STEM_NAMES
}


def _small(name: str, block: type[nn.Module], layers: tuple[int, ...], pretrained: bool, **kwargs: Any) -> nn.Module:
    model: nn.Module = build_model_with_cfg(SmallStemResNet, name, pretrained, block=block, layers=layers, **kwargs)
    return model


@register_model
def resnet10_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """One basic block a stage, half of ResNet-18's widths, the small-image stem: an eighth of ResNet-18's cost. No published network."""
    return _small("resnet10_small", BasicBlock, (1, 1, 1, 1), pretrained, channels=(32, 64, 128, 256), **kwargs)


@register_model
def resnet18_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-18 with the small-image stem."""
    return _small("resnet18_small", BasicBlock, (2, 2, 2, 2), pretrained, **kwargs)


@register_model
def resnet34_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-34 with the small-image stem."""
    return _small("resnet34_small", BasicBlock, (3, 4, 6, 3), pretrained, **kwargs)


@register_model
def resnet50_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-50 with the small-image stem."""
    return _small("resnet50_small", Bottleneck, (3, 4, 6, 3), pretrained, **kwargs)


def _eps_name(eps: float) -> str:
    return f"layernorm{eps:g}"


# Layer norms with another epsilon than timm's 1e-6, by names that timm's constructors take once this module is imported: `config.json`
# holds names and numbers alone.
NORM_EPSILONS = tuple(float(f"1e-{power}") for power in range(3, 16))
create_norm._NORM_MAP.update({_eps_name(eps): partial(LayerNorm, eps=eps) for eps in NORM_EPSILONS})
# The arguments of timm's constructors that a model's files may have, and the values that each may have.
_ARGUMENTS: dict[str, Callable[[Any], bool]] = {
    "num_heads": lambda value: type(value) is int and value > 0,
    "global_pool": lambda value: value in ("avg", "token"),
    "class_token": lambda value: value is False,
    "fc_norm": lambda value: value is False,
    "qkv_bias": lambda value: value is False,
    "act_layer": lambda value: value in ACTIVATIONS,
    "norm_layer": lambda value: value in map(_eps_name, NORM_EPSILONS),
    "stem_padding": lambda value: type(value) is int and value in STEM_PADDING,
}


def norm_argument(eps: float) -> dict[str, Any]:
    """The argument of timm's constructor that gives a vision transformer's norms this epsilon, one of ``NORM_EPSILONS``."""
    return {"norm_layer": _eps_name(eps)}


def is_timm_native(arch: str, arguments: Mapping[str, Any] | None = None) -> bool:
    """Whether timm builds ``arch`` with these arguments without this module; never so where they are part of the name (:func:`spelled`)."""
    return arch not in SMALL_STEM_NAMES and "(" not in arch and "norm_layer" not in (arguments or {})


def spelled(arch: str, arguments: Mapping[str, Any]) -> str:
    """An architecture with the arguments that make it another function: ``"vit_small_patch16_224(num_heads=12)"``; as it is without any."""
    return f"{arch}({', '.join(f'{name}={value}' for name, value in sorted(arguments.items()))})" if arguments else arch


def read_arguments(values: Any, source: str) -> dict[str, Any]:
    """The arguments for timm's constructor in a model's files, checked: only such as :mod:`zoo.formats.function` writes.

    Raises UserError that begins with ``source`` for anything else: a file is not to choose what a constructor is called with.
    """
    if not isinstance(values, Mapping) or not all(name in _ARGUMENTS and _ARGUMENTS[name](value) for name, value in values.items()):
        raise UserError(f"{source} has model_args that are not read: {values!r}; known are {', '.join(_ARGUMENTS)}, each with few values")
    return dict(values)


def check_arch(arch: str) -> None:
    """Raise UserError, with the nearest names, for an architecture that does not exist, and for a name with a weights tag."""
    name, _, tag = arch.partition(".")
    known = timm.is_model(name)
    if known and not tag:
        return
    if known:
        raise UserError(f"'{arch}' names weights, not an architecture: use '{name}', or the model 'timm:{arch}' to have the weights")
    hint = did_you_mean(name, timm.list_models(), 3) or "; `timm.list_models()` lists them"
    raise UserError(f"there is no architecture '{arch}'{hint}")


def create_backbone(
    arch: str, *, image_size: int | None = None, zero_init_residual: bool = False, arguments: Mapping[str, Any] | None = None
) -> nn.Module:
    """A backbone with fresh random weights, drawn from torch's global generator.

    Parameters
    ----------
    arch
        A timm architecture, e.g. ``"resnet50"`` or ``"vit_small_patch16_224"``, or one of this module.
    image_size
        Side of the images in pixels. A network that is built for one size (most vision transformers) is built for this one; any other
        is checked to take it. None: the network's own size.
    zero_init_residual
        Start the last batch norm of each residual block at zero (Goyal et al., arXiv 1706.02677, section 5.1).
    arguments
        For timm's constructor, where the network is not the architecture as timm has it.

    Returns
    -------
    A timm network in training mode, without classifier; ``num_features`` is the length D of its features.

    Raises
    ------
    UserError
        The architecture is unknown, does not fit the image size, gives something else than one vector for an image, or is no ResNet that
        could start as ``zero_init_residual`` says.
    """
    check_arch(arch)
    initialisation = _initialisation(arch, zero_init_residual)
    try:
        backbone = timm.create_model(arch, num_classes=0, **initialisation, **size_arguments(arch, image_size), **(arguments or {}))
    except Exception as error:  # an architecture refuses a size in its own way: assertion, ValueError, ZeroDivisionError ...
        if arguments:
            settings = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise UserError(f"'{arch}' cannot be built with {settings} ({first_line(error)})") from error
        if image_size is None:
            raise
        raise UserError(f"'{arch}' cannot be built for images of {image_size} px ({first_line(error)}); choose another size") from error
    return checked(backbone, arch, image_size)


def create_empty_backbone(arch: str, *, image_size: int | None = None, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """:func:`create_backbone` for weights that are loaded next: torch's global generator is left as it is."""
    with torch.random.fork_rng(devices=[]):
        return create_backbone(arch, image_size=image_size, arguments=arguments)


def load_backbone(
    arch: str,
    state: Mapping[str, Tensor],
    source: str,
    *,
    image_size: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    copy: bool = True,
) -> nn.Module:
    """A backbone with given weights: in eval mode, on the CPU, torch's global generator left as it is.

    Fresh weights are neither drawn nor held in memory, where the architecture can be built without any.

    Parameters
    ----------
    arch, image_size
        As in :func:`create_backbone`.
    state, source
        As in :func:`load_state`.
    arguments
        For timm's constructor, where the network is not the architecture as timm has it (``num_heads=12``).
    copy
        Copy every tensor. False: those that fit as they are become the network's own, which saves their memory; they must then be nobody
        else's, and no pages of a file.

    Raises
    ------
    UserError
        As :func:`create_backbone` and :func:`load_state`.
    """
    try:
        backbone = bare_backbone(arch, image_size=image_size, arguments=arguments)
    except Exception:  # a constructor that computes with its weights, or a size that it refuses: the ordinary way tells which
        backbone = create_empty_backbone(arch, image_size=image_size, arguments=arguments)
    load_state(backbone, state, source, copy=copy)
    # Buffers that are not part of the state are made by the constructor, and on the meta device they hold nothing.
    if any(tensor.is_meta for tensor in (*backbone.parameters(), *backbone.buffers())):
        backbone = create_empty_backbone(arch, image_size=image_size, arguments=arguments)
        load_state(backbone, state, source)
    return checked(backbone, arch, image_size).eval()


def bare_backbone(arch: str, *, image_size: int | None = None, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """A backbone on the meta device: names and shapes, no numbers.

    Raises UserError for an unknown name, and whatever the constructor raises where it needs numbers or does not take the size.
    """
    check_arch(arch)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        backbone: nn.Module = timm.create_model(arch, num_classes=0, **size_arguments(arch, image_size), **(arguments or {}))
    return backbone


def _initialisation(arch: str, zero_residual: bool) -> dict[str, Any]:
    """timm sets the last batch norm of each residual block to zero; torchvision, and so most published contrastive methods, to one."""
    if arch in TORCHVISION_NAMES + SMALL_STEM_NAMES:
        return {"zero_init_last": zero_residual}
    if zero_residual:
        raise UserError(
            f"zero_init_residual=true is for {', '.join(TORCHVISION_NAMES + SMALL_STEM_NAMES)}; '{arch}' keeps timm's own start"
        )
    return {}


def size_arguments(arch: str, image_size: int | None) -> dict[str, Any]:
    """The arguments by which timm builds ``arch`` (a weights tag is allowed) for ``image_size``; none for a network of no fixed size."""
    config = timm.get_pretrained_cfg(arch)
    if image_size is None or config is None or not config.fixed_input_size:
        return {}
    return {"img_size": image_size}


def at_size(backbone: nn.Module, arch: str, image_size: int | None) -> tuple[nn.Module, str | None]:
    """``backbone``, in place, for images of ``image_size`` (None: as it is), and what was done for that in words, where anything was.

    Of a network that is built for one size the position embedding is interpolated, bicubic and antialiased, as timm does
    (``resample_abs_pos_embed``); tables of relative positions likewise.

    Raises UserError where the network does not take the size.
    """
    before = _built_for(backbone)
    if image_size is None:
        return backbone, None
    if before in (None, image_size) or not fixed_input(backbone) or not hasattr(backbone, "set_input_size"):
        return checked(backbone, arch, image_size), None
    _check_patches(backbone, arch, image_size)
    try:
        backbone.set_input_size(img_size=(image_size, image_size))  # type: ignore[operator]
    except Exception as error:  # each architecture refuses a size in its own way
        raise UserError(f"'{arch}' cannot be resized to images of {image_size} px ({first_line(error)}); choose another size") from error
    note = f"its positions were interpolated from images of {before} px to {image_size} px (bicubic, antialiased), as timm does"
    return checked(backbone, arch, image_size), note


def _built_for(backbone: nn.Module) -> int | None:
    """The side in pixels that a network of patches was built for; None where it has none."""
    side = getattr(getattr(backbone, "patch_embed", None), "img_size", None)
    return int(side[0]) if isinstance(side, (tuple, list)) and len(set(side)) == 1 else None


def timm_config(backbone: nn.Module) -> dict[str, Any]:
    """What timm knows of the network's architecture and its published weights (``pretrained_cfg``)."""
    return cast(dict[str, Any], backbone.pretrained_cfg)


def fixed_input(backbone: nn.Module) -> bool:
    """Whether the network is built for images of one size, as most vision transformers are."""
    return bool(timm_config(backbone).get("fixed_input_size", False))


def native_size(backbone: nn.Module) -> int:
    """The side in pixels of the images that the architecture was published for."""
    return int(timm_config(backbone)["input_size"][-1])


def feature_width(backbone: nn.Module) -> int:
    """The length D of the network's features."""
    return cast(int, backbone.num_features)


def checked(backbone: nn.Module, arch: str, image_size: int | None) -> nn.Module:
    """``backbone`` after one image went through it: its size fits and it gives one vector; ``num_features`` is that vector's length.

    Raises UserError where this is not so. The network keeps its mode, its weights and its running statistics.
    """
    side = native_size(backbone) if image_size is None else image_size
    _check_patches(backbone, arch, side)
    training = backbone.training
    try:
        with torch.no_grad():
            if side > _MOST_SIDE_COMPUTED:
                # On the meta device: a side that a file states is not to cost gigabytes before anybody asked for features.
                empty = {name: tensor.to("meta") for name, tensor in (*backbone.named_parameters(), *backbone.named_buffers())}
                features = torch.func.functional_call(backbone.eval(), empty, (torch.zeros(1, 3, side, side, device="meta"),))
            else:
                features = backbone.eval()(torch.zeros(1, 3, side, side))
    except Exception as error:
        own = native_size(backbone)
        raise UserError(f"'{arch}' does not take images of {side} px ({first_line(error)}); its own size is {own} px") from error
    finally:
        backbone.train(training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise UserError(f"'{arch}' does not give one vector for an image, so it cannot serve as a backbone")
    # Where a network widens its features behind the last stage (MobileNet, VGG), timm's num_features is the narrower one.
    setattr(backbone, "num_features", features.shape[1])  # noqa: B010 - nn.Module types attributes as tensors and modules
    return backbone


def _check_patches(backbone: nn.Module, arch: str, side: int) -> None:
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
    if patch is None:
        return
    patch_side = patch[0] if isinstance(patch, (tuple, list)) else int(patch)
    if patch_side > side:
        raise UserError(f"'{arch}' has patches of {patch_side} px, larger than images of {side} px; take smaller patches or larger images")
    if side % patch_side:
        raise UserError(f"'{arch}' cuts images into patches of {patch_side} px, and {side} px is not a multiple of that")


def load_state(backbone: nn.Module, state: Mapping[str, Tensor], source: str, arch: str | None = None, *, copy: bool = True) -> None:
    """Load ``state`` into ``backbone``, every key accounted for.

    A backbone on the meta device is given the tensors, on the CPU: copies of them, or with ``copy=False`` as :func:`load_backbone` says.

    ``num_batches_tracked``, which only counts, may be absent altogether (files of old torch versions); it is then 0.

    Parameters
    ----------
    source
        Where the tensors come from, for messages.
    arch
        What messages call the network; by default timm's name of it.

    Raises
    ------
    WeightsError
        A tensor is missing, left over, of another shape, or not of a number type that the network's fits; the keys are named. The
        backbone is then as it was.
    """
    wanted = backbone.state_dict()
    given = dict(state)
    if not any(key.endswith("num_batches_tracked") for key in given):
        given.update({key: torch.zeros_like(tensor, device="cpu") for key, tensor in wanted.items() if key.endswith("num_batches_tracked")})
    missing = sorted(wanted.keys() - given.keys())
    common = sorted(wanted.keys() & given.keys())
    shapes = [f"{key} {tuple(given[key].shape)} for {tuple(wanted[key].shape)}" for key in common if given[key].shape != wanted[key].shape]
    dtypes = [
        f"{key} {given[key].dtype} for {wanted[key].dtype}"
        for key in common
        if given[key].is_floating_point() != wanted[key].is_floating_point() or given[key].is_complex()
    ]
    unknown = sorted(given.keys() - wanted.keys())
    complaints = listed({"missing": missing, "not part of it": unknown, "of another shape": shapes, "of another type": dtypes})
    if complaints:
        arch = arch or timm_config(backbone)["architecture"]
        raise WeightsError(f"the weights of {source} do not fit '{arch}': {complaints}", wanted, missing)
    empty = any(tensor.is_meta for tensor in wanted.values())
    if empty:
        given = _owned(given, wanted, copy)
    backbone.load_state_dict(given, assign=empty)


def _owned(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], copy: bool) -> dict[str, Tensor]:
    """The tensors of the wanted types, each with memory that no other shares."""
    owned: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in given.items():
        memory = tensor.untyped_storage()
        whole = memory.nbytes() == tensor.numel() * tensor.element_size() and memory.data_ptr() not in taken
        if copy or not whole or not tensor.is_contiguous() or tensor.dtype != wanted[name].dtype:
            owned[name] = torch.empty_like(wanted[name], device="cpu").copy_(tensor)
        else:
            taken.add(memory.data_ptr())
            owned[name] = tensor.detach()
    return owned
