"""HCSC's selection and losses against plain NumPy loops with given masks, and against values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from evaluation.clustering import Hierarchy, hierarchical_kmeans
from pretrain.methods import HCSC, MoCo, RunFacts
from pretrain.methods.base import Place
from pretrain.methods.hcsc import HCSCSettings
from pretrain.methods.moco import MoCoSettings
from pretrain.methods.selection import (
    LossLevels,
    Masks,
    Prototypes,
    Rejected,
    draw_masks,
    dropped_share,
    hcsc_losses,
    keep_negatives,
    keep_prototypes,
    masked_nce,
    prototype_losses,
)
from pretrain.survey.prototypes import PREFIX, prototype_statistics
from zoo.errors import UserError

LEVELS, IMAGES, BATCH, QUEUE, DIM, T = (9, 6, 4), 40, 6, 10, 5, 0.2


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return hierarchical_kmeans(unit(IMAGES, DIM, 0), LEVELS, T, seed=0)


def random_masks(views: int, seed: int = 5) -> Masks:
    draws = torch.Generator().manual_seed(seed)
    return Masks(
        tuple(torch.rand(BATCH, QUEUE, generator=draws) < 0.6 for _ in LEVELS),
        tuple(tuple(torch.rand(BATCH, count, generator=draws) < 0.6 for count in LEVELS[:-1]) for _ in range(views)),
    )


class Loop:
    """The losses again, one logit at a time, in float64: lists of terms rather than their sums."""

    def __init__(
        self, hierarchy: Hierarchy, queries: list[torch.Tensor], key: torch.Tensor, queue: torch.Tensor, index: torch.Tensor
    ) -> None:
        self.queries = [query.double().numpy() for query in queries]
        self.key, self.queue, self.index = key.double().numpy(), queue.double().numpy(), index.numpy()
        self.centroids = [level.double().numpy() for level in hierarchy.centroids]
        self.densities = [level.double().numpy() for level in hierarchy.densities]
        self.clusters = [level.numpy() for level in hierarchy.assignments]

    @staticmethod
    def cross_entropy(positive: float, negatives: list[float]) -> float:
        return math.log(sum(math.exp(value) for value in [positive, *negatives])) - positive

    def instance(self, view: int, mask: NDArray[np.bool_] | None, drop: bool = False) -> float:
        total = 0.0
        for i, query in enumerate(self.queries[view]):
            negatives = []
            for j, other in enumerate(self.queue):
                if mask is None or mask[i, j]:
                    negatives.append(query @ other / T)
                elif not drop:
                    negatives.append(0.0)
            total += self.cross_entropy(query @ self.key[i] / T, negatives)
        return total / len(self.queries[view])

    def prototype(
        self, view: int, level: int, mask: NDArray[np.bool_] | None, *, drop: bool = False, last: bool = False, groups: int = 1
    ) -> float:
        total = 0.0
        clusters, centroids, densities = self.clusters[level], self.centroids[level], self.densities[level]
        size = BATCH // groups
        for i, query in enumerate(self.queries[view]):
            group = self.index[i // size * size : i // size * size + size]
            positives = {int(clusters[image]) for image in group}
            negatives = []
            for j in range(int(clusters.max()) + (1 if last else 0)):
                if j in positives:
                    continue
                if mask is None or mask[i, j]:
                    negatives.append(query @ centroids[j] / densities[j])
                elif not drop:
                    negatives.append(0.0)
            own = clusters[self.index[i]]
            total += self.cross_entropy(query @ centroids[own] / densities[own], negatives)
        return total / len(self.queries[view])


def setting(hierarchy: Hierarchy, views: int) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor, Loop]:
    queries = [unit(BATCH, DIM, 10 + view) for view in range(views)]
    key, queue, index = unit(BATCH, DIM, 20), unit(QUEUE, DIM, 21), torch.tensor([3, 17, 17, 30, 8, 22])
    return queries, key, queue, index, Loop(hierarchy, queries, key, queue, index)


@pytest.mark.parametrize("views", [1, 5])
@pytest.mark.parametrize("rejected", list(Rejected))
@pytest.mark.parametrize("loss_levels", list(LossLevels))
@pytest.mark.parametrize("on_local", [True, False])
def test_losses_equal_a_double_loop(hierarchy: Hierarchy, views: int, rejected: Rejected, loss_levels: LossLevels, on_local: bool) -> None:
    """3 instance and 3 prototype terms; with four local views 12 more of either (4 unselected ones where selection stays off them)."""
    queries, key, queue, index, loop = setting(hierarchy, views)
    masks, drop = random_masks(views), rejected is Rejected.drop
    losses = hcsc_losses(
        queries,
        key,
        queue,
        index,
        Prototypes.of(hierarchy, T, last=False),
        masks,
        temperature=T,
        rejected=rejected,
        loss_levels=loss_levels,
        selection_on_local=on_local,
    )
    share = 1 if loss_levels is LossLevels.sum else 1 / 3
    instance = [[loop.instance(view, mask.numpy(), drop) for mask in masks.negatives] for view in range(views)]
    top = len(LEVELS) - 1
    prototype = [
        [
            loop.prototype(view, level, None if level == top else masks.prototypes[view][level].numpy(), drop=drop)
            for level in range(len(LEVELS))
        ]
        for view in range(views)
    ]
    expected = {"contrastive": share * sum(instance[0]), "prototype": sum(prototype[0]) / 3}
    if views > 1:
        local = list(chain.from_iterable(instance[1:]))
        assert len(local) == 12
        expected["local_contrastive"] = share * sum(local) if on_local else sum(loop.instance(view, None) for view in range(1, views))
        expected["local_prototype"] = sum(chain.from_iterable(prototype[1:])) / 3
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_prototype_candidates(hierarchy: Hierarchy, last: bool, groups: int) -> None:
    """The highest number is no negative unless asked for; clusters of the own group (a device's batch) never are."""
    queries, _, _, index, loop = setting(hierarchy, 1)
    prototypes = Prototypes.of(hierarchy, T, last=last)
    found = prototype_losses(queries[0], index, prototypes, (), Rejected.zero, groups)
    expected = [loop.prototype(0, level, None, last=last, groups=groups) for level in range(len(LEVELS))]
    assert [loss.item() for loss in found] == pytest.approx(expected, rel=1e-5)
    assert [int(level.sum()) for level in prototypes.candidates] == [int(level.max()) + last for level in hierarchy.assignments]


def test_without_selection_there_is_one_instance_loss(hierarchy: Hierarchy) -> None:
    queries, key, queue, index, loop = setting(hierarchy, 2)
    prototypes = Prototypes.of(hierarchy, T, last=False)
    losses = hcsc_losses(queries, key, queue, index, prototypes, Masks(), temperature=T, prototype_term=False)
    assert losses.keys() == {"contrastive", "local_contrastive"}
    assert losses["contrastive"].item() == pytest.approx(loop.instance(0, None), rel=1e-5)
    assert losses["local_contrastive"].item() == pytest.approx(loop.instance(1, None), rel=1e-5)
    whole = hcsc_losses(queries, key, queue, index, prototypes, Masks(), temperature=T)
    expected = sum(loop.prototype(0, level, None) for level in range(3)) / 3
    assert whole["prototype"].item() == pytest.approx(expected, rel=1e-5)


def test_drop_is_removing_the_columns_and_zero_leaves_one_in_the_sum() -> None:
    positive, negatives = torch.tensor([1.0]), torch.tensor([[2.0, -1.0, 3.0]], requires_grad=True)
    kept = torch.tensor([[True, False, False]])
    dropped = masked_nce(positive, negatives, kept, Rejected.drop)
    assert torch.equal(dropped, masked_nce(positive, negatives[:, :1], None, Rejected.drop))
    zeroed = masked_nce(positive, negatives, kept, Rejected.zero)
    assert zeroed.item() == pytest.approx(math.log(math.e + math.e**2 + 2) - 1, rel=1e-6)
    (zeroed + dropped).backward()
    assert negatives.grad is not None
    assert negatives.grad[0, 0] > 0
    assert negatives.grad[0, 1:].tolist() == [0, 0]
    # With nothing left there is nothing to tell apart.
    none = torch.zeros_like(kept)
    assert masked_nce(positive, negatives, none, Rejected.drop).item() == 0


def test_probability_to_keep_a_negative_by_hand() -> None:
    """Two clusters along the axes, densities 0.5 and 0.25; a negative at 0.6, 0.8: softmax of 1.2 and 3.2."""
    centroids, densities = torch.eye(2), torch.tensor([0.5, 0.25])
    own = 1 / (1 + math.exp(3.2 - 1.2))
    keep = keep_negatives(torch.tensor([[0.6, 0.8], [1.0, 0.0]]), centroids, densities, torch.tensor([0, 1]))
    assert keep[0, 0].item() == pytest.approx(1 - own, rel=1e-6)
    assert keep[1, 0].item() == pytest.approx(own, rel=1e-6)
    assert keep[0, 1].item() == pytest.approx(1 - 1 / (1 + math.exp(-2.0)), rel=1e-5)
    # Densities below a thousandth count as a thousandth: a negative at 0.001, 0 gives 1 and 0.
    tiny = keep_negatives(torch.tensor([[0.001, 0.0]]), centroids, torch.tensor([1e-9, 1e-9]), torch.tensor([0]))
    assert tiny.item() == pytest.approx(1 - math.e / (math.e + 1), rel=1e-5)


def test_probability_to_keep_a_prototype_by_hand() -> None:
    """Two prototypes below two parents of densities 0.1 and 0.3 (mean 0.2, as it should be)."""
    table = keep_prototypes(torch.tensor([[0.9, 0.3], [0.1, 0.6]]), torch.tensor([0.1, 0.3]), 0.2)
    first = math.exp(9) / (math.exp(9) + math.exp(1))
    second = math.exp(1) / (math.exp(1) + math.exp(2))
    assert table.flatten().tolist() == pytest.approx([1 - first, 1 - second, first, second], rel=1e-3)


def test_masks_follow_the_probabilities_of_the_own_cluster(hierarchy: Hierarchy) -> None:
    prototypes, queue, index = Prototypes.of(hierarchy, T, last=False), unit(QUEUE, DIM, 21), torch.tensor([3, 30])
    draws = torch.Generator().manual_seed(0)
    many = [draw_masks(prototypes, queue, index, draws, instances=True, views=2) for _ in range(1500)]
    for level in range(3):
        softmax = torch.softmax(queue @ hierarchy.centroids[level].T / hierarchy.densities[level], dim=1)
        expected = 1 - softmax[:, hierarchy.assignments[level][index]].T
        found = torch.stack([masks.negatives[level] for masks in many]).double().mean(0)
        assert (found - expected.clamp(0, 0.999)).abs().max() < 0.07  # five standard deviations of 1500 draws
    for level in range(2):
        softmax = torch.softmax(hierarchy.similarities[level] / hierarchy.densities[level + 1], dim=1)
        parents = hierarchy.parents[level][hierarchy.assignments[level][index]]
        expected = 1 - softmax[:, parents].T
        for view in range(2):
            found = torch.stack([masks.prototypes[view][level] for masks in many]).double().mean(0)
            assert (found - expected.clamp(1e-4, 0.999)).abs().max() < 0.07
    off = draw_masks(prototypes, queue, index, draws, instances=False, views=0)
    assert off == Masks()


def test_about_a_thousandth_of_the_negatives_is_rejected() -> None:
    """The bound of 0.999 rules where there are many clusters, as the published numbers 3000, 2000, 1000 are."""
    clusters, width = 2000, 16
    centroids, densities, queue = unit(clusters, width, 0), torch.full((clusters,), T), unit(512, width, 1)
    own = torch.arange(32) * 7
    keep = keep_negatives(queue, centroids, densities, own)
    assert keep.double().mean().item() == pytest.approx(1 - 1 / clusters, abs=2e-4)
    drawn = torch.rand(keep.shape, generator=torch.Generator().manual_seed(0)) < keep.clamp(0, 0.999)
    assert drawn.double().mean().item() == pytest.approx(0.999, abs=1.5e-3)
    share = dropped_share(queue, centroids, densities, own)
    assert share == pytest.approx(1 - keep.clamp(0, 0.999).double().mean().item(), rel=1e-3)
    assert 0.001 <= share < 0.002


def test_statistics_of_a_level() -> None:
    assignment, truth = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 1, 0])
    found = prototype_statistics(assignment, 4, {"class": truth})
    assert (found["images_min"], found["images_median"], found["images_max"]) == (0, 1.5, 3)
    assert found["purity_class"] == pytest.approx(5 / 6)
    same = prototype_statistics(truth, 2, {"class": truth})
    assert same["ami_class"] == pytest.approx(1.0)
    assert found["ami_class"] < 0.5


