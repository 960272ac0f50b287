"""A backbone with a linear layer on top, of which all is trained or the layer alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

# What is done with the backbone while the layer is trained: it is trained too; it is frozen, in eval mode; or its weights are frozen, while
# its batch norms use the batch's statistics and go on gathering running ones.
Backbone = Literal["trained", "frozen", "frozen, live batch norm"]


class Classifier(nn.Module):
    """``head(backbone(images))``.

    Parameters
    ----------
    backbone
        float32 images (B, 3, H, W) -> features (B, width).
    width, classes
        Of the linear layer.
    how
        What of the backbone is trained.
    head_std
        Standard deviation of the layer's first weights, with biases 0; None: torch's own start.
    dropout
        Before the layer.
    """

    def __init__(
        self, backbone: nn.Module, width: int, classes: int, *, how: Backbone, head_std: float | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone, self.how = backbone, how
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)
        if head_std is not None:
            nn.init.normal_(self.head.weight, std=head_std)
            nn.init.zeros_(self.head.bias)
        for parameter in backbone.parameters():
            parameter.requires_grad = how == "trained"

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (B, classes), no probabilities yet."""
        if self.how == "trained":
            features = self.backbone(images)
        else:
            with torch.no_grad():
                features = self.backbone(images)
        outputs: Tensor = self.head(self.dropout(features))
        return outputs

    def train(self, mode: bool = True) -> Classifier:
        """As ``nn.Module.train``, but for a frozen backbone, which stays in eval mode."""
        super().train(mode)
        if self.how == "frozen":
            self.backbone.eval()
        return self
