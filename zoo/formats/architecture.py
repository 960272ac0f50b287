"""Which architecture a set of named shapes belongs to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from zoo.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]

# Blocks per stage, whether they are bottlenecks -> depth (He et al., arXiv 1512.03385, table 1).
_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
_STEM_CHANNELS = 64
_DEEP_STEM = (32, 32, 64)
# Inner channels of the first stage's blocks -> prefix and suffix of the name; a bottleneck of torchvision's wide networks is twice as wide.
_WIDE = {(128, 50): "wide_resnet50_2", (128, 101): "wide_resnet101_2"}
# Groups, inner channels of the first stage's blocks, depth (Xie et al., arXiv 1611.05431, table 1 and section 5).
_RESNEXT = {
    (32, 128, 50): "resnext50_32x4d",
    (32, 128, 101): "resnext101_32x4d",
    (32, 256, 101): "resnext101_32x8d",
    (64, 256, 101): "resnext101_64x4d",
}
_SMALL_STEMS = {18: "resnet18_small", 34: "resnet34_small", 50: "resnet50_small"}
_TINY_STAGES = ((1, 1, 1, 1), False)
_TINY_CHANNELS = 32
# Width and number of blocks of a vision transformer -> its size in timm's names (Dosovitskiy et al., arXiv 2010.11929, table 1; DeiT).
_TRANSFORMERS = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}
# Without a class token, as I-JEPA's (Assran et al., arXiv 2301.08243): patch, and timm's name where it has one of its own.
_WITHOUT_TOKEN = {
    (1280, 32, 14): "vit_huge_patch14_gap_224",
    (1280, 32, 16): "vit_huge_patch16_gap_448",
    (1408, 40, 16): "vit_giant_patch16_gap_224",
}
_TRANSFORMER_SIDE = 224  # in timm's names
# DINOv2's have layer scale and patches of 14 px (Oquab et al., arXiv 2304.07193, table 17; the giant one's blocks are gated).
_DINOV2 = {(384, 12): "small", (768, 12): "base", (1024, 24): "large", (1536, 40): "giant"}
_DINOV2_PATCH, _REGISTERS = 14, 4
# Width, blocks, whether its layers are gated (Siméoni et al., arXiv 2508.10104, table 2).
_DINOV3 = {
    (384, 12, False): "vit_small_patch16_dinov3",
    (384, 12, True): "vit_small_plus_patch16_dinov3",
    (768, 12, False): "vit_base_patch16_dinov3",
    (1024, 24, False): "vit_large_patch16_dinov3",
    (1280, 32, True): "vit_huge_plus_patch16_dinov3",
    (4096, 40, True): "vit_7b_patch16_dinov3",
}
# Bao et al., arXiv 2106.08254, section 3.1.
_BEIT = {(768, 12): "base", (1024, 24): "large"}
# Blocks per stage and width of the first (Liu et al., arXiv 2103.14030, section 3.3); windows of 7 px.
_SWIN: dict[tuple[tuple[int, ...], int], str] = {
    ((2, 2, 6, 2), 96): "tiny",
    ((2, 2, 18, 2), 96): "small",
    ((2, 2, 18, 2), 128): "base",
    ((2, 2, 18, 2), 192): "large",
}
_SWIN_TABLE = 13 * 13
# Blocks per stage and width of the stem (Liu et al., arXiv 2201.03545, section 3).
_CONVNEXTS: dict[tuple[tuple[int, ...], int], str] = {
    ((3, 3, 9, 3), 96): "convnext_tiny",
    ((3, 3, 27, 3), 96): "convnext_small",
    ((3, 3, 27, 3), 128): "convnext_base",
    ((3, 3, 27, 3), 192): "convnext_large",
    ((3, 3, 27, 3), 256): "convnext_xlarge",
}


@dataclass(frozen=True)
class Architecture:
    """timm's name of an architecture, and the side in pixels of the images that its weights are for, where the weights tell."""

    name: str
    image_size: int | None = None


def infer_architecture(shapes: Shapes) -> Architecture:
    """The architecture of a backbone's tensors, by names of timm and their shapes.

    Whether every tensor is there and fits is not settled here but where they are loaded.

    Raises
    ------
    UserError
        No architecture that is told from shapes has such tensors; the text says what they look like.
    """
    if "layers.0.blocks.0.attn.relative_position_bias_table" in shapes:
        return Architecture(_swin(shapes))
    if "cls_token" in shapes or "pos_embed" in shapes:
        return _dinov3(shapes) or _beit(shapes) or _transformer(shapes)
    if "conv1.weight" in shapes and any(name.startswith("layer1.") for name in shapes):
        return Architecture(_resnet(shapes))
    if "conv1.6.weight" in shapes and len(shapes.get("layer2.0.downsample.1.weight", ())) == 4:
        return Architecture(_resnet_d(shapes))
    if "stem.0.weight" in shapes and "stages.0.blocks.0.conv_dw.weight" in shapes:
        return Architecture(_convnext(shapes))
    some = ", ".join(sorted(shapes)[:4]) or "none"
    raise UserError(f"the architecture cannot be told from the names of the tensors ({some}, ...); name it with --arch")


