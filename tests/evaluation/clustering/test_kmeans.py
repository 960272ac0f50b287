"""k-means against scikit-learn's Lloyd iterations, faiss's objectives, and cases computed by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from torch.nn.functional import normalize

from evaluation.clustering import kmeans
from evaluation.clustering.lloyd import greedy_trials
from zoo.errors import UserError
from zoo.randomness import generator

pytestmark = pytest.mark.usefixtures("one_thread")


def gaussian(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def blobs(rows: int, width: int, count: int, spread: float) -> Tensor:
    """Points around ``count`` centres, about as many around each."""
    centres = gaussian(count, width, seed=1)
    return centres[torch.arange(rows) % count] + spread * gaussian(rows, width, seed=2)


DATA = {
    "gaussian": lambda: gaussian(3000, 16),
    "sphere": lambda: normalize(gaussian(3000, 32), dim=1),
    "clear clusters": lambda: blobs(3000, 16, 60, 0.1),
    "blurred clusters": lambda: normalize(blobs(3000, 32, 100, 0.5), dim=1),
    "digits": lambda: torch.tensor(load_digits().data).float(),
}


def faiss_objective(points: Tensor, clusters: int, **settings: int) -> float:
    """The sum of squared distances to faiss's centroids at the defaults of this toolkit."""
    faiss = pytest.importorskip("faiss")
    peer = faiss.Kmeans(points.shape[1], clusters, niter=20, nredo=5, max_points_per_centroid=1000, min_points_per_centroid=1, **settings)
    peer.train(points.numpy())
    return float(torch.cdist(points.double(), torch.from_numpy(peer.centroids).double()).square().amin(1).sum())


