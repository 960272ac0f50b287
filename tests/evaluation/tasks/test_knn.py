"""kNN classification against scikit-learn, against a plain loop, and on hand-made ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.knn.votes import evaluate_knn
from zoo.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def clusters(classes: int, bank: int, queries: int, *, width: int = 24, spread: float = 1.5, seed: int = 0) -> Arrays:
    """Features about class centres, as far from them as the centres from each other, so that neighbours disagree."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, width))
    # Every class is in the bank.
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, bank - classes)])
    truth = rng.integers(0, classes, queries)
    features = centres[labels] + spread * rng.standard_normal((bank, width))
    tests = centres[truth] + spread * rng.standard_normal((queries, width))
    return features.astype(np.float32), labels, tests.astype(np.float32), truth


def loop_over_votes(
    data: Arrays, k: int, temperature: float, classes: int, weight: str = "exp"
) -> tuple[list[int], int, int]:
    """Predictions, correct, and correct among the five with most votes: the definition, one number after the other, in float64."""
    features, labels, tests, truth = data
    predictions, correct, correct5 = [], 0, 0
    for query, label in zip(tests.astype(np.float64), truth, strict=True):
        similarity = [float(query @ row / np.linalg.norm(query) / np.linalg.norm(row)) for row in features.astype(np.float64)]
        nearest = sorted(range(len(features)), key=lambda index: (-similarity[index], index))[:k]
        votes = [0.0] * classes
        for index in nearest:
            votes[labels[index]] += np.exp(similarity[index] / temperature) if weight == "exp" else 1.0
        order = sorted(range(classes), key=lambda name: (-votes[name], name))
        predictions.append(order[0])
        correct += order[0] == label
        correct5 += label in [name for name in order[:5] if votes[name] > 0]
    return predictions, int(correct), int(correct5)


@pytest.mark.parametrize("classes", [2, 7, 60, 200])
@pytest.mark.parametrize("queries", [1, 99, 101, 150])
@pytest.mark.parametrize("temperature", [0.07, 0.1])
def test_counts_equal_scikit_learn(classes: int, queries: int, temperature: float) -> None:
    compare_with_scikit_learn(clusters(classes, 900, queries, seed=classes + queries), temperature)


def test_counts_equal_scikit_learn_with_many_classes() -> None:
    compare_with_scikit_learn(clusters(1500, 3200, 150, seed=3), 0.07)


def compare_with_scikit_learn(data: Arrays, temperature: float) -> None:
    features, labels, tests, truth = data
    evaluation = evaluate_knn(*data, k=(1, 10, 20, 200, len(features)), temperature=temperature)
    for k, score in evaluation.scores.items():
        peer = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / temperature))
        predictions = peer.fit(features.astype(np.float64), labels).predict(tests.astype(np.float64))
        np.testing.assert_array_equal(score.predictions, predictions)
        assert score.correct == int((predictions == truth).sum())
        assert score.total == len(tests)
        assert score.k_used == k


@pytest.mark.parametrize("weight", ["exp", "uniform"])
@pytest.mark.parametrize("classes", [3, 9])
def test_votes_equal_a_plain_loop(classes: int, weight: str) -> None:
    data = clusters(classes, 120, 40, spread=2.5)
    evaluation = evaluate_knn(*data, k=(1, 4, 15, 120), weight=weight)
    for k, score in evaluation.scores.items():
        predictions, correct, correct5 = loop_over_votes(data, k, 0.07, classes, weight)
        assert score.predictions.tolist() == predictions
        assert score.correct == correct
        assert score.correct5 == (correct5 if classes > 5 else None)
        assert score.top1 == 100 * correct / 40


def test_accuracy_per_class_is_counted_by_label() -> None:
    data = clusters(6, 100, 80)
    evaluation = evaluate_knn(*data, k=(5,))
    score = evaluation.scores[5]
    for label in range(6):
        own = data[3] == label
        assert evaluation.class_total[label] == own.sum()
        assert score.class_correct[label] == (score.predictions[own] == label).sum()


def test_of_equal_neighbours_the_smaller_index_counts() -> None:
    # Four copies of one vector; with k = 2 only the first two, of classes 2 and 2, may vote.
    bank = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    labels = np.array([2, 2, 0, 0, 1])
    query = np.array([[3, 0]], dtype=np.float32)
    assert evaluate_knn(bank, labels, query, [2], k=(2,)).scores[2].predictions.tolist() == [2]
    assert evaluate_knn(bank[::-1].copy(), labels[::-1].copy(), query, [2], k=(2,)).scores[2].predictions.tolist() == [0]


def test_of_classes_with_equal_votes_the_smaller_one_wins() -> None:
    bank = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    for labels in ([3, 1, 1, 3, 0], [1, 3, 3, 1, 0], [3, 3, 1, 1, 0]):
        evaluation = evaluate_knn(bank, labels, np.array([[1, 0]], dtype=np.float32), [1], k=(2, 4))
        assert evaluation.scores[4].predictions.tolist() == [1]


