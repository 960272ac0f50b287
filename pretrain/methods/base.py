"""What the training loop asks of a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from evaluation.training.optimizers import ParameterGroup
from evaluation.views.settings import ViewSpec
from pretrain.encoder import Encoder
from pretrain.survey.survey import TableMaker
from zoo.data.base import Images
from zoo.ranges import check_ranges


@dataclass(frozen=True)
class RunFacts:
    """What a method may want to know of the run when it is built.

    Attributes
    ----------
    images
        Number of training images.
    batch
        Global batch.
    seed
        The run's seed.
    steps
        Optimizer steps of the whole run.
    """

    images: int
    batch: int
    seed: int
    steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; what is left of its last, incomplete batch is dropped."""
        return self.images // self.batch


@dataclass(frozen=True)
class Place:
    """Where in a step a forward pass is: the global step, and which micro-batch of how many. Key of draws that belong to a batch."""

    step: int
    part: int = 0
    parts: int = 1


class Method(nn.Module):
    """A self-supervised method: networks, views, losses.

    A step of the loop is: :meth:`start_step`; for each micro-batch ``forward`` and backward; the optimizer's step; :meth:`finish_step`.

    Attributes
    ----------
    Settings
        Dataclass of what a recipe may set under ``method:`` (besides ``name``).
    least_images
        The fewest images of a forward pass for which the method's own sums mean something; :meth:`fewest_images` asks the networks too.
    encoders
        Encoder name -> prefix of its backbone in the state dict; ``"query"`` is the trained one. Each is an
        :class:`pretrain.encoder.Encoder`.
    whole_share
        Whether a forward pass must see all of its process's images of the batch, since they are each other's negatives.
    """

    Settings: ClassVar[type[Any]]
    encoders: ClassVar[dict[str, str]]
    least_images: ClassVar[int] = 1
    whole_share: ClassVar[bool] = False

    @classmethod
    def views(cls, settings: Any, size: int) -> tuple[ViewSpec, ...]:
        """The views that ``forward`` gets, in their order, for a run at ``size`` pixels."""
        raise NotImplementedError

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: Any, facts: RunFacts) -> None:
        super().__init__()
        check_ranges(settings, "method.")

    def backbone(self) -> nn.Module:
        """The trained backbone: normalised images (B, 3, H, W) -> features (B, D)."""
        return self.named_encoder("query").backbone

    def named_encoder(self, name: str) -> Encoder:
        """One of :attr:`encoders`, backbone and head."""
        encoder = self.get_submodule(self.encoders[name].removesuffix(".backbone."))
        assert isinstance(encoder, Encoder)
        return encoder

    def fewest_images(self) -> tuple[int, str]:
        """The fewest images that a forward pass of one process needs, and why."""
        if self.least_images > 1:
            return self.least_images, "an image is compared with the others of its forward pass"
        if any(isinstance(module, BatchNorm) for module in self.modules()):
            return 2, "batch norm has no variance over one image"
        return 1, ""

    def check_views(self, size: int) -> None:
        """Raise UserError for what cannot be done with views of ``size`` pixels; called before the first step."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """The trained parameters, in groups."""
        return [ParameterGroup(list(self.parameters()))]

    def makers(self, images: Images) -> list[TableMaker]:
        """Makers of the tables of ``images``, the training set, that the method follows; none by default. Asked before the first step."""
        return []

    def receive(self, tables: Mapping[str, NDArray[np.generic]]) -> None:
        """Tables of the newest surveys, by name: after each survey, and when a run is resumed."""

    def start_step(self, step: int) -> None:
        """Before the first forward of the global step ``step``, counted from 0 (momentum updates)."""

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        """Named losses, scalars, of this process's part of the batch; their sum is minimised.

        Parameters
        ----------
        views
            float32 (b, 3, S, S) each, normalised, in the order of :meth:`views`.
        index
            int64 (b,): positions of the samples in the training set.
        place
            The step and micro-batch.
        """
        raise NotImplementedError

    def finish_step(self) -> None:
        """After the optimizer's step (queue updates)."""