class Flat(nn.Module):
    """2x2 images -> 6 features."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1))


def make(**settings: object) -> HCSC:
    torch.manual_seed(0)
    return HCSC(
        Flat,
        replace(HCSCSettings(dim=DIM, queue=12, levels=list(LEVELS), warmup_epochs=1), **settings),  # type: ignore[arg-type]
        RunFacts(images=IMAGES, batch=BATCH, seed=0, steps=1),
    )


def tables(hierarchy: Hierarchy) -> dict[str, NDArray[np.generic]]:
    return {f"{PREFIX}{name}": tensor.numpy() for name, tensor in hierarchy.state_dict().items()}


def images(views: int) -> list[torch.Tensor]:
    return [torch.randn(BATCH, 3, 2, 2, generator=torch.Generator().manual_seed(view)) for view in range(views)]


@pytest.mark.parametrize("settings", [{}, {"rejected": Rejected.drop, "last_prototype": True, "loss_levels": LossLevels.mean}])
def test_a_forward_pass_is_the_losses_of_its_embeddings_and_masks(hierarchy: Hierarchy, settings: dict[str, object]) -> None:
    method, index, place = make(local_views=True, **settings), torch.arange(BATCH) * 3, Place(7, 1, 2)
    method.receive(tables(hierarchy))
    losses = method(images(6), index, place)
    queries = [method.encoder_q(view) for index, view in enumerate(images(6)) if index != 1]
    prototypes = Prototypes.of(hierarchy, T, last=bool(settings))
    masks = draw_masks(prototypes, method.queue.keys, index, method.selection.draws(place, torch.device("cpu")), instances=True, views=5)
    expected = hcsc_losses(
        queries,
        method.encoder_k(images(2)[1]),
        method.queue.keys,
        index,
        prototypes,
        masks,
        temperature=T,
        rejected=settings.get("rejected", Rejected.zero),  # type: ignore[arg-type]
        loss_levels=settings.get("loss_levels", LossLevels.sum),  # type: ignore[arg-type]
    )
    assert {name: loss.item() for name, loss in losses.items()} == {name: loss.item() for name, loss in expected.items()}
    # The same address gives the same masks, another step others.
    method._new_keys.clear()
    assert method(images(6), index, place)["contrastive"].item() == losses["contrastive"].item()
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in method.encoder_q.parameters())


def test_masks_differ_between_steps_parts_and_views(hierarchy: Hierarchy) -> None:
    method, index = make(), torch.arange(BATCH)
    method.receive(tables(hierarchy))
    prototypes = Prototypes.of(hierarchy, T, last=False)

    def draw(place: Place) -> Masks:
        return draw_masks(prototypes, method.queue.keys, index, method.selection.draws(place, torch.device("cpu")), instances=True, views=2)

    first = draw(Place(3))
    assert all(torch.equal(one, other) for one, other in zip(first.negatives, draw(Place(3)).negatives, strict=True))
    for other in (draw(Place(4)), draw(Place(3, 1, 2))):
        assert not all(torch.equal(*pair) for pair in zip(first.negatives, other.negatives, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(*first.prototypes, strict=True))


def test_local_views_of_the_warmup_are_further_queries_of_moco() -> None:
    method = make(local_views=True)
    torch.manual_seed(0)
    moco = MoCo(Flat, MoCoSettings(dim=DIM, queue=12), RunFacts(images=IMAGES, batch=BATCH, seed=0, steps=1))
    views, index = images(6), torch.arange(BATCH)
    losses = method(views, index, Place(0))
    assert losses.keys() == {"contrastive", "local_contrastive"}
    assert torch.equal(losses["contrastive"], moco(views[:2], index, Place(0))["contrastive"])
    local = sum(moco([view, views[1]], index, Place(0))["contrastive"].item() for view in views[2:])
    assert losses["local_contrastive"].item() == pytest.approx(local, rel=1e-6)
    assert [view.name for view in HCSC.views(HCSCSettings(local_views=True), 224)] == [
        "query", "key", "local0", "local1", "local2", "local3",
    ]  # fmt: skip
    assert [view.size for view in HCSC.views(HCSCSettings(local_views=True), 224)[2:]] == [192, 160, 128, 96]


class Operations(TorchDispatchMode):
    """Lists the names of torch's operations while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_step_neither_waits_for_the_device_nor_loops_over_clusters_or_images(hierarchy: Hierarchy) -> None:
    """No operation whose result the host must read, and as many operations for few clusters and images as for more."""
    counts = []
    for levels, batch in ((LEVELS, BATCH), ((30, 20, 10), 2 * BATCH)):
        method = make(levels=list(levels), local_views=True)
        method.receive(tables(hierarchical_kmeans(unit(IMAGES, DIM, 0), levels, T, seed=0)))
        views = [torch.randn(batch, 3, 2, 2) for _ in range(6)]
        index = torch.arange(batch)
        with Operations() as operations:
            torch.stack(list(method(views, index, Place(0)).values())).sum().backward()
        assert not {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"} & set(operations.names)
        counts.append(len(operations.names))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"levels": [80, 40, 20]},
            r"method.levels: there are 40 images for 80 clusters; choose at most that many, such as levels 40, 20, 10",
        ),
        ({"levels": [10, 20]}, r"method.levels: a level clusters the centroids of the one before .* give levels 20, 10"),
        ({"queue": 10}, r"method.queue=10 is not a multiple of batch=6; use for example method.queue=6"),
        ({"warmup_epochs": -1}, r"method.warmup_epochs must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_is_refused_with_numbers_that_would_work(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_prototypes_of_other_levels_or_images_are_refused(hierarchy: Hierarchy) -> None:
    with pytest.raises(UserError, match=r"the prototypes have levels 9, 6, 4 over 40 images, but the run has method.levels=\[9, 6, 3\]"):
        make(levels=[9, 6, 3]).receive(tables(hierarchy))
    with pytest.raises(UserError, match=r"over 39 images"):
        make().receive(tables(hierarchy.with_images(hierarchy.assignments[0][:39])))
