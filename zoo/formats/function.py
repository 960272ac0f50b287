"""What a network computes beyond what its tensors' names and shapes say: decided here, for every reader.

Names and shapes fix the layers of a network and their widths. They leave open the number of heads, fixed or learned positions, padding and
stride of convolutions, the activation, the epsilon of norms, and how tokens become one vector. What the readers' writers and timm have in
common needs no decision: plain vision transformers of DINO, iBOT, MAE, MoCo v3, lightly, OpenMMLab and torchvision have GELU, norms with an
epsilon of 1e-6 before each layer, and give the class token; their ResNets have ReLU and batch norm with 1e-5. The rest is below: it follows
from the file, or from the settings that transformers writes beside it, or the file is refused with the option that settles it.

Sources: the model classes of the projects (``docs/formats.md``); positions: Chen, Xie and He, arXiv 2104.02057, section 4.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.backbones import ACTIVATIONS, NORM_EPSILONS, SMALL_STEM_NAMES, norm_argument
from zoo.errors import UserError
from zoo.models.selection import Hints

MOCO_V3_HEADS = 12
# timm's number of heads by the width of a plain vision transformer (Dosovitskiy et al., arXiv 2010.11929, table 1; DeiT; DINOv2).
_TIMM_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1536: 24}
# Epsilon of timm's norms: all others have the first.
_TIMM_EPS, _DINOV3_EPS = 1e-6, 1e-5
_DINOV3 = ("_dinov3", "_dinov3_qkvb")
_BASE = 10000.0  # of the positions' wavelengths
_ROPE_BASE = 100.0  # of DINOv3's rotations
_TOLERANCE = 2e-3  # half precision keeps sines to 5e-4
_OPENMMLAB = ("mmselfsup", "general")
_CAFFE = re.compile(r"""style\W{1,4}caffe""")
# Padding of conv1 in the small-image stem.
_USUAL_PADDING, _SOLO_LEARN_PADDING = 1, 2
# The layouts whose writers' code says how conv1 of a small-image stem is padded: by 1.
_PADDED_BY_ONE = ("ours", "moco_cifar", "ccrop_simclr", "ccrop_moco", "ccrop_byol", "ccrop_simsiam", "mmselfsup")
# transformers' names of activations, and timm's; None: the exact GELU that vision transformers have anyway.
_ACTIVATIONS = {
    "gelu": None,
    "quick_gelu": "quick_gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_MLP_OF_A_GATE = "silu"


@dataclass(frozen=True)
class Function:
    """How a network is built so that it computes what its writer's does.

    Attributes
    ----------
    arguments
        For timm's constructor of the architecture (``config.json`` calls them ``model_args``).
    notes
        What names and shapes leave open and was decided, for the user.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What a file tells of its network.

    Attributes
    ----------
    source
        The file, for messages.
    reader
        The layout's name.
    library
        Whose names the tensors had (:mod:`zoo.formats.dialects`); None: timm's, or a layout's own.
    arch
        timm's name of the architecture.
    tensors
        By timm's names.
    outside
        What the file's own dictionary holds.
    names
        Of all tensors in the state dict, without the wrapper.
    settings
        ``config.json`` of transformers, where the tensors had its names and it lies beside the file.
    """

    source: str
    reader: str
    arch: str
    tensors: Mapping[str, Tensor]
    outside: Mapping[str, Any]
    names: tuple[str, ...]
    library: str | None = None
    settings: Mapping[str, Any] | None = None


def decide_function(file: Evidence, hints: Hints = Hints()) -> Function:
    """How the network is built.

    Parameters
    ----------
    hints
        What the user says; it outranks everything else.

    Raises
    ------
    UserError
        Something speaks for another function than timm's and nothing settles it, or a hint does not fit.
    """
    if "blocks.0.attn.qkv.weight" in file.tensors:
        if hints.stem_padding is not None:
            raise UserError(f"--stem-padding is for ResNets with the small-image stem, and {file.source} is a {file.arch}")
        return _transformer(file, hints)
    for option, value in (("--heads", hints.heads), ("--norm-eps", hints.norm_eps)):
        if value is not None:
            raise UserError(f"{option} is for vision transformers, and {file.source} is a {file.arch}")
    _refuse_caffe(file)
    if file.arch in SMALL_STEM_NAMES:
        return _small_stem(file, hints)
    if hints.stem_padding is not None:
        raise UserError(f"--stem-padding is for ResNets with the small-image stem, and {file.source} is a {file.arch}")
    return _convolutions(file)


def _small_stem(file: Evidence, hints: Hints) -> Function:
    padding = hints.stem_padding
    if padding is not None:
        notes = [f"conv1 is padded by {padding}, as --stem-padding says"]
    elif _is_solo_learn(file):
        padding = _SOLO_LEARN_PADDING
        notes = [f"conv1 is padded by {padding}, as solo-learn's small-image networks have it; --stem-padding 1 is the usual one"]
    else:
        padding = _USUAL_PADDING
        notes = [
            f"conv1 padded by {padding} with stride 1, and no pooling behind it, are assumed: names and shapes do not tell; solo-learn's "
            "is --stem-padding 2"
        ]
        if file.reader in _PADDED_BY_ONE:
            notes = []
    return Function({} if padding == _USUAL_PADDING else {"stem_padding": padding}, tuple(notes))


def _is_solo_learn(file: Evidence) -> bool:
    """By what Lightning and solo-learn's base class write, whatever reader took the network: every method of it has a classifier."""
    return "pytorch-lightning_version" in file.outside and (
        file.reader == "solo_learn"
        or (any(name.startswith("classifier.") for name in file.names) and any(name.startswith("backbone.") for name in file.names))
    )


