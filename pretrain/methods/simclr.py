"""SimCLR: every other view in the batch is a negative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.views.settings import ViewSpec
from pretrain.batchnorm import splits_of
from pretrain.encoder import Encoder
from pretrain.methods.base import Method, Place, RunFacts
from pretrain.methods.parts import full_precision, gather_with_gradient, projection
from zoo.ranges import POSITIVE, Range


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
    base_temperature
        The loss is multiplied by temperature / base_temperature. ContrastiveCrop's code has 0.07, which makes the loss, and so the
        gradient, 7.14 times as large at temperature 0.5. None: the loss as it is.
    """

    dim: Annotated[int, Range(1)] = 128
    hidden: Annotated[int | None, Range(1)] = None
    head_norm: bool = False
    temperature: Annotated[float, POSITIVE] = 0.5
    base_temperature: Annotated[float | None, POSITIVE] = None


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

    Both views pass the encoder as one batch, so that batch norm mixes them; under ``bn_splits`` a group holds both views of its part of the
    images, as on a device of its own. With several processes the loss is that of the joint batch, and so is its gradient.
    """

    Settings: ClassVar[type[Any]] = SimCLRSettings
    # With one image there is no negative, and the loss is 0 whatever the network does.
    least_images: ClassVar[int] = 2
    encoders: ClassVar[dict[str, str]] = {"query": "encoder.backbone."}
    whole_share: ClassVar[bool] = True

    @classmethod
    def views(cls, settings: SimCLRSettings, size: int) -> tuple[ViewSpec, ...]:
        return ViewSpec("first"), ViewSpec("second")

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: SimCLRSettings, facts: RunFacts) -> None:
        super().__init__(make_backbone, settings, facts)
        backbone = make_backbone()
        width = int(backbone.num_features)  # type: ignore[arg-type]
        self.encoder = Encoder(backbone, projection(width, settings.hidden or width, settings.dim, norm=settings.head_norm))
        self.temperature = settings.temperature
        self.scale = 1.0 if settings.base_temperature is None else settings.temperature / settings.base_temperature

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        first, second = self.embed(views[0], views[1])
        loss = nt_xent(gather_with_gradient(first), gather_with_gradient(second), self.temperature)
        return {"contrastive": self.scale * loss}

    def embed(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (b, dim) of the two views (b, 3, S, S)."""
        splits = splits_of(self.encoder)
        # Batch norm's groups are consecutive: the first views of a part, then its second ones, then the next part.
        parts = [view for pair in zip(first.chunk(splits), second.chunk(splits), strict=True) for view in pair]
        embeddings = self.encoder(torch.cat(parts)).chunk(2 * splits)
        return torch.cat(embeddings[0::2]), torch.cat(embeddings[1::2])