def test_equal_votes_stay_equal_over_many_neighbours() -> None:
    # Classes 0 and 1 have the same similarities; sums in another order, or cut at another k, might differ in their last bit.
    angles = np.repeat(np.linspace(0.05, 1.2, 50), 2)
    bank = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels = np.tile([1, 0, 0, 1], 25)
    evaluation = evaluate_knn(bank, labels, np.array([[1, 0]], dtype=np.float32), [0], k=(2, 3, 10, 37, 64, 100))
    assert [int(evaluation.scores[k].predictions[0]) for k in (2, 3, 10, 37, 64, 100)] == [0, 0, 0, 1, 0, 0]


def test_a_class_without_votes_is_never_among_the_first_five() -> None:
    bank, labels = np.eye(8, dtype=np.float32), np.arange(8)
    query = np.array([[1, 0.9, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
    hit, miss = (evaluate_knn(bank, labels, query, [label], k=(2,)).scores[2].correct5 for label in (1, 2))
    assert (hit, miss) == (1, 0)


def test_k_beyond_the_bank_is_clamped_and_said() -> None:
    data = clusters(4, 30, 20)
    evaluation = evaluate_knn(*data, k=(10, 20, 100, 200))
    assert evaluation.clamped == {100: 30, 200: 30}
    assert evaluation.scores[200].k_used == 30
    assert evaluation.scores[200].predictions.tolist() == loop_over_votes(data, 30, 0.07, 4)[0]


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 100.0])
def test_no_temperature_is_too_small(temperature: float) -> None:
    features, labels, tests, truth = clusters(5, 200, 50)
    evaluation = evaluate_knn(features, labels, tests, truth, k=(1, 20), temperature=temperature)
    if temperature == 1e-4:
        np.testing.assert_array_equal(evaluation.scores[20].predictions, evaluation.scores[1].predictions)
    if temperature == 100.0:
        uniform = evaluate_knn(features, labels, tests, truth, k=(20,), weight="uniform")
        assert (evaluation.scores[20].predictions == uniform.scores[20].predictions).mean() > 0.9


def test_the_plain_inner_product_is_an_option() -> None:
    bank = np.array([[1, 0], [5, 5]], dtype=np.float32)
    query = np.array([[1, 0]], dtype=np.float32)
    assert evaluate_knn(bank, [0, 1], query, [0], k=(1,)).scores[1].predictions.tolist() == [0]
    assert evaluate_knn(bank, [0, 1], query, [0], k=(1,), normalize=False).scores[1].predictions.tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_within_a_tenth_of_a_point(dtype: torch.dtype) -> None:
    features, labels, tests, truth = clusters(10, 4000, 4000, width=64, spread=2.0)
    full = evaluate_knn(features, labels, tests, truth)
    half = evaluate_knn(torch.from_numpy(features).to(dtype), labels, torch.from_numpy(tests).to(dtype), truth)
    for k, score in full.scores.items():
        assert 90 < score.top1 < 98
        assert abs(half.scores[k].top1 - score.top1) <= 0.1


def test_the_defaults_are_those_of_the_dino_preset() -> None:
    data = clusters(4, 300, 50)
    by_default, named = evaluate_knn(*data), evaluate_knn(*data, k=(10, 20, 100, 200), temperature=0.07, weight="exp")
    assert list(by_default.scores) == [10, 20, 100, 200]
    for k in by_default.scores:
        np.testing.assert_array_equal(by_default.scores[k].predictions, named.scores[k].predictions)


def test_test_labels_that_the_bank_lacks_are_refused() -> None:
    features, labels, tests, truth = clusters(4, 30, 20)
    truth[3] = 7
    with pytest.raises(UserError, match="1 of 20 test images have labels that no training image has, first label 7"):
        evaluate_knn(features, labels, tests, truth)
    labels[labels == 2] = 1
    truth[:] = 2
    with pytest.raises(UserError, match=r"20 of 20 .* first label 2"):
        evaluate_knn(features, labels, tests, truth)


@pytest.mark.parametrize(("which", "split"), [(0, "train"), (2, "test")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(which: int, split: str, value: float) -> None:
    data = clusters(4, 30, 20)
    data[which][11, 3] = value
    with pytest.raises(UserError, match=f"{split} feature vectors hold NaN or infinity, first in row 11"):
        evaluate_knn(*data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": ()}, "k must be"),
        ({"k": (0, 5)}, "k must be"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"num_classes": 3}, "training label 3, but num_classes is 3"),
        ({"train_labels": [0, 1]}, "30 whole numbers"),
        ({"train_labels": np.zeros(30)}, "30 whole numbers"),
        ({"test_labels": np.full(20, -1)}, "from 0 on"),
    ],
)
def test_senseless_arguments_are_refused(change: dict[str, object], message: str) -> None:
    names = ("train_features", "train_labels", "test_features", "test_labels")
    arguments = {**dict(zip(names, clusters(4, 30, 20), strict=True)), **change}
    with pytest.raises(ValueError, match=message):
        evaluate_knn(**arguments)


def test_presets_hold_the_published_values() -> None:
    dino, moco = KNN_PRESETS["dino"], KNN_PRESETS["moco"]
    assert (dino.k, dino.headline_k, dino.temperature, dino.weight) == ((10, 20, 100, 200), 20, 0.07, "exp")
    assert (dino.images.resize, dino.images.crop, dino.images.interpolation) == (256, 224, "bicubic")
    assert (moco.k, moco.headline_k, moco.temperature, moco.weight) == ((200,), 200, 0.1, "exp")
    assert (moco.images.resize, moco.images.crop, moco.images.interpolation) == (256, 224, "bilinear")
    hcsc = KNN_PRESETS["hcsc"]
    assert (hcsc.k, hcsc.headline_k, hcsc.temperature, hcsc.images) == (dino.k, dino.headline_k, dino.temperature, dino.images)


@pytest.mark.parametrize(
    ("side", "wanted", "resize", "crop", "name"),
    [
        (None, None, 256, 224, "dino"),
        (32, None, 32, 32, "dino@32"),
        (224, None, 224, 224, "dino"),
        (225, None, 256, 224, "dino"),
        (32, 32, 32, 32, "dino@32"),
        (32, 224, 256, 224, "dino"),
        (500, 112, 128, 112, "dino@112"),
        (None, 448, 512, 448, "dino@448"),
    ],
)
def test_small_images_keep_their_size_and_the_name_says_so(
    side: int | None, wanted: int | None, resize: int, crop: int, name: str
) -> None:
    preset = KNN_PRESETS["dino"]
    choices = preset.images.fitting(side, wanted)
    assert (choices.resize, choices.crop, choices.interpolation) == (resize, crop, "bicubic")
    assert preset.name_at(choices.crop) == name


def test_a_changed_preset_says_what_was_changed() -> None:
    dino = KNN_PRESETS["dino"]
    assert dino.changed == []
    assert dino.change(k=[5, 1, 20], temperature=0.07).changed == ["k"]
    assert dino.change(k=[5, 1, 20]).k == (1, 5, 20)
    assert dino.change(k=[5, 1, 20]).headline_k == 20
    assert dino.change(k=[5, 1]).headline_k == 5
    assert dino.change(temperature=0.1).changed == ["temperature"]
    for values in ([], [0], [3, 3]):
        with pytest.raises(UserError, match=r"--k (must be at least 1|takes different numbers, each at least 1), not"):
            dino.change(k=values)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="--temperature must be above 0, not"):
            dino.change(temperature=temperature)