def _convolutions(file: Evidence) -> Function:
    settings = file.settings or {}
    if settings.get("downsample_in_bottleneck") is True:
        raise UserError(
            f"{file.source} has its stride in the first convolution of a block (downsample_in_bottleneck in its config.json), which timm's "
            "ResNets do not have"
        )
    usual = "relu" if file.arch.startswith("res") else "gelu"
    activation = settings.get("hidden_act", usual)
    if activation != usual:
        raise UserError(f"{file.source} has the activation {activation!r} by its config.json, and timm's {file.arch} has {usual}")
    if file.library == "transformers" and file.arch.startswith("convnext"):
        return Function(
            notes=("transformers' settings may give the last norm an epsilon of 1e-12 where timm's has 1e-6: features may differ slightly",)
        )
    if isinstance(file.outside.get("meta"), Mapping) and file.reader in _OPENMMLAB and _has_bottlenecks(file):
        return Function(notes=("OpenMMLab's style 'pytorch' is assumed; of 'caffe' (stride elsewhere, BGR images) every name fits too",))
    return Function()


def _has_bottlenecks(file: Evidence) -> bool:
    return "layer1.0.conv3.weight" in file.tensors


def _refuse_caffe(file: Evidence) -> None:
    meta = file.outside.get("meta")
    words = meta.get("cfg") if isinstance(meta, Mapping) and file.reader in _OPENMMLAB and _has_bottlenecks(file) else None
    if isinstance(words, str) and _CAFFE.search(words):
        raise UserError(
            f"{file.source} is a ResNet of OpenMMLab's style 'caffe', as its settings say: its stride is in the first convolution of a "
            "block and its images are BGR, which timm's networks do not have"
        )


def _transformer(file: Evidence, hints: Hints) -> Function:
    arguments: dict[str, Any] = {}
    notes: list[str] = []
    _check_settings(file)
    for decide in (_heads, _epsilon, _activation, _pooling):
        more, told = decide(file, hints)
        arguments |= more
        notes += told
    if file.arch.startswith("vit_") and not file.arch.endswith(_DINOV3) and "blocks.0.attn.qkv.bias" not in file.tensors:
        arguments["qkv_bias"] = False
        notes.append("queries, keys and values have no bias")
    return Function(arguments, tuple(notes))


