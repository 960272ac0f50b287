"""What the training loop asks of a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from pretrain.views.settings import ViewSpec


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
    """

    images: int
    batch: int
    seed: int


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
    encoders
        Encoder name -> prefix of its backbone in the state dict; ``"query"`` is the trained one.
    """

    Settings: ClassVar[type[Any]]
    encoders: ClassVar[dict[str, str]]

    @classmethod
    def views(cls, settings: Any) -> tuple[ViewSpec, ...]:
        """The views that ``forward`` gets, in their order."""
        raise NotImplementedError

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: Any, facts: RunFacts) -> None:
        super().__init__()

    def backbone(self) -> nn.Module:
        """The trained backbone: normalised images (B, 3, H, W) -> features (B, D)."""
        raise NotImplementedError

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """The trained parameters, in groups."""
        return [[p for p in self.parameters() if p.requires_grad]]

    def start_step(self) -> None:
        """Before the first forward of a step (momentum updates)."""

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
