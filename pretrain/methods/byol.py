"""BYOL: the online network predicts what a slow average of itself makes of the other view."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from evaluation.views.settings import ViewSpec
from pretrain.encoder import Encoder
from pretrain.methods.base import Method, Place, RunFacts
from pretrain.methods.parts import freeze, mean_cosine, projection, update_average
from zoo.ranges import SHARE, Range


@dataclass
class BYOLSettings:
    """Attributes
    ----------
    dim
        Width of the projections and predictions.
    hidden
        Width of the middle layers of projector and predictor (4096, with ``dim`` 256, in the BYOL paper).
    head_norm
        Batch norm in projector and predictor; off: as in the paper's ablation, for networks that do without.
    momentum
        Of the target's moving average.
    momentum_final
        Where the momentum ends, along a cosine over the run: 1 in the BYOL paper (section 3.1). None: it stays at ``momentum``, as in
        ContrastiveCrop's code.
    legacy_target
        Start the target from random weights of its own, as ContrastiveCrop's code does, in place of a copy of the online network.
    """

    dim: Annotated[int, Range(1)] = 128
    hidden: Annotated[int, Range(1)] = 512
    head_norm: bool = True
    momentum: Annotated[float, SHARE] = 0.996
    momentum_final: Annotated[float | None, SHARE] = None
    legacy_target: bool = False


class BYOL(Method):
    """Bootstrap your own latent (Grill et al., arXiv 2006.07733), with the sizes and the loss's scale of ContrastiveCrop's code.

    Each view passes the networks by itself, so that its batch-norm statistics are its own. The target runs in train mode, on the batch's
    statistics; its parameters are averaged at the start of a step, from the weights that the previous step left.
    """

    Settings: ClassVar[type[Any]] = BYOLSettings
    encoders: ClassVar[dict[str, str]] = {"query": "online.backbone.", "key": "target.backbone."}

    @classmethod
    def views(cls, settings: BYOLSettings, size: int) -> tuple[ViewSpec, ...]:
        return ViewSpec("first"), ViewSpec("second")

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: BYOLSettings, facts: RunFacts) -> None:
        super().__init__(make_backbone, settings, facts)
        def network() -> Encoder:
            backbone = make_backbone()
            width = int(backbone.num_features)  # type: ignore[arg-type]
            return Encoder(backbone, projection(width, settings.hidden, settings.dim, norm=settings.head_norm), normalised=False)

        self.online = network()
        self.predictor = projection(settings.dim, settings.hidden, settings.dim, norm=settings.head_norm)
        self.target = freeze(network() if settings.legacy_target else copy.deepcopy(self.online))
        self.momentum, self.momentum_final, self.steps = settings.momentum, settings.momentum_final, facts.steps

    def momentum_at(self, step: int) -> float:
        """The momentum of the update before global step ``step``."""
        if self.momentum_final is None:
            return self.momentum
        return self.momentum_final - (self.momentum_final - self.momentum) * (1 + math.cos(math.pi * step / self.steps)) / 2

    def start_step(self, step: int) -> None:
        update_average(self.target.parameters(), self.online.parameters(), self.momentum_at(step))

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        predictions = [self.predictor(self.online(view)) for view in views]
        with torch.no_grad():
            targets = [self.target(view) for view in views]
        agreement = mean_cosine(predictions[0], targets[1]) + mean_cosine(predictions[1], targets[0])
        # The squared distance of unit vectors, 2 - 2 cos, of both directions, without its constant: from -4 to 4.
        return {"prediction": -2 * agreement}
