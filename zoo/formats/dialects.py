"""Names and tensors of other model families, as timm has them: renamed, and where they are cut or summed in another way, computed.

A dialect is known by the names of a network's tensors alone, whatever file they are in, so every reader understands it. What it computes is
exact: tensors are joined, halves are exchanged, and a position that is always added to a token is added to it once.

Sources: the model classes of transformers 5.24, torchvision 0.29 and facebookresearch/dinov2, whose own files the tests read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
TRANSFORMERS = "transformers"


@dataclass(frozen=True)
class Dialect:
    """How one family names its tensors.

    Attributes
    ----------
    title
        What it is, in a few words.
    marks
        Patterns, each of which must match the beginning of a name.
    prefixes
        What may stand in front of all names of the network (``vit.`` in a classifier's file); the first that the marks fit behind.
    drop
        Patterns of names that are no part of the backbone.
    renames
        Pattern and replacement of whole beginnings; the first that matches a name is used.
    joins
        Endings whose tensors become one, in this order, and the ending of that one: ``("q.", "k.", "v."), "qkv."``.
    finish
        What else is to be done with the tensors, by timm's names.
    lacks
        Patterns that no name may match.
    beside
        Patterns of names that belong to the network though its prefix is not in front of them, where it has none of these itself.
    """

    title: str
    marks: tuple[str, ...]
    prefixes: tuple[str, ...] = ("",)
    drop: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    joins: tuple[tuple[tuple[str, ...], str], ...] = ()
    finish: Callable[[Tensors], Tensors] | None = None
    lacks: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def library(self) -> str | None:
        """The library whose names these are: it may write settings beside its files; None: a project's own."""
        return TRANSFORMERS if self.title.startswith(f"{TRANSFORMERS},") else None


@dataclass(frozen=True)
class Translated:
    """A network in timm's names: ``tensors``, and the names that were left out (``dropped``), as they were called."""

    dialect: Dialect
    tensors: Tensors
    dropped: tuple[str, ...]


_PERIODS, _PERIOD_BASE = "rope_embed.periods", 100.0
_PERIOD_TOLERANCE = 1e-2  # the files hold them in half precision
_SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
_QKV = (("attn.q.", "attn.k.", "attn.v."), "attn.qkv.")
_TRANSFORMERS_BLOCK = (
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.", r"blocks.\1.attn.\2."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.layer\.(\d+)\.(?:layernorm_before|norm1)\.", r"blocks.\1.norm1."),
    (r"encoder\.layer\.(\d+)\.(?:layernorm_after|norm2)\.", r"blocks.\1.norm2."),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_in\.", r"blocks.\1.mlp.w12."),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_out\.", r"blocks.\1.mlp.w3."),
    (r"encoder\.layer\.(\d+)\.mlp\.", r"blocks.\1.mlp."),
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.register_tokens$", "register_tokens"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"layernorm\.", "norm."),
)
_RESNET_PARTS = ((r"convolution\.", "conv{}."), (r"normalization\.", "bn{}."))


def _dinov2(tensors: Tensors) -> Tensors:
    """The two halves of a gated layer under timm's names; registers behind the class token, to which its own position is added."""
    found = {re.sub(r"\.mlp\.w12\.", ".mlp.fc1.", re.sub(r"\.mlp\.w3\.", ".mlp.fc2.", name)): tensor for name, tensor in tensors.items()}
    if "register_tokens" in found:
        positions = found["pos_embed"]
        found["reg_token"] = found.pop("register_tokens")
        found["cls_token"] = found["cls_token"] + positions[:, :1]
        found["pos_embed"] = positions[:, 1:]
    return found