def _resnet(shapes: Shapes) -> str:
    stem = shapes["conv1.weight"]
    stages = tuple(_count(shapes, rf"layer{stage}\.(\d+)\.") for stage in range(1, 10))
    stages = tuple(stages[: max(index for index, blocks in enumerate(stages, 1) if blocks or index == 1)])
    bottleneck = "layer1.0.conv3.weight" in shapes
    inner = shapes.get("layer1.0.conv2.weight", (0, 0, 0, 0))
    looks = f"a ResNet of {'-'.join(map(str, stages))} {'bottleneck' if bottleneck else 'basic'} blocks whose conv1 is {list(stem)}"
    if len(stem) != 4 or len(inner) != 4 or stem[1] != 3 or stem[2] != stem[3] or stem[2] not in (3, 7):
        raise UserError(f"{looks} is no architecture of this toolkit; if timm has it, name it with --arch")
    small = stem[2] == 3
    if (stages, bottleneck) == _TINY_STAGES and small and inner[0] == _TINY_CHANNELS:
        return "resnet10_small"
    depth = _DEPTHS.get((stages, bottleneck))
    if depth is None:
        raise UserError(
            f"{looks} is no architecture of this toolkit (nor of He et al.'s for ImageNet); if timm has it, name it with --arch"
        )
    if stem[0] != _STEM_CHANNELS:
        raise UserError(
            f"{looks} is wider than a ResNet-{depth} in every layer, conv1 too, and no timm network is; it cannot become a zoo model"
        )
    width, groups = inner[0], inner[0] // max(1, inner[1])
    if (width, groups) == (_STEM_CHANNELS, 1):
        if not small:
            return f"resnet{depth}"
        if depth in _SMALL_STEMS:
            return _SMALL_STEMS[depth]
    elif groups == 1 and not small and (width, depth) in _WIDE:
        return _WIDE[width, depth]
    elif not small and (groups, width, depth) in _RESNEXT:
        return _RESNEXT[groups, width, depth]
    raise UserError(
        f"{looks}, {width} channels in {groups} groups inside, is no architecture of this toolkit; if timm has it, name it with --arch"
    )


def _resnet_d(shapes: Shapes) -> str:
    """A ResNet with a stem of three convolutions, whose shortcuts average (He et al., arXiv 1812.01187, section 4)."""
    stages = tuple(_count(shapes, rf"layer{stage}\.(\d+)\.") for stage in range(1, 5))
    stem = tuple(shapes.get(f"conv1.{layer}.weight", (0,))[0] for layer in (0, 3, 6))
    inner = shapes.get("layer1.0.conv2.weight", (0, 0, 0, 0))
    depth = _DEPTHS.get((stages, "layer1.0.conv3.weight" in shapes))
    others = any(re.search(r"\.(se|attn|eca|aa)\.", name) for name in shapes)
    if depth is None or stem != _DEEP_STEM or inner[:2] != (_STEM_CHANNELS, _STEM_CHANNELS) or others:
        raise UserError(
            f"a ResNet of {'-'.join(map(str, stages))} blocks whose stem has convolutions of {', '.join(map(str, stem))} channels is none "
            "that is told from shapes; if timm has it, name it with --arch"
        )
    return f"resnet{depth}d"


def _convnext(shapes: Shapes) -> str:
    stem = shapes["stem.0.weight"]
    stages = tuple(_count(shapes, rf"stages\.{stage}\.blocks\.(\d+)\.") for stage in range(4))
    name = _CONVNEXTS.get((stages, stem[0])) if stem[1:] == (3, 4, 4) else None
    layers = [shape for block, shape in shapes.items() if block.endswith(".mlp.fc1.weight")]
    if name is None or any(len(shape) != 2 for shape in layers) or any(".mlp.grn." in block for block in shapes):
        raise UserError(
            f"a ConvNeXt of {'-'.join(map(str, stages))} blocks whose stem is {list(stem)} is none that is told from shapes; if timm has "
            "it, name it with --arch"
        )
    return name


def _swin(shapes: Shapes) -> str:
    stem = shapes.get("patch_embed.proj.weight", ())
    stages = tuple(_count(shapes, rf"layers\.{stage}\.blocks\.(\d+)\.") for stage in range(4))
    name = _SWIN.get((stages, stem[0])) if stem[1:] == (3, 4, 4) else None
    tables = {shape[0] for block, shape in shapes.items() if block.endswith("relative_position_bias_table")}
    if name is None or tables != {_SWIN_TABLE}:
        raise UserError(
            f"a Swin transformer of {'-'.join(map(str, stages))} blocks whose stem is {list(stem)} is none that is told from shapes; if "
            "timm has it, name it with --arch"
        )
    return f"swin_{name}_patch4_window7_224"


