"""Arms of the study of HCSC that no recipe has: a learned encoder at the start, true classes as prototypes, true neighbours.

They know the labels, so they are no methods of the product. Importing this module enters them among the methods, as ``study_...``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from evaluation.clustering import Hierarchy
from evaluation.clustering.hierarchy import cluster_densities
from evaluation.parallel import ALONE, Processes
from evaluation.views.tables import NEIGHBOURS
from pretrain.methods import HCSC, METHODS, CsMl, MoCo, RunFacts
from pretrain.methods.base import Place
from pretrain.methods.selection import hcsc_losses
from pretrain.survey.neighbours import NeighbourMaker, neighbour_statistics
from pretrain.survey.prototypes import PREFIX, PrototypeMaker
from pretrain.survey.survey import TableMaker
from zoo.data.base import Images
from zoo.models.runs import latest_checkpoint, read_checkpoint

_START: list[Path] = []


def start_from(run: Path) -> None:
    """Have all further runs of this process begin with the encoder, backbone and head, of a SimCLR run."""
    _START[:] = [run]


class Started(MoCo):
    """MoCo v2 whose two encoders begin as the one of a SimCLR run, head and all."""

    def __init__(self, make_backbone: Callable[[], nn.Module], settings: Any, facts: RunFacts) -> None:
        super().__init__(make_backbone, settings, facts)
        state = read_checkpoint(latest_checkpoint(_START[0]))["model"]
        encoder = {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}
        self.encoder_q.load_state_dict(encoder)
        self.encoder_k.load_state_dict(encoder)


class Threefold(Started):
    """The loss counts three times, as HCSC's sum over three levels does where nothing is rejected."""

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        return {name: 3 * loss for name, loss in super().forward(views, index, place).items()}


class StartedHCSC(HCSC, Started):
    """HCSC from a learned encoder."""


class StartedCsMl(CsMl, Started):
    """CsMl from a learned encoder; its second level begins anew."""


def levels_of(images: Images) -> list[str]:
    """The label levels, from fine to coarse."""
    return sorted(images.levels, key=lambda name: -len(images.levels[name].classes))


def true_hierarchy(embeddings: Tensor, labels: Sequence[NDArray[np.int64]], temperature: float) -> Hierarchy:
    """Prototypes that are the means of true classes, with densities and parents as of clusters.

    ``embeddings`` float32 (N, D) of unit length; ``labels`` int64 (N,) for each level, from fine to coarse, each class within one of the
    next.
    """
    truth = [torch.from_numpy(level) for level in labels]
    counts = [torch.bincount(level) for level in truth]
    means = [torch.zeros(len(count), embeddings.shape[1]).index_add_(0, level, embeddings) / count[:, None]
             for level, count in zip(truth, counts, strict=True)]  # fmt: skip
    centroids = [normalize(mean, dim=1) for mean in means]
    found = [
        cluster_densities((embeddings - mean[level]).square().sum(1), level, count, temperature, ALONE)
        for mean, level, count in zip(means, truth, counts, strict=True)
    ]
    parents = []
    for (below, above), count in zip(pairwise(truth), counts[:-1], strict=True):
        parent = torch.zeros(len(count), dtype=torch.int64)
        parent[below] = above
        if not torch.equal(parent[below], above):
            raise ValueError("a class of one level lies in two classes of the next")
        parents.append(parent)
    similarities = tuple(below @ above.T for below, above in pairwise(centroids))
    return Hierarchy(tuple(centroids), tuple(found), tuple(truth), tuple(parents), similarities)


class TruePrototypeMaker(PrototypeMaker):
    """Prototypes of the labels: the embeddings' means by class."""

    def finish(self, processes: Processes) -> tuple[dict[str, NDArray[np.generic]], dict[str, float], str]:
        embeddings = torch.cat(self._seen)
        self._seen = [self._empty]
        fine_to_coarse = sorted(self._labels.values(), key=lambda labels: -int(labels.max()))
        hierarchy = true_hierarchy(embeddings.float(), fine_to_coarse, self._temperature)
        tables = {f"{PREFIX}{name}": tensor.numpy() for name, tensor in hierarchy.state_dict().items()}
        return tables, self._numbers(hierarchy) | self._rejected(hierarchy, embeddings), "prototypes of the true classes"


class TruePrototypes(StartedHCSC):
    """HCSC whose prototypes are the true classes on all levels: its ceiling. ``method.levels`` must be their numbers.

    Published, the clusters of all images of a device's batch are no negatives: of a few classes nothing would be left. Here only the
    image's own
    class is none.
    """

    def forward(self, views: Sequence[Tensor], index: Tensor, place: Place) -> dict[str, Tensor]:
        query, key = self.encoder_q(views[0]), self.encode_keys(views[1], place)
        self._new_keys.append(key)
        prototypes = self.selection.prototypes
        assert prototypes is not None
        return hcsc_losses(
            [query],
            key,
            self.queue.keys,
            index,
            prototypes,
            self.selection.masks(self.queue.keys, index, place, 1),
            temperature=self.temperature,
            rejected=self.settings.rejected,
            loss_levels=self.settings.loss_levels,
            groups=len(index),
        )

    def makers(self, images: Images) -> list[TableMaker]:
        makers = super().makers(images)
        for maker in makers:
            if isinstance(maker, PrototypeMaker):
                maker.__class__ = TruePrototypeMaker
        return makers


class TrueNeighbourMaker(NeighbourMaker):
    """Neighbours that are other images of the same class, drawn anew at every survey."""

    def __init__(self, k: int, every: int, *, truth: NDArray[np.int64], seed: int, **settings: Any) -> None:
        super().__init__(k, every, **settings)
        self._truth, self._draws, self._most = truth, np.random.default_rng(seed), k

    def finish(self, processes: Processes) -> tuple[dict[str, NDArray[np.generic]], dict[str, float], str]:
        self._features, self._last = None, None
        table = same_class(self._truth, self._most, self._draws)
        numbers = neighbour_statistics(table, np.ones(table.shape, np.float32), self._labels)
        return {NEIGHBOURS: table}, numbers, f"{self._most} images of the same class for each image"


def same_class(truth: NDArray[np.int64], k: int, draws: np.random.Generator) -> NDArray[np.int64]:
    """int64 (N, k): for each image others of its class, none of them itself; the same one may come twice."""
    order = np.argsort(truth, kind="stable")
    counts = np.bincount(truth)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    place = np.empty(len(truth), dtype=np.int64)
    place[order] = np.arange(len(truth)) - first[truth[order]]
    step = draws.integers(1, np.maximum(counts[truth], 2)[:, None], size=(len(truth), k))
    found: NDArray[np.int64] = order[first[truth][:, None] + (place[:, None] + step) % counts[truth][:, None]]
    return found


class TrueNeighbours(StartedCsMl):
    """CsMl whose neighbours are images of the same class: its ceiling."""

    def makers(self, images: Images) -> list[TableMaker]:
        labels: Mapping[str, NDArray[np.int64]] = {name: level.labels for name, level in images.levels.items()}
        maker = TrueNeighbourMaker(
            self.settings.k, 1, truth=np.asarray(images.labels), seed=self.seed, device=self.queue.keys.device, labels=labels
        )
        return [maker]


METHODS.update(
    study_moco=Started,
    study_moco_x3=Threefold,
    study_hcsc=StartedHCSC,
    study_csml=StartedCsMl,
    study_true_prototypes=TruePrototypes,
    study_true_neighbours=TrueNeighbours,
)
