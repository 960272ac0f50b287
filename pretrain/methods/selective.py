"""HCSC's share in a method: its settings, its survey's table, and what a step draws of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.clustering import Hierarchy, check_levels
from evaluation.parallel import Processes
from pretrain.methods.base import Place, RunFacts
from pretrain.methods.parts import full_precision
from pretrain.methods.selection import MOST_KEPT, LossLevels, Masks, Prototypes, Rejected, draw_masks, dropped_share, keep_negatives
from pretrain.sizes import prototype_levels
from pretrain.survey.prototypes import STEERING, PrototypeMaker, cluster_agreement, hierarchy_of
from pretrain.survey.survey import TableMaker
from zoo.data.base import Images
from zoo.errors import UserError
from zoo.randomness import generator
from zoo.ranges import Range


@dataclass
class SelectionSettings:
    """Attributes
    ----------
    levels
        Clusters per level, from fine to coarse. None: by the rule of :mod:`pretrain.sizes`.
    warmup_epochs
        Epochs without prototypes; then a survey at the start of each epoch. None: by the rule.
    start_ami
        Prototypes steer from the survey on whose finest clusters have at least this adjusted mutual information with those of the survey
        before; till then the method is what it is without. None, as published: from the first survey on.
    instance_selection
        Reject negatives that probably are of the query's own cluster; the instance loss then has a term for each level.
    prototype_selection
        Reject prototypes that probably have the parent of the query's own.
    prototypes
        The prototype losses.
    rejected
        ``zero``: rejected candidates keep a logit of 0 (the published code). ``drop``: they leave the sum (the paper).
    last_prototype
        Whether the cluster of the highest number may be a negative prototype; in the published code it never is.
    selection_on_local
        Whether local views' negatives are selected too.
    loss_levels
        ``sum`` or ``mean`` over levels of the instance loss; that of prototypes is always a mean (the published code: ``sum``).
    """

    levels: Annotated[list[int] | None, Range(1)] = None
    warmup_epochs: Annotated[int | None, Range(0)] = None
    start_ami: Annotated[float | None, Range(0, 1)] = None
    instance_selection: bool = True
    prototype_selection: bool = True
    prototypes: bool = True
    rejected: Rejected = Rejected.zero
    last_prototype: bool = False
    selection_on_local: bool = True
    loss_levels: LossLevels = LossLevels.sum


class Selection:
    """Prototypes of the newest survey, and the masks of a step.

    Attributes
    ----------
    levels
        Clusters per level, from fine to coarse.
    prototypes
        None before the first survey, and until they steer.

    Raises
    ------
    UserError
        For levels that the images do not allow, where any use is made of them.
    """

    def __init__(self, settings: SelectionSettings, facts: RunFacts, temperature: float) -> None:
        self.settings, self.facts, self.temperature = settings, facts, temperature
        self.levels = tuple(prototype_levels(facts.images) if settings.levels is None else settings.levels)
        self.prototypes: Prototypes | None = None
        # Of the newest survey, and whether what it found steers.
        self._newest: Hierarchy | None = None
        self._steers = settings.start_ami is None
        if not self.used:
            return
        try:
            check_levels(self.levels, facts.images)
        except UserError as error:
            raise UserError(f"method.levels: {error}") from error

    @property
    def used(self) -> bool:
        """Whether the method has prototypes at all."""
        return self.settings.instance_selection or self.settings.prototypes

    def makers(self, images: Images, negatives: Tensor) -> list[TableMaker]:
        """The maker of the prototypes of ``images``; ``negatives`` (K, D) are the queue, wherever it is when surveys are made."""
        if not self.used:
            return []
        assert self.settings.warmup_epochs is not None

        def dropped(hierarchy: Hierarchy) -> list[float]:
            levels = zip(hierarchy.centroids, hierarchy.densities, hierarchy.assignments, strict=True)
            return [dropped_share(negatives, *level) for level in levels]

        def probabilities(hierarchy: Hierarchy, candidates: Tensor, queries: Tensor) -> list[Tensor]:
            levels = zip(hierarchy.centroids, hierarchy.densities, hierarchy.assignments, strict=True)
            with full_precision(candidates):
                kept = (keep_negatives(candidates, centroids, densities, own[queries]) for centroids, densities, own in levels)
                return [probability.clamp(0, MOST_KEPT) for probability in kept]

        def steering(hierarchy: Hierarchy) -> tuple[bool, float | None]:
            # Once they steer, they go on, however much the clusters change.
            if self._steers or self._newest is None:
                return self._steers, None
            assert self.settings.start_ami is not None
            agreement = cluster_agreement(self._newest, hierarchy)
            return agreement >= self.settings.start_ami, agreement

        return [
            PrototypeMaker(
                self.levels,
                self.settings.warmup_epochs,
                temperature=self.temperature,
                seed=self.facts.seed,
                empty=negatives[:0],
                labels={name: level.labels for name, level in images.levels.items()},
                dropped=dropped if self.settings.instance_selection else None,
                kept=probabilities if self.settings.instance_selection else None,
                steering=None if self.settings.start_ami is None else steering,
            )
        ]

    def receive(self, tables: Mapping[str, NDArray[np.generic]], device: torch.device) -> None:
        """Take the prototypes among ``tables``, if there are any. Raises UserError for those of other levels or images."""
        hierarchy = hierarchy_of(tables)
        if hierarchy is None:
            return
        if hierarchy.levels != self.levels or len(hierarchy.assignments[0]) != self.facts.images:
            given = ", ".join(map(str, hierarchy.levels))
            raise UserError(
                f"the prototypes have levels {given} over {len(hierarchy.assignments[0])} images, but the run has method.levels="
                f"{list(self.levels)} and {self.facts.images} images; go on with those"
            )
        self._newest = hierarchy
        if self.settings.start_ami is not None:
            self._steers = STEERING in tables and bool(tables[STEERING].any())
        if self._steers:
            self.prototypes = Prototypes.of(hierarchy.to(device), self.temperature, last=self.settings.last_prototype)

    def masks(self, negatives: Tensor, index: Tensor, place: Place, views: int) -> Masks:
        """What a forward pass keeps of the queue (K, D) and, for ``views`` views, of the prototypes."""
        settings = self.settings
        assert self.prototypes is not None
        with full_precision(negatives):
            return draw_masks(
                self.prototypes,
                negatives,
                index,
                self.draws(place, negatives.device),
                instances=settings.instance_selection,
                views=views if settings.prototypes and settings.prototype_selection else 0,
            )

    def draws(self, place: Place, device: torch.device) -> torch.Generator:
        """The generator of a step's masks: on the device, since these are as large as the logits, and seeded at the step's address."""
        seed = generator(self.facts.seed, "selection masks", place.step, place.part, Processes.current().rank).integers(2**63)
        return torch.Generator(device).manual_seed(int(seed))
