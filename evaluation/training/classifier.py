"""A backbone with a linear layer on top, of which all is trained or the layer alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from evaluation.extraction.features import eval_mode

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
    """

    def __init__(self, backbone: nn.Module, width: int, classes: int, *, how: Backbone, head_std: float | None = None) -> None:
        super().__init__()
        self.backbone, self.how = backbone, how
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
        outputs: Tensor = self.head(features)
        return outputs

    def train(self, mode: bool = True) -> Classifier:
        """As ``nn.Module.train``, but for a frozen backbone, which stays in eval mode."""
        super().train(mode)
        if self.how == "frozen":
            self.backbone.eval()
        return self


def feature_width(backbone: nn.Module, side: int) -> int:
    """The length of the feature vector that an image of ``side`` pixels gives; the network is left as it is.

    Raises ValueError for a network that gives something else than one vector for an image.
    """
    place = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    with torch.no_grad(), eval_mode(backbone):
        output = backbone(torch.zeros(2, 3, side, side, device=place))
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"the network must give features of shape (B, D), not {shape} for two images")
    return int(output.shape[1])


def freeze_unused(backbone: nn.Module, side: int) -> None:
    """Take the gradient from parameters that features do not depend on, such as layers behind the one that they are taken from.

    Weight decay would change them to no purpose, and processes would wait for their gradients.
    """
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    with torch.enable_grad(), eval_mode(backbone):
        output = backbone(torch.zeros(2, 3, side, side, device=trained[0].device))
        gradients = torch.autograd.grad(output.sum(), trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad = gradient is not None
