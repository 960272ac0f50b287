"""Few labels: which images are learnt from, grids of rates, pseudo-labels, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from easy_data import easy_data
from PIL import Image

from evaluation.extraction.labelled import labelled_data
from evaluation.extraction.subsets import stratified_subset
from evaluation.tasks.finetune.presets import Rates
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.semi.presets import SEMI_PRESETS, SemiPreset
from evaluation.tasks.semi.pseudo_labels import choose_pseudo_labels, entropy_bits
from evaluation.tasks.semi.run import labelled_images, run_semi
from zoo.data import open_data
from zoo.errors import UserError
from zoo.model_spec import open_model

MODEL = "random:test_resnet"


def quick(name: str, **values: object) -> SemiPreset:
    return SEMI_PRESETS[name].change(**{"percent": 20.0, "epochs": 3, **values})  # type: ignore[arg-type]


def test_few_labels_are_learnt_from() -> None:
    data = easy_data(150)
    result = run_semi(open_model(MODEL), data, preset=quick("swav", trunk_lr=0.02, head_lr=0.2, batch=10, epochs=6))
    assert (result.task, result.preset, result.headline.metric) == ("semi", "swav@16", "top1_last")
    assert result.headline.value > 70
    assert (result.counts["labelled"], result.counts["trained_on"], result.counts["held_out"]) == (30, 30, 0)
    assert result.protocol["labelled_images"] == "20 % of each class, seed 0"
    assert result.protocol["percent"] == 20
    assert result.protocol["changed"] == ["rates", "epochs", "milestones", "batch", "percent"]
    assert result.metrics["top1_best_on_test"] >= result.metrics["top1_last"]


def test_the_labelled_images_are_those_of_the_seed_or_of_the_list(tmp_path: Path) -> None:
    data = labelled_data(easy_data(150))
    labels = data.train.labels
    for seed in (0, 4):
        chosen, _ = labelled_images(data, quick("swav"), Runtime(seed=seed))
        assert np.array_equal(chosen, stratified_subset(labels, 20, seed))
    listed = tmp_path / "labelled.txt"
    listed.write_text("3\n1\n2\n")
    chosen, origin = labelled_images(data, quick("swav", percent=None, labels=listed), Runtime())
    assert (chosen.tolist(), origin) == ([1, 2, 3], "the list labelled.txt")
    listed.write_text("1\n2\n4\n")
    with pytest.raises(UserError, match="no labelled image is of class 'dark'"):
        labelled_images(data, quick("swav", percent=None, labels=listed), Runtime())


def test_simclrs_lists_are_for_all_of_imagenet_only(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for wnid in ("n01440764", "n01443537"):
            folder = tmp_path / split / wnid
            folder.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(np.full((20, 20, 3), 40 * number, np.uint8)).save(folder / f"{wnid}_{number}.JPEG")
    data = labelled_data(open_data(f"imagenet:{tmp_path}"))
    chosen, origin = labelled_images(data, SEMI_PRESETS["swav"], Runtime())
    assert (len(chosen), origin) == (2, "1 % of each class, seed 0")


def test_a_grid_is_chosen_by_held_out_images() -> None:
    grid = replace(quick("mmselfsup", epochs=2, holdout=0.3, batch=10), grid=(Rates(0.0, 0.0), Rates(0.02, 0.2), Rates(0.02, 0.5)))
    result = run_semi(open_model(MODEL), easy_data(150), preset=grid)
    assert result.headline.metric == "top1_selected"
    rows = result.details["grid"]
    assert [(row["trunk"], row["head"]) for row in rows] == [(0.0, 0.0), (0.02, 0.2), (0.02, 0.5)]
    best = max(rows, key=lambda row: row["held_out_top1"])
    assert (result.protocol["trunk_lr"], result.protocol["head_lr"]) == (best["trunk"], best["head"])
    assert result.headline.value == best["top1_selected"]
    assert result.protocol["grid"] == 3
    assert (result.counts["labelled"], result.counts["trained_on"], result.counts["held_out"]) == (30, 21, 9)
    with pytest.raises(UserError, match="tries 9 pairs of rates, which only held-out images can choose among"):
        SEMI_PRESETS["mmselfsup"].change(holdout=0.0)


def test_frozen_is_scikit_learns_logistic_regression_on_the_labelled_features() -> None:
    from sklearn.linear_model import LogisticRegression

    from evaluation.extraction.features import extract_features
    from evaluation.extraction.subsets import split_off
    from zoo.models.transforms import EvalTransform

    data, model = easy_data(150), open_model(MODEL)
    result = run_semi(model, data, preset=SEMI_PRESETS["frozen"].change(percent=20.0))
    assert (result.preset, result.headline.metric) == ("frozen@16", "top1_frozen")
    chosen = stratified_subset(data.role("train").labels, 20)
    assert (result.counts["labelled"], result.counts["trained_on"], result.counts["held_out"]) == (30, 30, 0)
    assert (result.protocol["folds"], result.protocol["procedure"], result.details["held_out"]) == (5, 2, 30)
    transform = EvalTransform(16, 16, "bilinear", data.mean, data.std)
    features = extract_features(model.module, data.role("train").subset(chosen), transform).features.double().numpy()
    tests = extract_features(model.module, data.role("test"), transform).features.double().numpy()
    c = result.details["chosen"]["selected"]["c"]
    peer = LogisticRegression(C=c, tol=1e-10, max_iter=5000, solver="newton-cg").fit(features, data.role("train").labels[chosen])
    assert result.counts["correct"]["top1_frozen"] == int((peer.predict(tests) == data.role("test").labels).sum())
    on_one_part = run_semi(model, data, preset=SEMI_PRESETS["frozen"].change(percent=20.0, holdout=0.2))
    held = split_off(data.role("train").labels[chosen], 0.2)[1]
    assert ("folds" in on_one_part.protocol, on_one_part.counts["held_out"], on_one_part.details["held_out"]) == (False, 6, len(held))
    fixed = run_semi(model, data, preset=SEMI_PRESETS["frozen"].change(percent=20.0, holdout=0.0))
    assert fixed.details["chosen"]["selected"]["c"] == 1.0
    pixels = run_semi(open_model("pixels"), data, preset=SEMI_PRESETS["frozen"].change(percent=20.0))
    assert pixels.headline.value > 80


def test_entropy_is_in_bits() -> None:
    outputs = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 1e-30]]))
    np.testing.assert_allclose(entropy_bits(outputs), [1.5, np.log2(3), 1.0], atol=1e-6)


def test_pseudo_labels_are_the_surest_of_each_class() -> None:
    # Probabilities of the first of two classes; entropies .47, .97, .08, 1, .47 (again), .88 and .02 bits.
    first = torch.tensor([0.9, 0.6, 0.99, 0.5, 0.1, 0.7, 0.002], dtype=torch.float64)
    outputs = torch.log(torch.stack([first, 1 - first], dim=1))
    found = choose_pseudo_labels(outputs, max_entropy=0.9, per_class=2)
    assert found.sure == 5
    assert (found.positions.tolist(), found.labels.tolist()) == ([0, 2, 4, 6], [0, 0, 1, 1])
    assert found.by_class.tolist() == [2, 2]
    narrow = choose_pseudo_labels(outputs, max_entropy=0.9, per_class=1)
    assert (narrow.positions.tolist(), narrow.by_class.tolist()) == ([2, 6], [1, 1])
    none = choose_pseudo_labels(outputs, max_entropy=0.01, per_class=5)
    assert (len(none.positions), none.sure) == (0, 0)


def test_pseudo_labels_give_two_rows_and_are_counted() -> None:
    data = easy_data(150)
    preset = quick("csml", percent=10.0, epochs=6, batch=8, trunk_lr=0.02, head_lr=0.2, per_class=20, max_entropy=1.5)
    result = run_semi(open_model(MODEL), data, preset=preset)
    counts = result.counts
    assert (counts["labelled"], counts["unlabelled"]) == (15, 135)
    assert 0 < counts["pseudo_labels"] == sum(result.details["pseudo_labels_by_class"]) <= 60
    assert counts["pseudo_labels"] <= counts["within_max_entropy"] <= 135
    assert result.metrics["pseudo_labels_right"] == 100 * counts["pseudo_labels_right"] / counts["pseudo_labels"]
    # The first row is plain fine-tuning, as HCSC's preset with these values does it.
    plain = run_semi(open_model(MODEL), data, preset=quick("hcsc", percent=10.0, epochs=6, batch=8, trunk_lr=0.02, head_lr=0.2))
    assert result.metrics["top1_plain_last"] == plain.metrics["top1_last"]
    assert result.details["epochs_plain"] == plain.details["epochs"]
    assert result.headline.metric == "top1_last"
    # With easy classes most pseudo-labels are right, and more labels help.
    assert result.metrics["pseudo_labels_right"] > 60
    assert result.details["epochs"] != plain.details["epochs"]


def test_pseudo_labels_that_cannot_be_had() -> None:
    model, data = open_model(MODEL), easy_data(30)
    with pytest.raises(UserError, match=r"not sure of any of 24 images \(entropy within 1e-06 bits\)"):
        run_semi(model, data, preset=quick("csml", epochs=1, max_entropy=1e-6))
    with pytest.raises(UserError, match="all training images are labelled"):
        run_semi(model, data, preset=quick("csml", epochs=1, percent=100.0))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("swav", {"percent": 0.0}, "--percent must be above 0 and at most 100, not 0.0"),
        ("swav", {"percent": 1.0, "labels": Path("x")}, "leave --percent out"),
        ("swav", {"max_entropy": 1.0}, "makes no pseudo-labels"),
        ("swav", {"per_class": 5}, "makes no pseudo-labels"),
        ("csml", {"max_entropy": 0.0}, "--max-entropy must be above 0, not 0.0"),
        ("csml", {"per_class": 0}, "--per-class must be at least 1"),
        ("frozen", {"epochs": 3}, "preset 'frozen' trains no network; leave out --epochs"),
        ("frozen", {"trunk_lr": 3.0}, "leave out --trunk-lr"),
    ],
)
def test_values_without_meaning_are_refused(name: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SEMI_PRESETS[name].change(**values)  # type: ignore[arg-type]
