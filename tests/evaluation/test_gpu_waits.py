"""Search, clusters, classifiers, extraction as on a GPU, where there is none: the CPU's results, nothing left on the host, waits counted.

The numbers of waits are what they are today, and may fall. None grows with the number of rows but where the test says so.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from pretend_gpu import PretendGpu, from_gpu, network_to_gpu, pretend_gpu, to_gpu
from torch import Tensor, nn

from evaluation.clustering import hierarchical_kmeans, kmeans
from evaluation.extraction.features import extract_features
from evaluation.search import neighbours_of_all, top_k
from evaluation.tasks.knn.votes import evaluate_knn
from evaluation.tasks.linear.logistic import TOLERANCE, fit_logistic_regression
from evaluation.tasks.linear.training import train_linear
from zoo.data.base import ArrayImages
from zoo.models.transforms import EvalTransform

CLASSES = 6


def rows(count: int, width: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points in clusters, and which cluster each is of."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    centres = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(9))
    return centres[labels] + 0.5 * torch.randn(count, width, generator=draw), labels


def waits(gpu: PretendGpu) -> Counter[str]:
    """By function."""
    found: Counter[str] = Counter()
    for (place, _), count in gpu.waits.items():
        found[place.rpartition(" ")[2]] += count
    return found


@pytest.mark.parametrize("normalize", [False, True])
def test_search(normalize: bool) -> None:
    (queries, _), (bank, _) = rows(300, seed=1), rows(5000)
    similarity, index = top_k(queries, bank, 20, normalize=normalize)
    with pretend_gpu() as gpu:
        found = top_k(queries, bank, 20, normalize=normalize, device="cuda", query_chunk=128, bank_chunk=2000)
    torch.testing.assert_close(found[0], similarity, atol=1e-5, rtol=1e-5)
    assert (found[1] == index).float().mean() > 0.995
    # Three chunks of queries travel once, as does each of three tiles; a chunk looks at a tile in two waits.
    assert waits(gpu) == {"_prepared": 3, "_see": 3, "_positions": 9, "_candidates": 9, "see": waits(gpu)["see"], "top_k": 1}
    assert waits(gpu)["see"] <= 9


def test_neighbours() -> None:
    matrix, _ = rows(1000)
    _, index = neighbours_of_all(matrix, 5, total=1000, chunk=256, normalize=True)
    with pretend_gpu() as gpu:
        _, found = neighbours_of_all(matrix, 5, total=1000, chunk=256, normalize=True, device="cuda")
    assert (found == index).float().mean() > 0.995
    assert sum(waits(gpu).values()) <= 6


def test_knn() -> None:
    (train, train_labels), (test, test_labels) = rows(2000), rows(300, seed=1)
    plain = evaluate_knn(train, train_labels, test, test_labels, k=[1, 20])
    with pretend_gpu() as gpu:
        there = evaluate_knn(to_gpu(train), train_labels, to_gpu(test), test_labels, k=[1, 20])
    for k in (1, 20):
        assert (plain.scores[k].predictions == there.scores[k].predictions).mean() > 0.99
    assert sum(waits(gpu).values()) <= 10


@pytest.mark.parametrize(("count", "clusters"), [(500, 8), (4000, 40)])
def test_kmeans_waits_before_and_after_its_iterations(count: int, clusters: int) -> None:
    points, _ = rows(count)
    plain = kmeans(points, clusters, seed=3)
    with pretend_gpu() as gpu:
        there = kmeans(to_gpu(points), clusters, seed=3)
    assert there.objective == pytest.approx(plain.objective, rel=1e-6)
    torch.testing.assert_close(from_gpu(there.centroids), plain.centroids, atol=1e-4, rtol=1e-4)
    # Sizes, a check of the points, random numbers, how many were reseeded, counts, the objective; no iteration and no restart.
    assert waits(gpu) == {"of": 3, "best_of": 2, "_result": 2}


def test_clusters_on_several_levels() -> None:
    points = nn.functional.normalize(rows(600)[0], dim=1)
    plain = hierarchical_kmeans(points, [24, 8, 3])
    with pretend_gpu() as gpu:
        there = hierarchical_kmeans(to_gpu(points), [24, 8, 3])
    for one, other in zip(plain.assignments, there.assignments, strict=True):
        assert (one == from_gpu(other)).float().mean() > 0.99
    assert sum(waits(gpu).values()) == 3 * 7 + 5


@pytest.mark.parametrize("preset", ["moco", "simsiam"])
def test_linear_classifiers_wait_once_an_epoch(preset: str) -> None:
    from dataclasses import replace

    from evaluation.tasks.linear.presets import LINEAR_PRESETS

    (train, train_labels), (test, test_labels) = rows(400), rows(200, seed=1)
    asked = replace(LINEAR_PRESETS[preset], epochs=2, batch=50, rates=(0.1, 1.0))

    def trained(put: object) -> object:
        return train_linear(put(train), train_labels, put(test), test_labels, preset=asked, seed=0)  # type: ignore[operator]

    plain = trained(lambda tensor: tensor)
    counted = []
    for epochs in (2, 3):
        asked = replace(asked, epochs=epochs)
        with pretend_gpu() as gpu:
            there = trained(to_gpu)
        counted.append(sum(waits(gpu).values()))
        if epochs == 2:
            np.testing.assert_allclose(there.losses, plain.losses, rtol=1e-4)  # type: ignore[attr-defined]
    assert counted[1] - counted[0] <= 8


def test_logistic_regression() -> None:
    train, labels = rows(400)
    plain = fit_logistic_regression(train, labels)
    with pretend_gpu() as gpu:
        there = fit_logistic_regression(to_gpu(train), labels)
    assert np.linalg.norm(there.weight - plain.weight) <= 2 * TOLERANCE * np.linalg.norm(plain.weight)
    # One for each gradient (its value and its length), one for each slope, and one for every eight products with the Hessian.
    assert 0 < waits(gpu)["gradient"] <= 2 * plain.iterations
    assert waits(gpu)["_minimum"] <= waits(gpu)["gradient"]
    assert waits(gpu)["_conjugate_gradients"] <= 3 * plain.iterations
    assert sum(waits(gpu).values()) - sum(waits(gpu)[name] for name in ("gradient", "_minimum", "_conjugate_gradients")) <= 4


def test_extraction_waits_once_a_batch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    images = ArrayImages("made up", "train", pixels, {})
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    transform = EvalTransform(16, 16, "bilinear", mean=(0.5,) * 3, std=(0.2,) * 3)
    plain = extract_features(network, images, transform, batch_size=32).features
    with pretend_gpu() as gpu:
        network_to_gpu(network)
        there = extract_features(network, images, transform, batch_size=32).features
    torch.testing.assert_close(there, plain)
    assert waits(gpu)["_one_late"] == 7
    # Mean and deviation, once in a process.
    assert sum(waits(gpu).values()) - 7 in (0, 2)
