"""CsMl: MoCo v2 that also draws an image to its neighbours, at two levels of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.parallel import Processes
from evaluation.views.settings import ViewSpec, local_views
from evaluation.views.shown import NEIGHBOUR
from evaluation.views.tables import NEIGHBOURS
from pretrain.batchnorm import splits_of
from pretrain.methods.base import Place, RunFacts
from pretrain.methods.cross_sample import Contrast, mix, mix_box
from pretrain.methods.moco import MoCo, MoCoSettings
from pretrain.methods.multi_level import LevelHead, LevelMode, MapFacts, Patches, map_facts, see_both
from pretrain.methods.parts import Queue, freeze, gather, update_average
from pretrain.methods.selection import Masks, prototype_terms
from pretrain.methods.selective import Selection, SelectionSettings
from pretrain.survey.neighbours import NeighbourMaker, check_neighbours
from pretrain.survey.survey import TableMaker
from zoo.data.base import Images
from zoo.errors import UserError
from zoo.ranges import SHARE, Range


@dataclass
class CsMlSettings(SelectionSettings, MoCoSettings):
    """MoCo's settings, those of :class:`pretrain.methods.selective.SelectionSettings` (here all off unless asked for), and:

    Attributes
    ----------
    neighbours
        Off: no neighbours, and so no views of them and no mixed view.
    k
        Neighbours of an image, one of which is drawn in each epoch.
    refresh_epochs
        Epochs between two searches for neighbours; the first is before the first step. None: by the rule of :mod:`pretrain.sizes`.
    cross_weight
        Weight of the other image's key; that of the own one is what is left of 1.
    cross_epochs
        Epochs at the start in which a query is pulled towards the own key alone (the mixed view is not touched by this). None: by the rule.
    mix
        A third query: the anchor's with a box of the neighbour's (CutMix).
    early_mix
        Mix from the first epoch on, as released. Off: from the second search for neighbours on, since those of the first are a random
        network's; till then the mixed term is that of the anchor with its own key.
    level4
        The second level (res4): ``off``, ``global`` (the whole map) or ``patch``.
    level4_weight
        Of the second level's loss.
    window, stride
        Cells of a patch each way, and between two candidates for it. None: by the rule.
    local_views
        Multi-crop: four small views as further queries (:func:`evaluation.views.settings.local_views`).
    """

    neighbours: bool = True
    k: Annotated[int, Range(1)] = 5
    refresh_epochs: Annotated[int | None, Range(1)] = None
    cross_weight: Annotated[float, SHARE] = 0.5
    cross_epochs: Annotated[int | None, Range(0)] = None
    mix: bool = True
    early_mix: bool = True
    level4: LevelMode = LevelMode.off
    level4_weight: Annotated[float, Range(0)] = 1.0
    window: Annotated[int | None, Range(1)] = None
    stride: Annotated[int | None, Range(1)] = None
    local_views: bool = False
    instance_selection: bool = False
    prototypes: bool = False


T = TypeVar("T")


def _known(value: T | None) -> T:
    """``value``, which is not None where the method has a second level."""
    assert value is not None
    return value


@dataclass(frozen=True)
class _Query:
    """A view as the trained encoder sees it: its embedding (b, dim), and at the second level its map (b, C, h, w)."""

    embedding: Tensor
    maps: Tensor | None = None


@dataclass(frozen=True)
class _Key:
    """A view as the key encoder sees it: embeddings (b, dim) at both levels, and the patch (b, C, w, w) that the second one is of."""

    embedding: Tensor
    level: Tensor | None = None
    patch: Tensor | None = None


@dataclass(frozen=True)
class _Term:
    """One part of the loss: a query, pulled towards keys by their weights (numbers, or one for each row)."""

    name: str
    query: str
    targets: tuple[tuple[int, float | Tensor], ...]


class CsMl(MoCo):
    """Cross-sample and multi-level alignment ("Seed the views", Xu et al., arXiv 2012.02733; DOI 10.1109/TPAMI.2022.3176690).

    With ``level4=off`` and ``local_views=false`` it is the authors' released code (github.com/haohang96/CSML, be34e84); the rest is put
    together from the first author's earlier repositories and, where these are silent, from own choices: ``docs/csml.md`` says which is
    which. With ``neighbours=false`` and the others off it is MoCo v2.

    Views: query and key of the anchor, then of one of its neighbours, then local ones of the anchor.
    """

    Settings: ClassVar[type[Any]] = CsMlSettings

    @classmethod
    def views(cls, settings: Any, size: int) -> tuple[ViewSpec, ...]:
        others = (ViewSpec("neighbour_query", source=NEIGHBOUR), ViewSpec("neighbour_key", source=NEIGHBOUR))
        return (
            *super().views(settings, size),
            *(others if settings.neighbours else ()),
            *(local_views(size) if settings.local_views else ()),
        )

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: CsMlSettings, facts: RunFacts) -> None:
        _check(settings, facts)
        selection = Selection(settings, facts, settings.temperature)
        super().__init__(make_backbone, settings, facts)
        self.settings, self.facts, self.selection = settings, facts, selection
        self._map: MapFacts | None = None
        self._new_level_keys: list[Tensor] = []
        if settings.level4 is not LevelMode.off:
            self._map = map_facts(self.encoder_q.backbone)
            self.level_q = LevelHead.of(self.encoder_q.backbone, dim=settings.dim, mlp=settings.mlp)
            self.level_k = freeze(deepcopy(self.level_q))
            self.level_queue = Queue(len(self.queue.keys), settings.dim)

    def check_views(self, size: int) -> None:
        if self.settings.level4 is LevelMode.patch:
            assert self._map is not None
            Patches.on(-(-size // self._map.reduction), self.settings.window, self.settings.stride)

    def makers(self, images: Images) -> list[TableMaker]:
        makers = self.selection.makers(images, self.queue.keys)
        if self.settings.neighbours:
            assert self.settings.refresh_epochs is not None
            labels = {name: level.labels for name, level in images.levels.items()}
            device = self.queue.keys.device
            makers.append(NeighbourMaker(self.settings.k, self.settings.refresh_epochs, device=device, labels=labels))
        return makers

    def receive(self, tables: Mapping[str, NDArray[np.generic]]) -> None:
        self.selection.receive(tables, self.queue.keys.device)
        if NEIGHBOURS in tables:
            check_neighbours(tables[NEIGHBOURS], self.facts.images, self.settings.k)

    def start_step(self, step: int) -> None:
        super().start_step(step)
        self._new_level_keys.clear()
        if self._map is not None:
            update_average(self.level_k.parameters(), self.level_q.parameters(), self.momentum)

    def finish_step(self) -> None:
        super().finish_step()
        if self._map is not None:
            self.level_queue.push(gather(torch.cat(self._new_level_keys)))
            self._new_level_keys.clear()

    # ------------------------------------------------------------------ one step

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        settings, prototypes = self.settings, self.selection.prototypes
        images = 2 if settings.neighbours else 1
        queries, terms = self._queries(views[: 2 * images : 2], place)
        keys = [self._key(view, place, number) for number, view in enumerate(views[1 : 2 * images : 2])]
        local = [self.encoder_q(view) for view in views[2 * images :]]
        # Keys of neighbours enter no queue, as in the released code.
        self._new_keys.append(keys[0].embedding)

        masks = Masks() if prototypes is None else self.selection.masks(self.queue.keys, index, place, 1 + len(local))
        contrast, local_contrast = (
            Contrast(self.queue.keys, self.temperature, kept, settings.rejected, settings.loss_levels)
            for kept in (masks.negatives, masks.negatives if settings.selection_on_local else ())
        )
        # The terms count alike; where there are local views, all terms together count as much as these.
        share = 1.0 / len(terms) / (2.0 if local else 1.0)
        losses = {
            term.name: share * contrast.loss([(queries[term.query].embedding, keys[key].embedding, weight) for key, weight in term.targets])
            for term in terms
        }
        if local:
            own = [(keys[key].embedding, weight) for key, weight in terms[0].targets]
            drawn = [local_contrast.loss([(query, key, weight) for key, weight in own]) for query in local]
            losses["local_contrastive"] = torch.stack(drawn).sum() / 2.0
        if self._map is not None:
            self._new_level_keys.append(_known(keys[0].level))
            losses["level4"] = settings.level4_weight * self._level_loss(queries, keys, terms)
        if prototypes is not None and settings.prototypes:
            embeddings = [queries["anchor"].embedding, *local]
            losses |= prototype_terms(embeddings, index, prototypes, masks, settings.rejected, splits_of(self.encoder_q))
        return losses

    def _queries(self, views: Sequence[Tensor], place: Place) -> tuple[dict[str, _Query], list[_Term]]:
        """The queries of the anchor's view and, if there is one, the neighbour's, by name; and what they are pulled towards."""
        settings, anchor = self.settings, views[0]
        queries = {"anchor": self._query(anchor)}
        if not settings.neighbours:
            return queries, [_Term("contrastive", "anchor", ((0, 1.0),))]
        assert settings.cross_epochs is not None
        assert settings.refresh_epochs is not None
        neighbour, epoch = views[1], place.step // self.facts.steps_per_epoch
        queries["neighbour"] = self._query(neighbour)
        other = 0.0 if epoch < settings.cross_epochs else settings.cross_weight
        terms = [
            _Term("contrastive", "anchor", _weighted((0, 1.0 - other), (1, other))),
            _Term("neighbour", "neighbour", _weighted((1, 1.0 - other), (0, other))),
        ]
        if settings.mix and not settings.early_mix and epoch < settings.refresh_epochs:
            terms.append(_Term("mixed", "anchor", ((0, 1.0),)))
        elif settings.mix:
            # Groups of batch norm stand for devices, and the released code draws a box for a device's own batch.
            groups = splits_of(self.encoder_q)
            first = Processes.current().rank * groups
            boxes = [
                mix_box(anchor.shape[-1], seed=self.seed, step=place.step, part=place.part, group=first + group) for group in range(groups)
            ]
            mixed, share = mix(anchor, neighbour, boxes)
            queries["mixed"] = self._query(mixed)
            terms.append(_Term("mixed", "mixed", ((0, share), (1, 1.0 - share))))
        return queries, terms

    def _query(self, images: Tensor) -> _Query:
        return _Query(self.encoder_q(images)) if self._map is None else _Query(*see_both(self.encoder_q, images))

    def _key(self, images: Tensor, place: Place, number: int) -> _Key:
        """The keys of one view: the anchor's is number 0, the neighbour's 1."""

        def encode(shown: Tensor) -> list[Tensor]:
            if self._map is None:
                return [self.encoder_k(shown)]
            embedding, maps = see_both(self.encoder_k, shown)
            if self.settings.level4 is not LevelMode.patch:
                return [embedding, self.level_k(maps)]
            side = maps.shape[-1]
            patches = self._patches(side)
            patch = patches.key_patch(maps, *patches.draw(side, seed=self.seed, step=place.step, part=place.part, key=number))
            return [embedding, self.level_k(patch), patch]

        return _Key(*self.in_other_groups(encode, images, place, view=number))

    def _patches(self, side: int) -> Patches:
        return Patches.on(side, self.settings.window, self.settings.stride)

    def _level_loss(self, queries: Mapping[str, _Query], keys: Sequence[_Key], terms: Sequence[_Term]) -> Tensor:
        """The mean of the same terms at the second level, with its own head and queue."""
        contrast = Contrast(self.level_queue.keys, self.temperature)
        seen: dict[tuple[str, int], Tensor] = {}

        def embedded(name: str, key: int) -> Tensor:
            # The patch of a query is the one that is like the key's; the whole map is the same for all keys.
            patch, maps = keys[key].patch, _known(queries[name].maps)
            address = (name, 0 if patch is None else key)
            if address not in seen:
                if patch is not None:
                    patches = self._patches(maps.shape[-1])
                    maps = patches.cut(maps, *patches.search(maps, patch))
                seen[address] = self.level_q(maps)
            return seen[address]

        losses = [
            contrast.loss([(embedded(term.query, key), _known(keys[key].level), weight) for key, weight in term.targets]) for term in terms
        ]
        return torch.stack(losses).mean()


def _weighted(*targets: tuple[int, float]) -> tuple[tuple[int, float], ...]:
    """``targets`` without those of no weight."""
    return tuple((key, weight) for key, weight in targets if weight != 0.0)


def _check(settings: CsMlSettings, facts: RunFacts) -> None:
    """Raise UserError for more neighbours than there are images."""
    if settings.neighbours and settings.k >= facts.images:
        raise UserError(
            f"method.k={settings.k} neighbours of each of {facts.images} images: k must be below the number of images; use "
            f"for example method.k={min(CsMlSettings.k, facts.images - 1)}"
        )