Decision = tuple[dict[str, Any], list[str]]


def _check_settings(file: Evidence) -> None:
    """Raise UserError where the config.json beside the file is another network's."""
    width, blocks = _width(file), sum(name.endswith(".norm1.weight") for name in file.tensors)
    for key, found in (("hidden_size", width), ("num_hidden_layers", blocks)):
        said = (file.settings or {}).get(key, found)
        if said != found:
            raise UserError(
                f"the config.json beside {file.source} is of another network: its {key} is {said!r}, and the file's is {found}; keep files "
                "of two models in two folders"
            )


def _width(file: Evidence) -> int:
    return int(file.tensors["blocks.0.attn.qkv.weight"].shape[-1])


def _heads(file: Evidence, hints: Hints) -> Decision:
    width = _width(file)
    usual = _TIMM_HEADS.get(width)
    heads, words = hints.heads, "--heads says"
    if heads is None and file.settings is not None:
        heads, words = file.settings.get("num_attention_heads"), "its config.json says"
    if heads is not None:
        if type(heads) is not int or heads < 1 or width % heads:
            said = f"--heads {heads}" if heads == hints.heads else f"num_attention_heads {heads!r} of the config.json beside it"
            raise UserError(f"{said} does not divide the width of {file.source}, {width}")
        if heads == usual:
            return {}, []
        timms = f", where timm's network of this width has {usual}" if usual else ""
        return {"num_heads": heads}, [f"built with {heads} heads, as {words}{timms}"]
    if usual is not None and usual != MOCO_V3_HEADS and width % MOCO_V3_HEADS == 0:
        mark = _moco_v3_mark(file)
        if mark is not None:
            raise UserError(
                f"{file.source} is a vision transformer of width {width} and {mark}, whose networks of this width have {MOCO_V3_HEADS} "
                f"heads where timm's has {usual}: every shape fits, and the features would be wrong; say which with --heads "
                f"{MOCO_V3_HEADS} or --heads {usual}"
            )
    return {}, []


def _epsilon(file: Evidence, hints: Hints) -> Decision:
    usual = _DINOV3_EPS if file.arch.endswith(_DINOV3) else _TIMM_EPS
    eps, words = hints.norm_eps, "--norm-eps says"
    if eps is None and file.settings is not None:
        eps, words = file.settings.get("layer_norm_eps"), "its config.json says"
    if eps is None:
        # Of transformers' families, DINOv2 and DINOv3 have timm's by default; the others share names, and differ.
        told = file.library != "transformers" or "dino" in file.arch
        if told:
            return {}, []
        raise UserError(
            f"{file.source} is a vision transformer of transformers, whose norms have an epsilon of 1e-12 or 1e-6 by its config.json, "
            "which is not beside it: put it there, or say which with --norm-eps 1e-12 or --norm-eps 1e-6"
        )
    if eps == usual:
        return {}, []
    if eps not in NORM_EPSILONS:
        raise UserError(f"the epsilon of norms {eps!r}, as {words}, is none of those that can be built: 1e-3, 1e-4, ... 1e-15")
    if file.arch.startswith("beit"):
        if hints.norm_eps is not None:
            raise UserError(f"timm's BEiT has norms with an epsilon of {usual:g} and takes no other; leave out --norm-eps")
        return {}, [
            f"its config.json gives norms an epsilon of {eps:g}; timm's BEiT has {usual:g}, as its authors' code, and no other: features "
            "differ slightly"
        ]
    return norm_argument(eps), [f"norms have an epsilon of {eps:g}, as {words}, where timm's have {usual:g}"]


