"""HCSC: MoCo v2 with selected negatives and prototypes on several levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.clustering import Hierarchy, check_levels
from evaluation.parallel import Processes
from pretrain.batchnorm import splits_of
from pretrain.methods.base import Place, RunFacts
from pretrain.methods.moco import MoCo, MoCoSettings
from pretrain.methods.parts import full_precision, info_nce
from pretrain.methods.selection import LossLevels, Prototypes, Rejected, draw_masks, dropped_share, hcsc_losses
from pretrain.sizes import prototype_levels
from pretrain.survey.prototypes import PrototypeMaker, hierarchy_of
from pretrain.survey.survey import TableMaker
from pretrain.views.settings import ViewSpec, local_views
from zoo.data.base import Images
from zoo.errors import UserError
from zoo.randomness import generator


@dataclass
class HCSCSettings(MoCoSettings):
    """MoCo's settings, and:

    Attributes
    ----------
    levels
        Clusters per level, from fine to coarse. None: by the rule of :mod:`pretrain.sizes`.
    warmup_epochs
        Epochs of plain MoCo; then a survey at the start of each epoch. None: by the rule.
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
    local_views
        Multi-crop: four small views as further queries (:func:`pretrain.views.settings.local_views`).
    """

    levels: list[int] | None = None
    warmup_epochs: int | None = None
    instance_selection: bool = True
    prototype_selection: bool = True
    prototypes: bool = True
    rejected: Rejected = Rejected.zero
    last_prototype: bool = False
    selection_on_local: bool = True
    loss_levels: LossLevels = LossLevels.sum
    local_views: bool = False


class HCSC(MoCo):
    """Hierarchical contrastive selective coding (Guo et al., CVPR 2022, arXiv 2202.00455), as its published code computes it.

    Until the first survey, and with ``instance_selection`` and ``prototypes`` off, it is MoCo v2 (with local views as further queries where
    there are any).
    """

    Settings: ClassVar[type[Any]] = HCSCSettings

    @classmethod
    def views(cls, settings: Any, size: int) -> tuple[ViewSpec, ...]:
        return (*super().views(settings, size), *(local_views(size) if settings.local_views else ()))

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: HCSCSettings, facts: RunFacts) -> None:
        levels = prototype_levels(facts.images) if settings.levels is None else settings.levels
        try:
            check_levels(levels, facts.images)
        except UserError as error:
            raise UserError(f"method.levels: {error}") from error
        if settings.warmup_epochs is not None and settings.warmup_epochs < 0:
            raise UserError(f"method.warmup_epochs must be 0 or more, not {settings.warmup_epochs}")
        super().__init__(make_backbone, settings, facts)
        self.levels, self.settings, self.images = tuple(levels), settings, facts.images
        self._prototypes: Prototypes | None = None

    def makers(self, images: Images) -> list[TableMaker]:
        if not (self.settings.instance_selection or self.settings.prototypes):
            return []
        assert self.settings.warmup_epochs is not None
        return [
            PrototypeMaker(
                self.levels,
                self.settings.warmup_epochs,
                temperature=self.temperature,
                seed=self.seed,
                empty=self.queue.keys[:0],
                labels={name: level.labels for name, level in images.levels.items()},
                dropped=self._dropped if self.settings.instance_selection else None,
            )
        ]

    def receive(self, tables: Mapping[str, NDArray[np.generic]]) -> None:
        hierarchy = hierarchy_of(tables)
        if hierarchy is None:
            return
        if hierarchy.levels != self.levels or len(hierarchy.assignments[0]) != self.images:
            given = ", ".join(map(str, hierarchy.levels))
            raise UserError(
                f"the prototypes have levels {given} over {len(hierarchy.assignments[0])} images, but the run has method.levels="
                f"{list(self.levels)} and {self.images} images; go on with those"
            )
        device = self.queue.keys.device
        self._prototypes = Prototypes.of(hierarchy.to(device), self.temperature, last=self.settings.last_prototype)

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        query = self.encoder_q(views[0])
        key = self.encode_keys(views[1], place)
        self._new_keys.append(key)
        queries = [query, *(self.encoder_q(view) for view in views[2:])]
        settings, negatives = self.settings, self.queue.keys
        if self._prototypes is None:
            losses = [info_nce(view, key, negatives, self.temperature) for view in queries]
            return {"contrastive": losses[0]} | ({"local_contrastive": torch.stack(losses[1:]).sum()} if losses[1:] else {})
        with full_precision(query):
            masks = draw_masks(
                self._prototypes,
                negatives,
                index,
                self._draws(place, negatives.device),
                instances=settings.instance_selection,
                views=len(queries) if settings.prototypes and settings.prototype_selection else 0,
            )
        return hcsc_losses(
            queries,
            key,
            negatives,
            index,
            self._prototypes,
            masks,
            temperature=self.temperature,
            rejected=settings.rejected,
            loss_levels=settings.loss_levels,
            selection_on_local=settings.selection_on_local,
            prototype_term=settings.prototypes,
            # Groups of batch norm stand for devices, and the published code looks at a device's own batch.
            groups=splits_of(self.encoder_q),
        )

    def _draws(self, place: Place, device: torch.device) -> torch.Generator:
        """The generator of a step's masks: on the device, since these are as large as the logits, and seeded at the step's address."""
        seed = generator(self.seed, "selection masks", place.step, place.part, Processes.current().rank).integers(2**63)
        return torch.Generator(device).manual_seed(int(seed))

    def _dropped(self, hierarchy: Hierarchy) -> list[float]:
        """The expected share of the present queue that each level rejects."""
        levels = zip(hierarchy.centroids, hierarchy.densities, hierarchy.assignments, strict=True)
        return [dropped_share(self.queue.keys, *level) for level in levels]