def _dinov3(shapes: Shapes) -> Architecture | None:
    """A vision transformer of DINOv3: registers, positions by rotation, layer scale; None where it is none."""
    patches = shapes.get("patch_embed.proj.weight", ())
    if "pos_embed" in shapes or "reg_token" not in shapes or "blocks.0.gamma_1" not in shapes or len(patches) != 4:
        return None
    gated = "blocks.0.mlp.fc1_g.weight" in shapes
    name = _DINOV3.get((patches[0], _count(shapes, r"blocks\.(\d+)\."), gated))
    if name is None or patches[2:] != (16, 16) or shapes["reg_token"][1] != _REGISTERS:
        return None
    biased = "blocks.0.attn.q_bias" in shapes
    return Architecture(name + ("_qkvb" if biased else ""))


def _beit(shapes: Shapes) -> Architecture | None:
    """A BEiT with a table of relative positions in each block; None where it is none."""
    patches, table = shapes.get("patch_embed.proj.weight", ()), shapes.get("blocks.0.attn.relative_position_bias_table", ())
    if "pos_embed" in shapes or "blocks.0.gamma_1" not in shapes or len(patches) != 4 or len(table) != 2:
        return None
    size, span = _BEIT.get((patches[0], _count(shapes, r"blocks\.(\d+)\."))), math.isqrt(max(0, table[0] - 3))
    if size is None or span * span != table[0] - 3 or patches[2:] != (16, 16):
        return None
    return Architecture(f"beit_{size}_patch16_224", (span + 1) // 2 * 16)


def _transformer(shapes: Shapes) -> Architecture:
    patches, positions = shapes.get("patch_embed.proj.weight", ()), shapes.get("pos_embed", ())
    blocks = _count(shapes, r"blocks\.(\d+)\.")
    looks = f"a vision transformer of {blocks} blocks with patches {list(patches)} and positions {list(positions)}"
    scaled = _dinov2(shapes, patches, positions, blocks)
    if scaled is not None:
        return scaled
    plain = not any(re.search(r"\.(ls[12]|gamma_[12])\b|register_tokens|reg_token|mask_token|rel_pos", name) for name in shapes)
    if not plain or len(patches) != 4 or len(positions) != 3 or patches[2] != patches[3]:
        raise UserError(f"{looks} is not a plain ViT; if timm has it under these names, name it with --arch")
    size, tokens = _TRANSFORMERS.get((patches[0], blocks)), int("cls_token" in shapes)
    grid = math.isqrt(max(0, positions[1] - tokens))
    own = None if tokens else _WITHOUT_TOKEN.get((patches[0], blocks, patches[2]))
    if (size is None and own is None) or grid * grid != positions[1] - tokens or grid == 0:
        raise UserError(f"{looks} is no ViT of a size that is told from shapes (tiny, small, base, large, huge); name it with --arch")
    return Architecture(own or f"vit_{size}_patch{patches[2]}_{_TRANSFORMER_SIDE}", grid * patches[2])


def _dinov2(shapes: Shapes, patches: tuple[int, ...], positions: tuple[int, ...], blocks: int) -> Architecture | None:
    """A vision transformer of DINOv2, with or without registers; None where it is none."""
    others = any(re.search(r"gamma_[12]\b|rel_pos", name) for name in shapes)
    if others or "cls_token" not in shapes or "blocks.0.ls1.gamma" not in shapes or len(patches) != 4 or len(positions) != 3:
        return None
    registers = "reg_token" in shapes
    # With registers, the class token has no position.
    places = positions[1] - (not registers)
    size, grid = _DINOV2.get((patches[0], blocks)), math.isqrt(max(0, places))
    if size is None or patches[2:] != (_DINOV2_PATCH, _DINOV2_PATCH) or grid == 0 or grid * grid != places:
        return None
    if registers and shapes["reg_token"][1] != _REGISTERS:
        return None
    return Architecture(f"vit_{size}_patch{_DINOV2_PATCH}_{'reg4_' if registers else ''}dinov2", grid * _DINOV2_PATCH)


def side_of(shapes: Shapes) -> int | None:
    """The side in pixels of the images that a transformer's positions are for, whatever the architecture; None where they do not tell."""
    patches, positions = shapes.get("patch_embed.proj.weight", ()), shapes.get("pos_embed", ())
    if len(patches) != 4 or len(positions) != 3 or patches[2] != patches[3]:
        return None
    # Some architectures give their other tokens positions too, others do not: of two counts that could be, at most one is a square.
    tokens = sum(shapes[name][1] for name in ("cls_token", "dist_token", "reg_token") if len(shapes.get(name, ())) == 3)
    for others in dict.fromkeys((tokens, 1, 0)):
        grid = math.isqrt(max(0, positions[1] - others))
        if grid and grid * grid == positions[1] - others:
            return grid * patches[2]
    return None


def _count(shapes: Shapes, pattern: str) -> int:
    """One more than the highest number that a name has at the pattern's group; 0 where none matches."""
    numbers = [int(match[1]) for match in map(re.compile(pattern).match, shapes) if match]
    return max(numbers) + 1 if numbers else 0
