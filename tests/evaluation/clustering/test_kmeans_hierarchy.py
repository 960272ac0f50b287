"""Hierarchies against a plain NumPy loop over clusters, with every case of the density's formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from evaluation.clustering import Hierarchy, check_levels, hierarchical_kmeans, kmeans
from zoo.errors import UserError

LEVELS = (60, 40, 15)


pytestmark = pytest.mark.usefixtures("one_thread")


def features(rows: int = 1200, width: int = 16, lumps: int = 80, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(lumps, width, generator=generator)
    return normalize(centres[torch.arange(rows) % lumps] + 0.3 * torch.randn(rows, width, generator=generator), dim=1)


def looped_densities(points: np.ndarray, centroids: np.ndarray, assignment: np.ndarray, temperature: float) -> np.ndarray:
    """The published formula, cluster by cluster."""
    raw = np.zeros(len(centroids))
    for cluster, centroid in enumerate(centroids):
        members = points[assignment == cluster]
        if len(members) > 1:
            raw[cluster] = np.linalg.norm(members - centroid, axis=1).mean() / np.log(len(members) + 10)
    for cluster in range(len(centroids)):
        if (assignment == cluster).sum() <= 1:
            raw[cluster] = raw.max()
    raw = raw.clip(np.percentile(raw, 10), np.percentile(raw, 90))
    return temperature * raw / raw.mean()


@pytest.mark.parametrize("engine", ["torch", "faiss"])
@pytest.mark.parametrize("temperature", [0.2, 0.07])
def test_every_level_is_that_of_the_definition(engine: str, temperature: float) -> None:
    images = features()
    found = hierarchical_kmeans(images, LEVELS, temperature, seed=5, engine=engine, restarts=2)
    assert found.levels == LEVELS
    points = images
    for level, clusters in enumerate(LEVELS):
        trained = kmeans(points, clusters, seed=5 + level, engine=engine, restarts=2)
        torch.testing.assert_close(found.centroids[level], trained.centroids / trained.centroids.norm(dim=1, keepdim=True))
        # Nearest by the centroids as they were trained, not by those of unit length.
        nearest = torch.cdist(points.double(), trained.centroids.double()).argmin(1)
        assert torch.equal(nearest, found.assignments[0] if level == 0 else found.parents[level - 1])
        want = looped_densities(points.double().numpy(), trained.centroids.double().numpy(), nearest.numpy(), temperature)
        np.testing.assert_allclose(found.densities[level].numpy(), want, rtol=1e-4)
        assert float(found.densities[level].mean()) == pytest.approx(temperature, rel=1e-5)
        points = found.centroids[level]
    for level in range(2):
        for image in range(0, len(images), 37):
            assert found.assignments[level + 1][image] == found.parents[level][found.assignments[level][image]]
        want = found.centroids[level].double() @ found.centroids[level + 1].double().T
        torch.testing.assert_close(found.similarities[level].double(), want, rtol=0, atol=1e-6)
    assert all(tensor.dtype == torch.int64 for tensor in (*found.assignments, *found.parents))
    assert all(tensor.dtype == torch.float32 for tensor in (*found.centroids, *found.densities, *found.similarities))


def test_its_sums_of_distances_are_those_of_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    points, levels = features(3000, 32, lumps=1000), (300, 200, 100)
    found = hierarchical_kmeans(points, levels)
    for level, clusters in enumerate(levels):
        ours, theirs = 0.0, 0.0
        for seed in range(1 if level == 0 else 8):  # of few points, each seed has its own arrangement: sums scatter by 1 %
            peer = faiss.Kmeans(32, clusters, niter=20, nredo=5, seed=seed, max_points_per_centroid=1000, min_points_per_centroid=1)
            peer.train(points.numpy())
            theirs += float(peer.assign(points.numpy())[0].sum(dtype=np.float64))
            ours += kmeans(points, clusters, seed=seed).objective
        assert ours <= 1.005 * theirs
        points = found.centroids[level]


def test_clusters_of_one_get_the_largest_density() -> None:
    # Five pairs, of which the last is the widest, and five points alone: as many clusters.
    pairs = torch.eye(10)[:5].repeat_interleave(2, 0) * 10
    pairs[1::2, 9] = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    alone = -10 * torch.eye(10)[:5]
    images = torch.cat([pairs, alone])
    found = hierarchical_kmeans(images, (10,), restarts=20)
    raw = np.array([0.05, 0.1, 0.15, 0.2, 0.25] + 5 * [0.25]) / np.log(12)
    raw = raw.clip(*np.percentile(raw, [10, 90]))
    of_images = found.densities[0][found.assignments[0]].numpy()
    np.testing.assert_allclose(of_images, np.repeat(0.2 * raw / raw.mean(), [2] * 5 + [1] * 5), rtol=1e-4)


def test_without_any_spread_densities_are_the_temperature() -> None:
    images = features(30, lumps=30)
    alone = hierarchical_kmeans(images, (30, 30, 1))
    assert alone.assignments[0].sort().values.tolist() == list(range(30))
    assert torch.equal(alone.densities[0], torch.full((30,), 0.2))
    assert torch.equal(alone.densities[1], torch.full((30,), 0.2))
    assert alone.densities[2].tolist() == pytest.approx([0.2])
    copies = hierarchical_kmeans(torch.eye(8)[:3].repeat(20, 1), (12, 5))
    assert torch.equal(torch.cat(copies.densities), torch.full((17,), 0.2))


def test_copies_among_other_images_do_not_get_a_density_of_zero() -> None:
    copies = torch.eye(16)[:10].repeat(30, 1)
    found = hierarchical_kmeans(torch.cat([copies, -features(300, lumps=10)]), (20, 5), seed=1)
    spread = found.densities[0]
    assert torch.isfinite(spread).all()
    assert float(spread.mean()) == pytest.approx(0.2, rel=1e-5)
    assert float(spread.min()) == pytest.approx(1e-3 * float(spread.max()), rel=1e-4)


def test_a_checkpoint_brings_it_back(tmp_path: Path) -> None:
    found = hierarchical_kmeans(features(), LEVELS, restarts=1)
    torch.save(found.state_dict(), tmp_path / "hierarchy.pt")
    back = Hierarchy.from_state_dict(torch.load(tmp_path / "hierarchy.pt", weights_only=True))
    for name in ("centroids", "densities", "assignments", "parents", "similarities"):
        mine, theirs = getattr(found, name), getattr(back, name)
        assert len(mine) == len(theirs)
        assert all(map(torch.equal, mine, theirs))
    state = found.state_dict()
    del state["parents.1"]
    with pytest.raises(UserError, match=r"not the tensors of one hierarchy .*parents\.1"):
        Hierarchy.from_state_dict(state)
    with pytest.raises(UserError, match=r"not the tensors .* unexpected: assignments\.0"):
        Hierarchy.from_state_dict({})
    assert all(tensor.device.type == "meta" for tensor in found.to("meta").state_dict().values())


def test_other_images_can_take_its_place() -> None:
    found = hierarchical_kmeans(features(), LEVELS, restarts=1)
    other = found.with_images(torch.tensor([3, 0, 59]))
    assert other.assignments[1].tolist() == found.parents[0][[3, 0, 59]].tolist()
    assert other.assignments[2].tolist() == found.parents[1][found.parents[0][[3, 0, 59]]].tolist()
    assert other.centroids is found.centroids


def test_levels_that_cannot_be_are_refused_with_some_that_can() -> None:
    images = features(50)
    with pytest.raises(UserError, match="50 images for 60 clusters; choose at most that many, such as levels 50, 33, 12"):
        hierarchical_kmeans(images, LEVELS)
    with pytest.raises(UserError, match=r"500 images for 3,000 clusters; .* levels 500, 333, 166"):
        check_levels((3000, 2000, 1000), 500)
    check_levels((50, 33, 12), 50)
    with pytest.raises(UserError, match="give levels 30, 20, 10, not 20, 30, 10"):
        hierarchical_kmeans(images, (20, 30, 10))
    for levels in ((), (5, 0)):
        with pytest.raises(UserError, match="numbers of clusters from fine to coarse"):
            hierarchical_kmeans(images, levels)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="temperature of densities must be above 0"):
            hierarchical_kmeans(images, (5,), temperature)


@pytest.mark.cuda
def test_a_gpu_gives_a_hierarchy_as_good() -> None:
    images = features()
    found = hierarchical_kmeans(images, LEVELS, device="cuda").to("cpu")
    want = hierarchical_kmeans(images, LEVELS)
    reached = (images - found.centroids[0][found.assignments[0]]).square().sum()
    assert float(reached) == pytest.approx(float((images - want.centroids[0][want.assignments[0]]).square().sum()), rel=5e-3)
