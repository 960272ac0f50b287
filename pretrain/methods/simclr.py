"""SimCLR: every other view in the batch is a negative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.methods.base import Method, Place, RunFacts
from pretrain.methods.parts import Encoder, full_precision, gather_with_gradient, projection
from pretrain.views.settings import ViewSpec


@dataclass
class SimCLRSettings:
    """Attributes
    ----------
    dim
        Width of the embedding.
    hidden
        Width of the head's middle layer; None: the backbone's.
    head_norm
        Batch norm in the head.
    temperature
        Divides the similarities.
    """

    dim: int = 128
    hidden: int | None = None
    head_norm: bool = False
    temperature: float = 0.5


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The normalised temperature-scaled cross-entropy (Chen et al., arXiv 2002.05709, eq. 1).

    Parameters
    ----------
    first, second
        float32 (B, D), L2-normalised; rows i of both are views of one image.

    Returns
    -------
    Mean over all 2B views, a scalar: each view against the other 2B - 1.
    """
    both = torch.cat([first, second])
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    with full_precision(both):
        logits = (both @ both.T / temperature).masked_fill(itself, float("-inf"))
        return F.cross_entropy(logits, torch.arange(len(both), device=both.device).roll(len(first)))


class SimCLR(Method):
    """SimCLR (Chen et al., arXiv 2002.05709).

    Both views pass the encoder as one batch, so that batch norm mixes them. With several processes the loss is that of the joint batch,
    and so is its gradient.
    """

    Settings: ClassVar[type[Any]] = SimCLRSettings
    encoders: ClassVar[dict[str, str]] = {"query": "encoder.backbone."}

    @classmethod
    def views(cls, settings: SimCLRSettings) -> tuple[ViewSpec, ...]:
        return ViewSpec("first"), ViewSpec("second")

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: SimCLRSettings, facts: RunFacts) -> None:
        super().__init__(make_backbone, settings, facts)
        backbone = make_backbone()
        width = int(backbone.num_features)  # type: ignore[arg-type]
        self.encoder = Encoder(backbone, projection(width, settings.hidden or width, settings.dim, norm=settings.head_norm))
        self.temperature = settings.temperature

    def backbone(self) -> nn.Module:
        return self.encoder.backbone

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        first, second = self.encoder(torch.cat([views[0], views[1]])).chunk(2)
        return {"contrastive": nt_xent(gather_with_gradient(first), gather_with_gradient(second), self.temperature)}
