"""SimSiam: one network predicts its own projection of the other view, which is held fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn

from evaluation.training.optimizers import ParameterGroup
from evaluation.views.settings import ViewSpec
from pretrain.encoder import Encoder
from pretrain.methods.base import Method, Place, RunFacts
from pretrain.methods.parts import mean_cosine
from zoo.ranges import Range


@dataclass
class SimSiamSettings:
    """Attributes
    ----------
    dim
        Width of the projections (2048 in the SimSiam paper, for ResNet-50).
    predictor_hidden
        Width of the predictor's middle layer (512 in the paper).
    head_norm
        Batch norm in projector and predictor; off: as in the paper's ablation (section 4.4), for networks that do without.
    constant_predictor_lr
        Whether the predictor's learning rate stays at the peak while the rest follows the schedule (paper, section 4.2).
    """

    dim: Annotated[int, Range(1)] = 512
    predictor_hidden: Annotated[int, Range(1)] = 128
    head_norm: bool = True
    constant_predictor_lr: bool = True


def projector(width: int, dim: int, *, norm: bool) -> nn.Sequential:
    """SimSiam's projector, of three layers: features (B, width) -> projections (B, dim).

    With batch norm the first two layers have no bias, and the last one's, which the batch norm after it would cancel, is not trained; that
    batch norm has no parameters.
    """
    last = nn.Linear(width, dim)
    if not norm:
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width), nn.ReLU(inplace=True), last)
    last.bias.requires_grad = False
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, last, nn.BatchNorm1d(dim, affine=False))


def predictor(dim: int, hidden: int, *, norm: bool) -> nn.Sequential:
    """SimSiam's predictor, a bottleneck of two layers: projections (B, dim) -> predictions (B, dim)."""
    middle: list[nn.Module] = [nn.BatchNorm1d(hidden)] if norm else []
    return nn.Sequential(nn.Linear(dim, hidden, bias=not norm), *middle, nn.ReLU(inplace=True), nn.Linear(hidden, dim))


class SimSiam(Method):
    """Simple Siamese learning (Chen and He, arXiv 2011.10566).

    Each view passes the networks by itself, so that its batch-norm statistics are its own.
    """

    Settings: ClassVar[type[Any]] = SimSiamSettings
    encoders: ClassVar[dict[str, str]] = {"query": "encoder.backbone."}

    @classmethod
    def views(cls, settings: SimSiamSettings, size: int) -> tuple[ViewSpec, ...]:
        return ViewSpec("first"), ViewSpec("second")

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: SimSiamSettings, facts: RunFacts) -> None:
        super().__init__(make_backbone, settings, facts)
        backbone = make_backbone()
        width = int(backbone.num_features)  # type: ignore[arg-type]
        self.encoder = Encoder(backbone, projector(width, settings.dim, norm=settings.head_norm), normalised=False)
        self.predictor = predictor(settings.dim, settings.predictor_hidden, norm=settings.head_norm)
        self.constant_predictor_lr = settings.constant_predictor_lr

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup(list(self.encoder.parameters())),
            ParameterGroup(list(self.predictor.parameters()), constant_lr=self.constant_predictor_lr),
        ]

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        projections = [self.encoder(view) for view in views]
        predictions = [self.predictor(projected) for projected in projections]
        agreement = mean_cosine(predictions[0], projections[1].detach()) + mean_cosine(predictions[1], projections[0].detach())
        return {"prediction": -0.5 * agreement}
