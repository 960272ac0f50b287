"""Agreement of clusters with labels, against plain formulas, all permutations, and cases computed by hand."""

from __future__ import annotations

from itertools import permutations
from math import lgamma

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from evaluation.tasks.cluster.evaluate import evaluate_clustering
from evaluation.tasks.cluster.scores import cluster_scores
from zoo.data.base import Level
from zoo.errors import UserError


def plain_scores(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """NMI, AMI, ARI and Fowlkes-Mallows by their definitions, in loops over the contingency table."""
    total = len(truth)
    table = np.zeros((truth.max() + 1, found.max() + 1))
    for t, f in zip(truth, found, strict=True):
        table[t, f] += 1
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    a, b = table.sum(1), table.sum(0)
    mutual = sum(n / total * np.log(total * n / (a[i] * b[j])) for (i, j), n in np.ndenumerate(table) if n)
    entropy = [-sum(x / total * np.log(x / total) for x in sums) for sums in (a, b)]
    expected = 0.0
    for x in a:
        for y in b:
            for n in range(int(max(1, x + y - total)), int(min(x, y)) + 1):
                log_p = sum(map(lgamma, (x + 1, y + 1, total - x + 1, total - y + 1)))
                log_p -= sum(map(lgamma, (total + 1, n + 1, x - n + 1, y - n + 1, total - x - y + n + 1)))
                expected += n / total * np.log(total * n / (x * y)) * np.exp(log_p)
    pairs = lambda counts: float((counts * (counts - 1) / 2).sum())  # noqa: E731
    together, by_class, by_cluster, all_pairs = pairs(table), pairs(a), pairs(b), total * (total - 1) / 2
    chance = by_class * by_cluster / all_pairs
    mean_entropy = sum(entropy) / 2
    return {
        "nmi": mutual / mean_entropy,
        "ami": (mutual - expected) / (mean_entropy - expected),
        "ari": (together - chance) / ((by_class + by_cluster) / 2 - chance),
        "fmi": together / np.sqrt(by_class * by_cluster),
    }


@pytest.mark.parametrize(("classes", "clusters"), [(2, 2), (3, 7), (10, 10), (6, 2)])
def test_measures_are_those_of_the_definitions(classes: int, clusters: int) -> None:
    rng = np.random.default_rng(classes)
    truth = rng.integers(0, classes, 150)
    found = np.where(rng.random(150) < 0.6, truth % clusters, rng.integers(0, clusters, 150))
    scores = cluster_scores(truth, found)
    for name, value in plain_scores(truth, found).items():
        assert getattr(scores, name) == pytest.approx(value, abs=1e-9), name


def test_accuracy_is_the_best_of_all_matchings() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        truth, found = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
        best = max(int((np.array(order)[found] == truth).sum()) for order in permutations(range(5)))
        scores = cluster_scores(truth, found, classes=5, count=5)
        assert scores.matched == best
        assert scores.accuracy == best / 60


def test_by_hand() -> None:
    # Clusters {0, 1, 2}, {3, 4} of classes {0, 1}, {2, 3, 4}: one image in the wrong place.
    scores = cluster_scores([0, 0, 1, 1, 1], [1, 1, 1, 0, 0])
    assert scores.matched == 4
    assert scores.fmi == pytest.approx((1 + 1) / np.sqrt((1 + 3) * (3 + 1)))
    assert scores.ari == pytest.approx((2 - 1.6) / (4 - 1.6))
    # One cluster for all says nothing; each image alone has a high NMI, and by chance.
    alone = cluster_scores([0, 0, 1, 1, 1, 2], range(6))
    assert alone.nmi > 0.6
    assert alone.ami == pytest.approx(0, abs=1e-9)
    assert cluster_scores([0, 0, 1, 1], [0, 0, 0, 0]).nmi == 0


def test_a_permutation_of_many_clusters_is_matched_exactly_and_soon() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(6000) % 2000
    scores = cluster_scores(truth, rng.permutation(2000)[truth])
    assert scores.matched == 6000
    assert scores.ami == pytest.approx(1, abs=1e-9)


def test_accuracy_needs_as_many_clusters_as_classes() -> None:
    assert cluster_scores([0, 1, 1], [0, 1, 2]).accuracy is None
    # A class without images, or an empty cluster, still counts.
    assert cluster_scores([0, 1, 1], [0, 1, 2], classes=3).matched == 2
    assert cluster_scores([0, 1, 1], [0, 1, 1], classes=2, count=3).accuracy is None


@pytest.mark.parametrize("labels", [[], [0.5, 1], [-1, 0], [[0, 1]], [0, 1, 2]])
def test_labels_that_are_none_are_refused(labels: list[object]) -> None:
    with pytest.raises(ValueError, match=r"whole numbers|do not go with"):
        cluster_scores(labels, [0, 1])


def digit_levels() -> tuple[np.ndarray, dict[str, Level]]:
    digits = load_digits()
    names = tuple(map(str, range(10)))
    return digits.data.astype(np.float32), {
        "parity": Level(digits.target.astype(np.int64) % 2, ("even", "odd")),
        "class": Level(digits.target.astype(np.int64), names),
    }


def test_every_level_is_compared_at_every_number_of_clusters() -> None:
    features, levels = digit_levels()
    found = evaluate_clustering(features, levels, clusters=[10, 2, 30])
    assert list(found) == [2, 10, 30]
    for count, clustering in found.items():
        assert clustering.scores.keys() == levels.keys()
        for name, level in levels.items():
            expected = cluster_scores(level.labels, clustering.assignment, classes=len(level.classes), count=count)
            assert clustering.scores[name] == expected
            assert (clustering.scores[name].accuracy is not None) == (count == len(level.classes))
    assert found[10].scores["class"].ami > 0.6
    assert found[10].objective > found[30].objective
    # Clusters are by direction: the length of a feature does not matter.
    scaled = evaluate_clustering(features * np.linspace(1, 3, len(features), dtype=np.float32)[:, None], levels, clusters=[10])
    assert scaled[10].scores["class"].ami == pytest.approx(found[10].scores["class"].ami, abs=0.02)


def test_without_labels_there_is_the_objective_only() -> None:
    features, _ = digit_levels()
    found = evaluate_clustering(features[:200], clusters=[5])[5]
    assert found.scores == {}
    centred = torch.nn.functional.normalize(torch.tensor(features[:200]), dim=1).double()
    assignment = torch.tensor(found.assignment)
    expected = sum(float((group - group.mean(0)).square().sum()) for c in range(5) if len(group := centred[assignment == c]))
    assert found.objective == pytest.approx(expected, rel=1e-3)


def test_mistakes_are_one_sentence() -> None:
    features, levels = digit_levels()
    with pytest.raises(UserError, match="1,797 images for 2,000 clusters; choose at most 1,797"):
        evaluate_clustering(features, levels, clusters=[10, 2000])
    with pytest.raises(UserError, match="whole numbers from 1 on"):
        evaluate_clustering(features, levels, clusters=[0])
    features[7, 3] = np.nan
    with pytest.raises(UserError, match="point 7 is not finite"):
        evaluate_clustering(features, levels, clusters=[10])
    with pytest.raises(ValueError, match="has 1797 labels for 10 feature vectors"):
        evaluate_clustering(features[:10], levels, clusters=[2])
