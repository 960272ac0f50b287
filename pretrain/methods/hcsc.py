"""HCSC: MoCo v2 with selected negatives and prototypes on several levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.views.settings import ViewSpec, local_views
from pretrain.batchnorm import splits_of
from pretrain.methods.base import Place, RunFacts
from pretrain.methods.moco import MoCo, MoCoSettings
from pretrain.methods.parts import info_nce
from pretrain.methods.selection import hcsc_losses
from pretrain.methods.selective import Selection, SelectionSettings
from pretrain.survey.survey import TableMaker
from zoo.data.base import Images


@dataclass
class HCSCSettings(SelectionSettings, MoCoSettings):
    """MoCo's settings, those of :class:`pretrain.methods.selective.SelectionSettings`, and:

    Attributes
    ----------
    local_views
        Multi-crop: four small views as further queries (:func:`evaluation.views.settings.local_views`).
    """

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
        selection = Selection(settings, facts, settings.temperature)
        super().__init__(make_backbone, settings, facts)
        self.settings, self.selection = settings, selection

    def makers(self, images: Images) -> list[TableMaker]:
        return self.selection.makers(images, self.queue.keys)

    def receive(self, tables: Mapping[str, NDArray[np.generic]]) -> None:
        self.selection.receive(tables, self.queue.keys.device)

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        query = self.encoder_q(views[0])
        key = self.encode_keys(views[1], place)
        self._new_keys.append(key)
        queries = [query, *(self.encoder_q(view) for view in views[2:])]
        settings, negatives, prototypes = self.settings, self.queue.keys, self.selection.prototypes
        if prototypes is None:
            losses = [info_nce(view, key, negatives, self.temperature) for view in queries]
            return {"contrastive": losses[0]} | ({"local_contrastive": torch.stack(losses[1:]).sum()} if losses[1:] else {})
        return hcsc_losses(
            queries,
            key,
            negatives,
            index,
            prototypes,
            self.selection.masks(negatives, index, place, len(queries)),
            temperature=self.temperature,
            rejected=settings.rejected,
            loss_levels=settings.loss_levels,
            selection_on_local=settings.selection_on_local,
            prototype_term=settings.prototypes,
            # Groups of batch norm stand for devices, and the published code looks at a device's own batch.
            groups=splits_of(self.encoder_q),
        )