def _activation(file: Evidence, hints: Hints) -> Decision:
    settings = file.settings or {}
    rotation = settings.get("rope_parameters", settings)
    theta = rotation.get("rope_theta", _ROPE_BASE) if isinstance(rotation, Mapping) else None
    if theta != _ROPE_BASE:
        raise UserError(
            f"{file.source} rotates with the base {theta!r} (rope_theta in its config.json), timm's network with {_ROPE_BASE:g}"
        )
    gated = any(".mlp.fc1_g." in name for name in file.tensors) or settings.get("use_swiglu_ffn") is True
    said = str(settings.get("hidden_act", "gelu" if not gated else _MLP_OF_A_GATE))
    if gated and (settings.get("use_swiglu_ffn") is True or said in ("silu", "swish")):
        return {}, []
    if said in _ACTIVATIONS and not gated:
        name = _ACTIVATIONS[said]
        if name is None:
            return {}, []
        if file.arch.startswith("vit_") and not file.arch.endswith(_DINOV3) and name in ACTIVATIONS:
            return {"act_layer": name}, [f"the activation is {name}, as its config.json says"]
    raise UserError(f"{file.source} has the activation {said!r} by its config.json, with which timm's {file.arch} cannot be built")


def _pooling(file: Evidence, hints: Hints) -> Decision:
    if file.arch.startswith("beit"):
        if "fc_norm.weight" in file.tensors:
            return {}, []
        return {"global_pool": "token"}, ["the class token is the feature: it was pre-trained so, and has no norm of the mean (fc_norm)"]
    if "cls_token" not in file.tensors:
        return {"class_token": False, "global_pool": "avg", "fc_norm": False}, [
            "it has no class token: the feature is the mean of the patch tokens, normalised before, as I-JEPA's"
        ]
    if file.arch.endswith(_DINOV3):
        # timm's default is the mean; the authors' evaluations take the class token (arXiv 2508.10104, section 6.1).
        return {"global_pool": "token"}, ["the class token is the feature, as in DINOv3's own classifiers"]
    if "fc_norm.weight" in file.tensors and "norm.weight" not in file.tensors:
        return {"global_pool": "avg"}, ["the mean of the patch tokens is normalised (fc_norm), and is the feature"]
    return {}, []


def _moco_v3_mark(file: Evidence) -> str | None:
    """What speaks for a vision transformer of MoCo v3, in words; None where nothing does."""
    if file.reader == "moco_v3" or any(name.startswith("base_encoder.") for name in file.names):
        return "in a checkpoint of MoCo v3"
    if file.reader == "mmselfsup" and any(name.startswith("momentum_encoder.") for name in file.names):
        return "in a checkpoint of OpenMMLab's MoCo v3"
    settings = file.outside.get("hyper_parameters")
    if isinstance(settings, Mapping) and str(settings.get("method", "")).lower().replace("_", "") == "mocov3":
        return "in a checkpoint of solo-learn's MoCo v3"
    positions = file.tensors.get("pos_embed")
    if positions is not None and is_moco_v3_positions(positions):
        return "has the fixed sine-cosine positions of MoCo v3"
    return None


def is_moco_v3_positions(positions: Tensor) -> bool:
    """Whether a position embedding (1, 1 + side * side, D) is the fixed one of MoCo v3.

    Zeros for the class token; for the patch in row i and column j: sin(iw), cos(iw), sin(jw), cos(jw), with w = 10000^(-k / (D / 4)) for
    k < D / 4. (MAE's has the same numbers with columns first.)
    """
    if positions.ndim != 3 or positions.shape[0] != 1 or positions.shape[-1] % 4 or not positions.is_floating_point():
        return False
    length, width = positions.shape[1:]
    side = math.isqrt(length - 1)
    if side < 2 or side * side != length - 1:
        return False
    waves = _BASE ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * waves
    row, column = angles[:, None].expand(side, side, -1), angles[None].expand(side, side, -1)
    grid = torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], -1).flatten(0, 1)
    wanted = torch.cat([torch.zeros(1, width, dtype=torch.float64), grid])
    return bool(torch.allclose(positions[0].double(), wanted, rtol=0, atol=_TOLERANCE))
