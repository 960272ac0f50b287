"""Which of detectron2's tensors is which of torchvision's, for ResNets.

The renaming is that of the MoCo authors' converter (facebookresearch/moco, ``detection/convert-pretrain-to-detectron2.py``) and of
detectron2's own (``tools/convert-torchvision-to-d2.py``). Here every name is made from the architecture as well: none can be forgotten.
"""

from __future__ import annotations

import re

DEPTHS = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101, "resnet152": 152}
# Blocks in each of the four stages; convolutions in a block (He et al., arXiv 1512.03385, table 1).
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_BASIC_DEPTHS = (18, 34)
_NORM = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"  # only counts; detectron2's FrozenBatchNorm2d has none, and would report it as unused

_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.(.+)")
_PART = re.compile(r"(?:conv(\d)|bn(\d)|downsample\.([01]))\.(\w+)")
_STAGE = re.compile(r"(?:^|\.)((?:stem|res[2-5])\..+)$")
_THEIR_BLOCK = re.compile(r"res([2-5])\.(\d+)\.(conv\d|shortcut)\.(norm\.)?(\w+)")


def is_basic(depth: int) -> bool:
    """Whether a ResNet of this depth is made of basic blocks, not bottlenecks: detectron2's C4 head cannot hold it then."""
    return depth in _BASIC_DEPTHS


def torchvision_to_detectron2(name: str) -> str | None:
    """detectron2's name of torchvision's tensor ``name``; None where it has no place in a ResNet's backbone."""
    if name == "conv1.weight":
        return "stem.conv1.weight"
    if name.startswith("bn1."):
        return f"stem.conv1.norm.{name.removeprefix('bn1.')}"
    block = _BLOCK.fullmatch(name)
    part = _PART.fullmatch(block[3]) if block else None
    if block is None or part is None:
        return None
    place = f"res{int(block[1]) + 1}.{block[2]}"
    convolution, norm, shortcut, tensor = part.groups()
    if shortcut:
        return f"{place}.shortcut.{'norm.' if shortcut == '1' else ''}{tensor}"
    return f"{place}.conv{convolution}.{tensor}" if convolution else f"{place}.conv{norm}.norm.{tensor}"


def detectron2_to_torchvision(name: str) -> str | None:
    """The inverse of :func:`torchvision_to_detectron2`, for a name without prefix (:func:`without_prefix`)."""
    if name.startswith("stem.conv1."):
        rest = name.removeprefix("stem.conv1.")
        return f"bn1.{rest.removeprefix('norm.')}" if rest.startswith("norm.") else f"conv1.{rest}"
    match = _THEIR_BLOCK.fullmatch(name)
    if match is None:
        return None
    stage, block, layer, norm, tensor = match.groups()
    if norm:
        theirs = "downsample.1" if layer == "shortcut" else layer.replace("conv", "bn")
    else:
        theirs = "downsample.0" if layer == "shortcut" else layer
    return f"layer{int(stage) - 1}.{block}.{theirs}.{tensor}"


def without_prefix(name: str) -> str | None:
    """A name in a whole detector without what stands before the stage (``backbone.bottom_up.res2...`` -> ``res2...``); None elsewhere.

    The norm that MoCo's protocol appends to the head's res5 is the head's own and gives None.
    """
    match = _STAGE.search(name)
    if match is None or match[1].startswith("res5.norm."):
        return None
    return match[1]


def expected_names(depth: int) -> set[str]:
    """detectron2's names of all tensors in the backbone of a ResNet of this depth, without counters."""
    layers = ["stem.conv1"]
    for stage, blocks in enumerate(BLOCKS[depth], start=2):
        for block in range(blocks):
            convolutions = 2 if is_basic(depth) else 3
            layers += [f"res{stage}.{block}.conv{index + 1}" for index in range(convolutions)]
            # The first block changes the width or the resolution; with basic blocks the first stage changes neither.
            if block == 0 and not (is_basic(depth) and stage == 2):
                layers.append(f"res{stage}.{block}.shortcut")
    return {f"{layer}.weight" for layer in layers} | {f"{layer}.norm.{tensor}" for layer in layers for tensor in _NORM}


def depth_of(names: set[str]) -> int | None:
    """The depth whose tensors are exactly ``names`` (without prefixes and counters), or None."""
    return next((depth for depth in BLOCKS if expected_names(depth) == names), None)
