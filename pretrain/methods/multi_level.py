"""CsMl's second level: a head on the feature map before a ResNet's last stage (res4), and patches of that map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, Bottleneck, downsample_conv
from torch import Tensor, nn

from pretrain.encoder import Encoder
from pretrain.methods.parts import full_precision, projection
from pretrain.sizes import match_stride, match_window
from zoo.backbones import timm_config
from zoo.errors import UserError
from zoo.randomness import generator

PATCH_PURPOSE = "key patch"
BLOCKS = 2
# On a smaller map there are hardly any patches to choose among.
SMALLEST_MAP = 4


# What is compared at the second level: nothing, the whole map, or a patch of it. Made by a call, since `global` is a keyword.
LevelMode = StrEnum("LevelMode", ["off", "global", "patch"])


@dataclass(frozen=True)
class MapFacts:
    """The map before the last stage: its channels and those of the last map, and pixels of the image per cell, each way."""

    channels: int
    last_channels: int
    reduction: int


def map_facts(backbone: nn.Module) -> MapFacts:
    """Raises UserError for a network without a map of twice the last one's resolution just before it, such as a vision transformer."""
    stages: list[Mapping[str, Any]] = list(getattr(backbone, "feature_info", ()))
    if (
        len(stages) < 2
        or not callable(getattr(backbone, "forward_intermediates", None))
        or stages[-1]["reduction"] != 2 * stages[-2]["reduction"]
    ):
        config: Any = timm_config(backbone) if hasattr(backbone, "pretrained_cfg") else {}
        name = config.get("architecture", type(backbone).__name__)
        raise UserError(
            "method.level4 needs a backbone whose last but one stage has twice the resolution of the last, as ResNets have, "
            f"and '{name}' has none; take for example backbone=resnet50, or method.level4=off"
        )
    return MapFacts(stages[-2]["num_chs"], stages[-1]["num_chs"], stages[-2]["reduction"])


class LevelHead(nn.Module):
    """The head of the second level: two residual blocks, the first of which halves the map, mean over the map, and a projection.

    Forward: maps (B, channels, h, w) -> float32 embeddings of norm 1 (B, dim). With ``bottleneck`` and 1024 -> 2048 channels it is the
    authors' (github.com/haohang96/moco_group_ShuffleBN, branch mhead): 14.96 million parameters.

    Parameters
    ----------
    facts
        Channels in, and after the blocks.
    bottleneck
        Which of the two kinds of blocks, as in the backbone.
    dim
        Width of the embedding.
    mlp
        Whether the projection has a hidden layer.
    """

    def __init__(self, facts: MapFacts, *, bottleneck: bool, dim: int, mlp: bool) -> None:
        super().__init__()
        block = Bottleneck if bottleneck else BasicBlock
        width = facts.last_channels
        first = downsample_conv(facts.channels, width, kernel_size=1, stride=2)
        planes = width // block.expansion
        self.blocks = nn.Sequential(
            block(facts.channels, planes, stride=2, downsample=first), *(block(width, planes) for _ in range(BLOCKS - 1))
        )
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.projection = projection(width, width if mlp else None, dim)

    def forward(self, maps: Tensor) -> Tensor:
        embeddings: Tensor = self.projection(self.blocks(maps).mean(dim=(2, 3)))
        return F.normalize(embeddings.float(), dim=1)

    @classmethod
    def of(cls, backbone: nn.Module, *, dim: int, mlp: bool) -> LevelHead:
        """The head for a backbone, with blocks of its kind. Raises as :func:`map_facts`."""
        bottleneck = any(isinstance(module, Bottleneck) for module in backbone.modules())
        return cls(map_facts(backbone), bottleneck=bottleneck, dim=dim, mlp=mlp)


def see_both(encoder: Encoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """The embeddings (b, dim) of images (b, 3, S, S), and the maps before the last stage (b, C, h, w), in one forward pass."""
    network: Any = encoder.backbone
    last, maps = network.forward_intermediates(images, indices=2)
    return encoder.embed(network.forward_head(last)), maps[0]


@dataclass(frozen=True)
class Patches:
    """Patches of maps of m x m cells.

    Attributes
    ----------
    window
        Side of a patch in cells.
    stride
        Cells between two candidates of the search, each way.
    """

    window: int
    stride: int

    @classmethod
    def on(cls, side: int, window: int | None, stride: int | None) -> Patches:
        """Those of maps of ``side`` cells each way; what is None by the rule of :mod:`pretrain.sizes`.

        Raises UserError where they do not fit.
        """
        if side < SMALLEST_MAP:
            raise UserError(
                f"method.level4=patch: the map has {side}x{side} cells, and patches need {SMALLEST_MAP}x{SMALLEST_MAP}; take a larger "
                "views.size, a backbone with the small-image stem (resnet18_small), or method.level4=global"
            )
        chosen = match_window(side) if window is None else window
        if chosen > side:
            raise UserError(
                f"method.window={window} does not fit into the map of {side}x{side} cells; use for example {match_window(side)}"
            )
        return cls(chosen, match_stride(side, chosen) if stride is None else stride)

    def draw(self, side: int, *, seed: int, step: int, part: int, key: int) -> tuple[int, int]:
        """Top and left of the patch of a step's keys number ``key``: any place on maps of ``side`` cells, the last ones included."""
        top, left = generator(seed, PATCH_PURPOSE, step, part, key).integers(side - self.window + 1, size=2)
        return int(top), int(left)

    def key_patch(self, maps: Tensor, top: int, left: int) -> Tensor:
        """The patch (b, C, w, w) of maps (b, C, h, w) at one place."""
        return maps[:, :, top : top + self.window, left : left + self.window]

    @torch.no_grad()
    def search(self, maps: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Where on each map (b, C, h, w) is what most resembles its key's patch (b, C, w, w): tops and lefts, int64 (b,).

        Candidates lie on a grid with a step of ``stride``. The score is the sum over cells of the cosine between the two vectors of
        channels; of equal ones the first counts. No gradient flows through the choice.
        """
        with full_precision(maps):
            ours, theirs = F.normalize(maps.float(), dim=1), F.normalize(patches.float(), dim=1)
            rows, columns = (range(0, length - self.window + 1, self.stride) for length in maps.shape[2:])
            places = [(top, left) for top in rows for left in columns]
            scores = torch.stack([(self.key_patch(ours, *place) * theirs).sum(dim=(1, 2, 3)) for place in places], dim=1)
            best = scores.argmax(dim=1)
        return best // len(columns) * self.stride, best % len(columns) * self.stride

    def cut(self, maps: Tensor, tops: Tensor, lefts: Tensor) -> Tensor:
        """The patches (b, C, w, w) of maps (b, C, h, w), each at its own place (b,)."""
        count, channels, _, width = maps.shape
        along = torch.arange(self.window, device=maps.device)
        rows = (tops[:, None] + along)[:, None, :, None].expand(count, channels, self.window, width)
        columns = (lefts[:, None] + along)[:, None, None, :].expand(count, channels, self.window, self.window)
        return maps.gather(2, rows).gather(3, columns)