def _dinov3(tensors: Tensors) -> Tensors:
    """The biases of queries and values apart, as timm has them, and multiplied by the mask that the files hold.

    timm's networks have no bias of the keys, and DINOv3's have a mask of zeros there; where a file has one all the same (positions by
    rotation make it count), it is left over as ``k_bias``, and the file does not fit. So are the periods of the positions where they are
    others than timm's.
    """
    found = {}
    for name, tensor in tensors.items():
        if name.endswith("attn.qkv.bias_mask") or (name == _PERIODS and _are_usual(tensor)):
            continue
        if name.endswith("attn.qkv.bias"):
            front = name.removesuffix("qkv.bias")
            mask = tensors.get(f"{name}_mask")
            queries, keys, values = (tensor if mask is None else tensor * mask).chunk(3)
            found[front + "q_bias"], found[front + "v_bias"] = queries, values
            if bool(keys.any()):
                found[front + "k_bias"] = keys
        else:
            found[name] = tensor
    return found


def _are_usual(periods: Tensor) -> bool:
    """Whether the periods of a rotation are those of DINOv3: 100 ** (k / n) for k < n (arXiv 2508.10104, section 3.2)."""
    usual = _PERIOD_BASE ** (torch.arange(len(periods), dtype=torch.float64) / max(1, len(periods)))
    return periods.ndim == 1 and bool(torch.allclose(periods.double(), usual, rtol=_PERIOD_TOLERANCE, atol=0))


def _shared_table(tensors: Tensors) -> Tensors:
    """BEiT pre-trains with one table of relative positions for all blocks, and copies it into each for what comes after."""
    found = {name: tensor for name, tensor in tensors.items() if name != _SHARED_TABLE}
    blocks = sorted({int(match[1]) for match in map(re.compile(r"blocks\.(\d+)\.").match, found) if match})
    return found | {f"blocks.{block}.attn.relative_position_bias_table": tensors[_SHARED_TABLE].clone() for block in blocks}


def _shared_or_own_table(tensors: Tensors) -> Tensors:
    return _shared_table(tensors) if _SHARED_TABLE in tensors else tensors


def _gated(tensors: Tensors) -> Tensors:
    """Where there is a gate, the layer beside it is timm's ``fc1_x``."""
    gated = any(name.endswith("mlp.fc1_g.weight") for name in tensors)
    return {name.replace(".mlp.fc1.", ".mlp.fc1_x.") if gated else name: tensor for name, tensor in tensors.items()}


def _resnet_names(block: str) -> tuple[tuple[str, str], ...]:
    """transformers numbers a block's convolutions from 0 and stages from 0."""
    return tuple(
        (rf"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.{layer}\.{part}", rf"{block}.{name.format(layer + 1)}")
        for layer in range(3)
        for part, name in _RESNET_PARTS
    )


def _stages_from_one(tensors: Tensors) -> Tensors:
    return {re.sub(r"^layer(\d+)\.", lambda match: f"layer{int(match[1]) + 1}.", name): tensor for name, tensor in tensors.items()}


DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        "DINOv2's own names",
        (r"blocks\.(\d+\.)?\d+\.ls1\.gamma$", r"(register_tokens|mask_token|blocks\.\d+\.\d+\.|blocks\.\d+\.(\d+\.)?mlp\.w12\.)"),
        drop=(r"mask_token$",),
        # Blocks in chunks have their own number behind the chunk's.
        renames=((r"blocks\.\d+\.(\d+)\.", r"blocks.\1."),),
        finish=_dinov2,
        lacks=(r"reg_token$",),
    ),
    Dialect(
        "transformers, a DINOv3",
        (r"layer\.\d+\.attention\.q_proj\.", r"embeddings\.patch_embeddings\.weight$"),
        prefixes=("", "model.", "backbone."),
        drop=(r"embeddings\.mask_token$", r"classifier\."),
        renames=(
            (r"layer\.(\d+)\.attention\.([qv])_proj\.bias$", r"blocks.\1.attn.\2_bias"),
            (r"layer\.(\d+)\.attention\.([qkv])_proj\.", r"blocks.\1.attn.\2."),
            (r"layer\.(\d+)\.attention\.o_proj\.", r"blocks.\1.attn.proj."),
            (r"layer\.(\d+)\.layer_scale([12])\.lambda1$", r"blocks.\1.gamma_\2"),
            (r"layer\.(\d+)\.mlp\.gate_proj\.", r"blocks.\1.mlp.fc1_g."),
            (r"layer\.(\d+)\.mlp\.up_proj\.", r"blocks.\1.mlp.fc1."),
            (r"layer\.(\d+)\.mlp\.down_proj\.", r"blocks.\1.mlp.fc2."),
            (r"layer\.(\d+)\.(norm[12])\.", r"blocks.\1.\2."),
            (r"embeddings\.cls_token$", "cls_token"),
            (r"embeddings\.register_tokens$", "reg_token"),
            (r"embeddings\.patch_embeddings\.", "patch_embed.proj."),
        ),
        joins=(_QKV,),
        finish=_gated,
    ),
    Dialect(
        "DINOv3's own names",
        (r"storage_tokens$", r"blocks\.\d+\.ls1\.gamma$"),
        drop=(r"mask_token$", r"local_cls_norm\."),
        renames=(
            (r"storage_tokens$", "reg_token"),
            (r"blocks\.(\d+)\.ls([12])\.gamma$", r"blocks.\1.gamma_\2"),
            (r"blocks\.(\d+)\.mlp\.w1\.", r"blocks.\1.mlp.fc1_g."),
            (r"blocks\.(\d+)\.mlp\.w2\.", r"blocks.\1.mlp.fc1_x."),
            (r"blocks\.(\d+)\.mlp\.w3\.", r"blocks.\1.mlp.fc2."),
        ),
        finish=_dinov3,
    ),
    Dialect(
        "transformers, a vision transformer",
        (r"encoder\.layer\.\d+\.attention\.attention\.query\.", r"embeddings\.patch_embeddings\.projection\."),
        prefixes=("", "vit.", "dinov2.", "dinov2_with_registers.", "ijepa.", "deit."),
        drop=(r"embeddings\.mask_token$", r"pooler\.", r"classifier\.", r"decoder\."),
        renames=_TRANSFORMERS_BLOCK,
        joins=(_QKV,),
        finish=_dinov2,
        lacks=(r"(\w+\.)?encoder\.layer\.\d+\.lambda_1$", r"(\w+\.)?embeddings\.distillation_token$"),
    ),
    Dialect(
        "transformers, a BEiT",
        (r"encoder\.layer\.\d+\.lambda_1$", r"embeddings\.patch_embeddings\.projection\."),
        prefixes=("", "beit."),
        drop=(
            r"embeddings\.mask_token$",
            r"classifier\.",
            r"lm_head\.",
            r"encoder\.(layer\.\d+\..*)?relative_position_(bias\.relative_position_)?index$",
        ),
        renames=(
            (r"encoder\.relative_position_bias\.relative_position_bias_table$", _SHARED_TABLE),
            (r"encoder\.layer\.(\d+)\.lambda_([12])$", r"blocks.\1.gamma_\2"),
            (r"encoder\.layer\.(\d+)\.attention\.attention\.(q|v)(?:uery|alue)\.bias$", r"blocks.\1.attn.\2_bias"),
            (
                r"encoder\.layer\.(\d+)\.attention\.attention\.relative_position_bias\.relative_position_bias_table$",
                r"blocks.\1.attn.relative_position_bias_table",
            ),
            (r"pooler\.layernorm\.", "fc_norm."),
            *_TRANSFORMERS_BLOCK,
        ),
        joins=(_QKV,),
        finish=_shared_or_own_table,
        # Pre-trained, its last norm is a part of the model for masked images.
        beside=(r"layernorm\.",),
    ),
    Dialect(
        "BEiT's own names, one table for all blocks",
        (r"blocks\.\d+\.gamma_1$", r"rel_pos_bias\.relative_position_bias_table$"),
        drop=(r"mask_token$", r"lm_head\.", r"rel_pos_bias\.relative_position_index$"),
        finish=_shared_table,
    ),
    Dialect(
        "BEiT's own names",
        (r"blocks\.\d+\.gamma_1$", r"blocks\.\d+\.attn\.relative_position_index$"),
        drop=(r"mask_token$", r"lm_head\.", r"blocks\.\d+\.attn\.relative_position_index$"),
    ),
    Dialect(
        "transformers, a ResNet",
        (r"embedder\.embedder\.convolution\.", r"encoder\.stages\.0\.layers\.0\.layer\."),
        prefixes=("", "resnet."),
        drop=(r"classifier\.",),
        renames=(
            (r"embedder\.embedder\.convolution\.", "conv1."),
            (r"embedder\.embedder\.normalization\.", "bn1."),
            (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.convolution\.", r"layer\1.\2.downsample.0."),
            (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.normalization\.", r"layer\1.\2.downsample.1."),
            *_resnet_names(r"layer\1.\2"),
        ),
        finish=_stages_from_one,
    ),
    Dialect(
        "transformers, a ConvNeXt",
        (r"encoder\.stages\.0\.layers\.0\.dwconv\.", r"embeddings\.patch_embeddings\.weight$"),
        prefixes=("", "convnext."),
        drop=(r"classifier\.",),
        renames=(
            (r"embeddings\.patch_embeddings\.", "stem.0."),
            (r"embeddings\.layernorm\.", "stem.1."),
            (r"encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
            (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.dwconv\.", r"stages.\1.blocks.\2.conv_dw."),
            (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm\.", r"stages.\1.blocks.\2.norm."),
            (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.pwconv([12])\.", r"stages.\1.blocks.\2.mlp.fc\3."),
            (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer_scale_parameter$", r"stages.\1.blocks.\2.gamma"),
            (r"layernorm\.", "head.norm."),
        ),
        lacks=(r"(\w+\.)?encoder\.stages\.\d+\.layers\.\d+\.grn\.",),
    ),
    Dialect(
        "ConvNeXt's own names",
        (r"downsample_layers\.0\.0\.weight$", r"stages\.0\.0\.dwconv\.weight$"),
        # DINOv3's have the last norm twice.
        drop=(r"head\.", r"norms\.\d+\."),
        renames=(
            (r"downsample_layers\.0\.", "stem."),
            (r"downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
            (r"stages\.(\d+)\.(\d+)\.dwconv\.", r"stages.\1.blocks.\2.conv_dw."),
            (r"stages\.(\d+)\.(\d+)\.pwconv([12])\.", r"stages.\1.blocks.\2.mlp.fc\3."),
            (r"stages\.(\d+)\.(\d+)\.(norm\.|gamma$)", r"stages.\1.blocks.\2.\3"),
            (r"norm\.", "head.norm."),
        ),
        lacks=(r"stages\.\d+\.\d+\.grn\.",),
    ),
    Dialect(
        "OpenMMLab, a ResNetV1d",
        (r"stem\.2\.conv\.weight$", r"layer2\.0\.downsample\.1\.weight$"),
        renames=(
            (r"stem\.0\.conv\.", "conv1.0."),
            (r"stem\.0\.bn\.", "conv1.1."),
            (r"stem\.1\.conv\.", "conv1.3."),
            (r"stem\.1\.bn\.", "conv1.4."),
            (r"stem\.2\.conv\.", "conv1.6."),
            (r"stem\.2\.bn\.", "bn1."),
            # The first stage keeps its size, so that its shortcut has no pooling there; in timm's an identity is numbered.
            (r"layer1\.0\.downsample\.0\.", "layer1.0.downsample.1."),
            (r"layer1\.0\.downsample\.1\.", "layer1.0.downsample.2."),
        ),
    ),
    Dialect(
        "torchvision, a ConvNeXt",
        (r"features\.1\.0\.layer_scale$", r"features\.0\.0\.weight$"),
        drop=(r"classifier\.[12]\.",),
        renames=(
            (r"features\.0\.0\.", "stem.0."),
            (r"features\.0\.1\.", "stem.1."),
            (r"classifier\.0\.", "head.norm."),
            *(
                change
                for stage in range(4)
                for change in (
                    (rf"features\.{2 * stage}\.", rf"stages.{stage}.downsample."),
                    (rf"features\.{2 * stage + 1}\.(\d+)\.layer_scale$", rf"stages.{stage}.blocks.\1.gamma"),
                    (rf"features\.{2 * stage + 1}\.(\d+)\.block\.0\.", rf"stages.{stage}.blocks.\1.conv_dw."),
                    (rf"features\.{2 * stage + 1}\.(\d+)\.block\.2\.", rf"stages.{stage}.blocks.\1.norm."),
                    (rf"features\.{2 * stage + 1}\.(\d+)\.block\.3\.", rf"stages.{stage}.blocks.\1.mlp.fc1."),
                    (rf"features\.{2 * stage + 1}\.(\d+)\.block\.5\.", rf"stages.{stage}.blocks.\1.mlp.fc2."),
                )
            ),
        ),
        finish=lambda tensors: {name: tensor.flatten() if name.endswith(".gamma") else tensor for name, tensor in tensors.items()},
    ),
    Dialect(
        "torchvision, a Swin transformer",
        (r"features\.1\.0\.attn\.relative_position_bias_table$", r"features\.0\.0\.weight$"),
        drop=(r"head\.", r"features\.\d+\.\d+\.attn\.relative_position_index$"),
        renames=(
            (r"features\.0\.0\.", "patch_embed.proj."),
            (r"features\.0\.2\.", "patch_embed.norm."),
            *(
                change
                for stage in range(4)
                for change in (
                    # A stage of timm's begins with what ends the one before in torchvision.
                    (rf"features\.{2 * stage}\.(norm|reduction)\.", rf"layers.{stage}.downsample.\1."),
                    (rf"features\.{2 * stage + 1}\.(\d+)\.mlp\.0\.", rf"layers.{stage}.blocks.\1.mlp.fc1."),
                    (rf"features\.{2 * stage + 1}\.(\d+)\.mlp\.3\.", rf"layers.{stage}.blocks.\1.mlp.fc2."),
                    (rf"features\.{2 * stage + 1}\.", rf"layers.{stage}.blocks."),
                )
            ),
        ),
        lacks=(r"features\.1\.0\.attn\.cpb_mlp\.",),
    ),
)


def translate(tensors: Mapping[str, Tensor]) -> Translated | None:
    """A network's tensors by timm's names, where they are of a known dialect; None where they are of none (timm's own among them)."""
    for dialect in DIALECTS:
        for prefix in dialect.prefixes:
            inner = {name.removeprefix(prefix): name for name in tensors if name.startswith(prefix)}
            if not all(any(re.match(mark, name) for name in inner) for mark in dialect.marks):
                continue
            if any(re.match(pattern, name) for pattern in dialect.lacks for name in tensors):
                continue
            # Beside a prefix stand the heads of its model.
            beside = [name for name in tensors if not name.startswith(prefix)]
            own = {name: name for name in beside if name not in inner and any(re.match(pattern, name) for pattern in dialect.beside)}
            beside = [name for name in beside if name not in own]
            inner |= own
            if all(any(re.match(pattern, name) for pattern in (*dialect.drop, *dialect.beside)) for name in beside):
                return _translated(dialect, inner, tensors, tuple(beside))
    return None


def _translated(dialect: Dialect, inner: Mapping[str, str], tensors: Mapping[str, Tensor], beside: tuple[str, ...]) -> Translated:
    found: Tensors = {}
    dropped = list(beside)
    for name, whole in inner.items():
        if any(re.match(pattern, name) for pattern in dialect.drop):
            dropped.append(whole)
            continue
        target = next(
            (re.sub(pattern, replacement, name, count=1) for pattern, replacement in dialect.renames if re.match(pattern, name)), name
        )
        found[target] = tensors[whole]
    if dialect.finish is not None:
        found = dialect.finish(found)
    for endings, joined in dialect.joins:
        for name in [name for name in found if endings[0] in name]:
            parts = [name.replace(endings[0], ending) for ending in endings]
            if all(part in found for part in parts):
                found[name.replace(endings[0], joined)] = torch.cat([found.pop(part) for part in parts])
    return Translated(dialect, found, tuple(dropped))