@pytest.mark.parametrize("iterations", [1, 2, 7])
@pytest.mark.parametrize("clusters", [1, 2, 9, 40])
def test_iterations_are_those_of_scikit_learn(clusters: int, iterations: int) -> None:
    points = gaussian(1500, 8)
    start = points[:clusters].clone()
    peer = SklearnKMeans(clusters, init=start.double().numpy(), n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(points.double().numpy())
    found = kmeans(points, clusters, seed=0, iterations=iterations, start=start, max_points_per_centroid=1500)
    np.testing.assert_allclose(found.centroids.numpy(), peer.cluster_centers_, atol=1e-5)
    assert np.array_equal(found.assignment.numpy(), peer.predict(points.double().numpy()))
    assert found.objective == pytest.approx(-peer.score(points.double().numpy()), rel=1e-6)
    assert found.reseeded == found.empty == 0


@pytest.mark.parametrize("clusters", [10, 40, 150])
@pytest.mark.parametrize("name", DATA)
def test_objective_is_at_most_half_a_percent_above_that_of_faiss(name: str, clusters: int) -> None:
    points = DATA[name]()
    # Few clusters on many lumps end in one of many arrangements, by seed, with either engine: there the mean counts.
    seeds = range(4) if clusters == 10 else range(1)
    ours = np.mean([kmeans(points, clusters, seed=seed).objective for seed in seeds])
    assert ours <= 1.005 * np.mean([faiss_objective(points, clusters, seed=seed) for seed in seeds])


@pytest.mark.parametrize("clusters", [5, 150])
@pytest.mark.parametrize("name", DATA)
def test_what_it_says_of_its_clusters_is_what_they_are(name: str, clusters: int) -> None:
    points = DATA[name]()
    found = kmeans(points, clusters, seed=0, restarts=1)
    distance, nearest = torch.cdist(points.double(), found.centroids.double()).square().min(1)
    assert (found.assignment == nearest).float().mean() > 0.9995  # float32 may swap centroids that are equally near
    torch.testing.assert_close(found.squared_distance.double(), distance, rtol=1e-4, atol=1e-6)
    assert found.objective == pytest.approx(float(distance.sum()), rel=1e-5)
    assert torch.equal(found.counts, torch.bincount(found.assignment, minlength=clusters))


@pytest.mark.parametrize(("rows", "clusters"), [(450, 300), (900, 300), (1800, 300), (1797, 50)])
def test_greedy_seeds_end_no_higher_than_those_of_scikit_learn(rows: int, clusters: int) -> None:
    ratios = []
    for seed in range(3):
        points = torch.tensor(load_digits().data).float() if rows == 1797 else normalize(blobs(rows, 64, 120 + seed, 0.8), dim=1)
        peer = SklearnKMeans(clusters, n_init=2, random_state=seed).fit(points.double().numpy())
        greedy, plain = (
            kmeans(points, clusters, seed=seed, restarts=2, iterations=300, init=init).objective for init in ("greedy", "k-means++")
        )
        ratios.append((greedy / peer.inertia_, plain / peer.inertia_))
    mean = np.mean(ratios, axis=0)
    # Two ways to draw the same trials: their ends scatter by some tenths of a percent.
    assert mean[0] < 1.01
    assert mean[0] < mean[1]


@pytest.mark.parametrize("spherical", [False, True])
def test_greedy_seeds_are_those_of_a_plain_loop(spherical: bool) -> None:
    points, clusters, seed = gaussian(120, 5) + 3, 12, 4
    trials = greedy_trials(clusters)
    assert trials == 2 + int(np.log(12)) == 4
    draws = generator(seed, "k-means seeds", 0).random((clusters, trials))
    rows = points.double().numpy()
    shown = rows / np.linalg.norm(rows, axis=1, keepdims=True) if spherical else rows
    weights, chosen = np.ones(len(rows)), []
    for number in range(clusters):
        u = draws[number] if number else draws[number, :1]
        candidates = np.searchsorted(weights.cumsum(), (np.arange(len(u)) + u) / len(u) * weights.sum(), side="right")
        best = None
        for row in candidates:
            left = ((rows - shown[row]) ** 2).sum(1)
            left = np.minimum(left, weights) if number else left
            if best is None or left.sum() < best[1].sum():
                best = row, left
        chosen.append(best[0])
        weights = best[1]
    start = torch.from_numpy(rows[chosen]).float()
    settings = {"iterations": 1, "restarts": 1, "spherical": spherical, "max_points_per_centroid": 1000}
    found = kmeans(points, clusters, seed=seed, init="greedy", **settings)
    assert torch.equal(found.centroids, kmeans(points, clusters, seed=seed, start=start, **settings).centroids)


def test_clear_clusters_are_all_found() -> None:
    points = blobs(3000, 16, 60, 0.05)
    found = kmeans(points, 60, seed=0)
    of = torch.arange(3000) % 60
    for cluster in range(60):
        assert len(of[found.assignment == cluster].unique()) == 1


@pytest.mark.parametrize("clusters", [3, 30])
def test_spherical_centroids_are_the_directions_of_the_sums(clusters: int) -> None:
    points = normalize(blobs(1000, 8, 30, 0.7), dim=1)
    start = points[:clusters].clone()
    found = kmeans(points, clusters, seed=0, iterations=3, start=start, spherical=True)
    centroids = start.double().numpy()
    for _ in range(3):
        nearest = (points.double().numpy() @ centroids.T).argmax(1)
        sums = np.stack([points.double().numpy()[nearest == cluster].sum(0) for cluster in range(clusters)])
        centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(found.centroids.numpy(), centroids, atol=1e-5)
    whole = kmeans(points, clusters, seed=0, spherical=True)
    assert whole.objective <= 1.005 * faiss_objective(points, clusters, seed=0, spherical=True)


def test_faiss_engine_trains_as_faiss_does() -> None:
    faiss = pytest.importorskip("faiss")
    points = DATA["blurred clusters"]()
    peer = faiss.Kmeans(32, 20, niter=6, nredo=2, seed=3, max_points_per_centroid=1000, min_points_per_centroid=1)
    peer.train(points.numpy())
    found = kmeans(points, 20, seed=3, iterations=6, restarts=2, engine="faiss")
    np.testing.assert_array_equal(found.centroids.numpy(), peer.centroids)
    assert found.objective == pytest.approx(float(peer.assign(points.numpy())[0].sum(dtype=np.float64)), rel=1e-5)


def test_a_seed_gives_the_same_bits_and_another_seed_others() -> None:
    points = DATA["digits"]()
    state = torch.get_rng_state()
    first, again, other = (kmeans(points, 30, seed=seed, restarts=2) for seed in (0, 0, 1))
    assert torch.equal(first.centroids, again.centroids)
    assert torch.equal(first.assignment, again.assignment)
    assert not torch.equal(first.centroids, other.centroids)
    assert torch.equal(torch.get_rng_state(), state)


def test_tile_bounds_memory_and_changes_nothing_but_rounding() -> None:
    points = blobs(300, 16, 30, 0.1)
    whole, small, least = (kmeans(points, 30, seed=0, tile=tile, restarts=1) for tile in (None, 300, 1))
    for other in (small, least):
        assert torch.equal(other.assignment, whole.assignment)
        torch.testing.assert_close(other.centroids, whole.centroids)


def test_threads_change_nothing_but_rounding() -> None:
    points = blobs(300, 16, 30, 0.1)
    one = kmeans(points, 30, seed=0, restarts=1, iterations=2)
    torch.set_num_threads(3)
    several = kmeans(points, 30, seed=0, restarts=1, iterations=2)
    assert torch.equal(several.assignment, one.assignment)
    torch.testing.assert_close(several.centroids, one.centroids)


def test_far_from_zero_distances_keep_their_precision() -> None:
    points = blobs(900, 16, 30, 0.1)
    near, far = kmeans(points, 30, seed=0), kmeans(points + 1000, 30, seed=0)
    assert torch.equal(far.assignment, near.assignment)
    assert far.objective == pytest.approx(near.objective, rel=1e-2)  # the points themselves are rounded to 6e-5


def test_large_clusters_are_summed_precisely() -> None:
    points = torch.full((300_000, 1), 0.1)
    points[::2] += 1e-4
    found = kmeans(points, 1, seed=0, restarts=1, max_points_per_centroid=300_000)
    assert found.centroids.item() == pytest.approx(points.double().mean().item(), abs=1e-7)


def test_training_uses_a_sample_of_many_points_and_assigns_them_all() -> None:
    points = blobs(4000, 8, 10, 0.1)
    found = kmeans(points, 10, seed=0, max_points_per_centroid=40)
    assert (found.trained_on, len(found.assignment), int(found.counts.sum())) == (400, 4000, 4000)
    assert found.objective <= 1.1 * kmeans(points, 10, seed=0).objective
    assert kmeans(points, 10, seed=0, max_points_per_centroid=400).trained_on == 4000
    # The sample is spread over the points, not their beginning: those of a stretch alone would leave clusters out.
    points = points[torch.arange(4000).argsort(stable=True, descending=False) // 400 + 10 * (torch.arange(4000) % 400)]
    assert kmeans(points, 10, seed=0, max_points_per_centroid=40).objective <= 1.1 * kmeans(points, 10, seed=0).objective


@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_as_many_clusters_as_points_leave_no_distance(engine: str) -> None:
    points = gaussian(70, 4)
    found = kmeans(points, 70, seed=0, engine=engine)
    assert found.objective == 0
    assert torch.equal(points[found.assignment.argsort()], found.centroids) or torch.equal(found.centroids[found.assignment], points)
    assert torch.equal(found.counts, torch.ones(70, dtype=torch.int64))


@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_fewer_different_points_than_clusters_are_all_met(engine: str) -> None:
    points = gaussian(5, 6).repeat(40, 1)
    found = kmeans(points, 12, seed=0, engine=engine)
    assert 0 < found.empty <= 7
    assert found.objective < 1e-2
    assert torch.isfinite(found.centroids).all()
    same = torch.arange(200) % 5
    for cluster in found.assignment.unique():
        assert len(same[found.assignment == cluster].unique()) == 1


def test_empty_clusters_take_points_of_wide_ones() -> None:
    # Three groups, the last of them wide; two starts among them, three beyond any point.
    points = torch.cat([0.1 * gaussian(200, 4), 50 + 0.1 * gaussian(50, 4, 1), -50 + 5 * gaussian(100, 4, 2)])
    start = torch.zeros(5, 4)
    start[2:] = torch.tensor([[1e4], [2e4], [3e4]])
    start[0] += 10
    found = kmeans(points, 5, seed=0, start=start)
    assert found.reseeded >= 3
    assert found.empty == 0
    groups = [set(found.assignment[rows].tolist()) for rows in (slice(0, 200), slice(200, 250), slice(250, 350))]
    assert sum(map(len, groups)) == 5  # no cluster spans groups
    assert len(groups[2]) >= 2


def test_a_cluster_of_zeros_can_be_split() -> None:
    points = torch.cat([gaussian(100, 2), -gaussian(100, 2)])  # their mean is zero
    start = torch.tensor([[0.0, 0.0], [1e6, 1e6]])
    found = kmeans(points, 2, seed=0, start=start)
    assert found.empty == 0
    assert found.objective < 0.8 * float(points.square().sum())


def test_half_precision_strides_and_gradients_are_taken() -> None:
    points = blobs(300, 6, 5, 0.1)
    want = kmeans(points.half().float(), 5, seed=0)
    for given in (points.half(), points.half().T.contiguous().T, points.half().clone().requires_grad_()):
        found = kmeans(given, 5, seed=0)
        assert found.centroids.dtype == torch.float32
        assert not found.centroids.requires_grad
        assert torch.equal(found.centroids, want.centroids)


@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_mistakes_are_said_in_one_sentence(engine: str) -> None:
    points = gaussian(10, 4)
    with pytest.raises(UserError, match="10 points for 12 clusters; choose at most 10"):
        kmeans(points, 12, seed=0, engine=engine)
    with pytest.raises(UserError, match="0 points for 1 clusters"):
        kmeans(points[:0], 1, seed=0, engine=engine)
    for value in (torch.nan, torch.inf, -torch.inf, 1e30):
        wrong = points.clone()
        wrong[7, 2] = value
        with pytest.raises(UserError, match="point 7 is not finite"):
            kmeans(wrong, 2, seed=0, engine=engine)
    for settings in ({"iterations": 0}, {"restarts": 0}, {"max_points_per_centroid": 0}, {"tile": 0}):
        with pytest.raises(UserError, match=f"{next(iter(settings))} of at least 1, not 0"):
            kmeans(points, 2, seed=0, engine=engine, **settings)
    with pytest.raises(UserError, match="clusters of at least 1, not 0"):
        kmeans(points, 0, seed=0, engine=engine)
    with pytest.raises(ValueError, match=r"points must be a matrix \(N, D\)"):
        kmeans(points[0], 2, seed=0, engine=engine)
    with pytest.raises(ValueError, match="start must be of shape"):
        kmeans(points, 2, seed=0, engine=engine, start=points[:3])


def test_engines_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="no k-means engine 'sklearn'; choose one of torch, faiss"):
        kmeans(gaussian(10, 4), 2, seed=0, engine="sklearn")
    with pytest.raises(UserError, match="no way 'random' to choose first centroids; choose one of k-means\\+\\+, greedy"):
        kmeans(gaussian(10, 4), 2, seed=0, init="random")
    with pytest.raises(UserError, match="leave init at k-means"):
        kmeans(gaussian(10, 4), 2, seed=0, engine="faiss", init="greedy")
    with pytest.raises(UserError, match=r"below 2\*\*31"):
        kmeans(gaussian(10, 4), 2, seed=1 << 31, engine="faiss")


@pytest.mark.cuda
@pytest.mark.parametrize("clusters", [5, 150])
@pytest.mark.parametrize("name", DATA)
def test_a_gpu_finds_what_a_cpu_finds(name: str, clusters: int) -> None:
    points = DATA[name]()
    found = kmeans(points, clusters, seed=0, device="cuda")
    assert found.centroids.is_cuda
    assert found.objective == pytest.approx(kmeans(points, clusters, seed=0).objective, rel=5e-3)
    assert torch.equal(found.centroids, kmeans(points, clusters, seed=0, device="cuda").centroids)


@pytest.mark.cuda
def test_a_gpu_is_not_waited_for_in_an_iteration() -> None:
    points = gaussian(3000, 16).cuda()
    few, many = 2, 12
    waits = []
    for iterations in (few, many):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                kmeans(points, 50, seed=0, iterations=iterations, restarts=1)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        # The first time torch also says that it counts: that is no wait.
        waits.append(sum("called a synchronizing" in str(warning.message) for warning in seen))
    assert waits[0] == waits[1]
