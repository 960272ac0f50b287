"""What a network computes beyond what its tensors' names and shapes say: decided here, for every reader.

Names and shapes fix the layers of a network and their widths. They leave open the number of heads, fixed or learned positions, padding and
stride of convolutions, the activation, the epsilon of norms, and how tokens become one vector. What the readers' writers and timm have in
common needs no decision: plain vision transformers of DINO, iBOT, MAE, MoCo v3, lightly, OpenMMLab and torchvision have GELU, norms with an
epsilon of 1e-6 before each layer, and give the class token; their ResNets have ReLU and batch norm with 1e-5. The rest is below.

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

from zoo.backbones import SMALL_STEM_NAMES
from zoo.errors import UserError

MOCO_V3_HEADS = 12
# timm's number of heads by the width of a plain vision transformer (Dosovitskiy et al., arXiv 2010.11929, table 1; DeiT; DINOv2).
_TIMM_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1536: 24}
_BASE = 10000.0  # of the positions' wavelengths
_TOLERANCE = 2e-3  # half precision keeps sines to 5e-4
_SOLO_LEARN_STEM = (
    "solo-learn pads conv1 of its small-image networks by 2 where ours pad by 1: every shape fits, and the features would be wrong"
)
_CAFFE = re.compile(r"""style\W{1,4}caffe""")


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


def decide_function(
    source: str,
    reader: str,
    arch: str,
    tensors: Mapping[str, Tensor],
    outside: Mapping[str, Any],
    names: tuple[str, ...],
    heads: int | None,
) -> Function:
    """How the network with these tensors is built.

    Parameters
    ----------
    source
        The file, for messages.
    reader, arch
        Names of the layout and of timm's architecture.
    tensors
        By timm's names.
    outside
        What the file's own dictionary holds.
    names
        Of all tensors in the state dict, without the wrapper.
    heads
        The number of heads that the user says; None: nothing was said.

    Raises
    ------
    UserError
        Something speaks for another function than timm's and nothing settles it, or ``heads`` does not fit.
    """
    if "blocks.0.attn.qkv.weight" in tensors:
        return _transformer(source, reader, arch, tensors, outside, names, heads)
    if heads is not None:
        raise UserError(f"--heads is for vision transformers, and {source} is a {arch}")
    if reader == "solo_learn" and arch in SMALL_STEM_NAMES:
        raise UserError(f"{source} is a {arch} of solo-learn, which is not read: {_SOLO_LEARN_STEM}")
    if reader == "mmselfsup" and "layer1.0.conv3.weight" in tensors:
        meta = outside.get("meta")
        settings = meta.get("cfg") if isinstance(meta, Mapping) else None
        if isinstance(settings, str) and _CAFFE.search(settings):
            raise UserError(
                f"{source} is a ResNet of OpenMMLab's style 'caffe', as its settings say: its stride is in the first convolution of a "
                "block and its images are BGR, which timm's networks do not have"
            )
        return Function(notes=("OpenMMLab's style 'pytorch' is assumed; of 'caffe' (stride elsewhere, BGR images) every name fits too",))
    return Function()


def _transformer(
    source: str,
    reader: str,
    arch: str,
    tensors: Mapping[str, Tensor],
    outside: Mapping[str, Any],
    names: tuple[str, ...],
    heads: int | None,
) -> Function:
    width = int(tensors["blocks.0.attn.qkv.weight"].shape[-1])
    usual = _TIMM_HEADS.get(width)
    arguments: dict[str, Any] = {}
    notes: list[str] = []
    if heads is not None:
        if width % heads:
            raise UserError(f"--heads {heads} does not divide the width of {source}, {width}")
        if heads != usual:
            arguments["num_heads"] = heads
            timms = f", where timm's network of this width has {usual}" if usual else ""
            notes.append(f"built with {heads} heads, as --heads says{timms}")
    elif usual is not None and usual != MOCO_V3_HEADS and width % MOCO_V3_HEADS == 0:
        mark = _moco_v3_mark(reader, tensors, outside, names)
        if mark is not None:
            raise UserError(
                f"{source} is a vision transformer of width {width} and {mark}, whose networks of this width have {MOCO_V3_HEADS} heads "
                f"where timm's has {usual}: every shape fits, and the features would be wrong; say which with --heads {MOCO_V3_HEADS} or "
                f"--heads {usual}"
            )
    if "cls_token" not in tensors:
        arguments |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
        notes.append("it has no class token: the feature is the mean of the patch tokens, normalised before, as I-JEPA's")
    elif arch.endswith(("_dinov3", "_dinov3_qkvb")):
        # timm's default is the mean; the authors' evaluations take the class token (arXiv 2508.10104, section 6.1).
        arguments["global_pool"] = "token"
        notes.append("the class token is the feature, as in DINOv3's own classifiers")
    elif "fc_norm.weight" in tensors and "norm.weight" not in tensors and not arch.startswith("beit"):
        arguments["global_pool"] = "avg"
        notes.append("the mean of the patch tokens is normalised (fc_norm), and is the feature")
    if reader == "transformers" and arch.startswith("vit_") and "dino" not in arch:
        notes.append(
            "transformers' own settings give such a network norms with an epsilon of 1e-12, timm's has 1e-6 as the first published ViTs: "
            "features may differ in the fourth digit"
        )
    return Function(arguments, tuple(notes))


def _moco_v3_mark(reader: str, tensors: Mapping[str, Tensor], outside: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """What speaks for a vision transformer of MoCo v3, in words; None where nothing does."""
    if reader == "moco_v3" or any(name.startswith("base_encoder.") for name in names):
        return "in a checkpoint of MoCo v3"
    if reader == "mmselfsup" and any(name.startswith("momentum_encoder.") for name in names):
        return "in a checkpoint of OpenMMLab's MoCo v3"
    settings = outside.get("hyper_parameters")
    if isinstance(settings, Mapping) and str(settings.get("method", "")).lower().replace("_", "") == "mocov3":
        return "in a checkpoint of solo-learn's MoCo v3"
    positions = tensors.get("pos_embed")
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