def test_softmax_over_the_largest_k_ranks_as_exp_does() -> None:
    # The sum that softmax divides by is the same for all votes of a query.
    data = clusters(9, 300, 101, spread=2.5)
    exp, softmax = (evaluate_knn(*data, k=(1, 5, 50, 300), weight=weight) for weight in ("exp", "softmax"))
    for k, score in softmax.scores.items():
        np.testing.assert_array_equal(score.predictions, exp.scores[k].predictions)
        assert (score.correct, score.correct5) == (exp.scores[k].correct, exp.scores[k].correct5)


def test_inner_products_of_features_as_they_are_equal_scikit_learn() -> None:
    features, labels, tests, truth = clusters(7, 400, 99)
    evaluation = evaluate_knn(features, labels, tests, truth, k=(1, 10, 400), temperature=5.0, normalize=False)

    def similarity(a: np.ndarray, b: np.ndarray) -> float:
        return float(1e6 - a @ b)  # a distance whose order is that of the inner product, and positive

    for k, score in evaluation.scores.items():
        peer = KNeighborsClassifier(k, metric=similarity, algorithm="brute", weights=lambda distance: np.exp((1e6 - distance - 100) / 5.0))
        predictions = peer.fit(features.astype(np.float64), labels).predict(tests.astype(np.float64))
        np.testing.assert_array_equal(score.predictions, predictions)


def test_presets_have_the_published_values() -> None:
    facts = {
        name: (preset.k, preset.headline_k, preset.temperature, preset.weight, preset.similarity, preset.images.interpolation)
        for name, preset in KNN_PRESETS.items()
    }
    assert facts["dino"] == facts["hcsc"] == ((10, 20, 100, 200), 20, 0.07, "exp", "cosine", "bicubic")
    assert facts["dinov2"] == ((10, 20, 100, 200), 20, 0.07, "softmax", "cosine", "bicubic")
    assert facts["mmselfsup"] == ((10, 20, 100, 200), 20, 0.07, "exp", "cosine", "bilinear")
    assert facts["moco"] == ((200,), 200, 0.1, "exp", "cosine", "bilinear")
    assert facts["vissl"] == ((200,), 200, 0.1, "exp", "dot", "bilinear")
    assert facts["lightly-vit"] == ((200,), 200, 0.07, "exp", "cosine", "bilinear")
    assert all((preset.images.resize, preset.images.crop) == (256, 224) for preset in KNN_PRESETS.values())
