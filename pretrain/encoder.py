"""What is trained: a backbone and its head. Methods are built of encoders, and surveys run them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Encoder(nn.Module):
    """A backbone and its head.

    Forward: images (B, 3, H, W) -> float32 embeddings of norm 1 (B, out); with ``normalised`` off, what the head gives.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, *, normalised: bool = True) -> None:
        super().__init__()
        self.backbone, self.head, self.normalised = backbone, head, normalised

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(self.backbone(images))

    def embed(self, features: Tensor) -> Tensor:
        """Embeddings (B, out) of the backbone's features (B, D)."""
        embeddings: Tensor = self.head(features)
        return F.normalize(embeddings.float(), dim=1) if self.normalised else embeddings
