"""The task cluster: on every level, on either split, with and without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics
from typed import refusal, run

from evaluation.extraction.splits import lazy_splits
from evaluation.tasks.cluster.presets import CLUSTER_PRESETS
from evaluation.tasks.cluster.run import run_cluster
from evaluation.tasks.runtime import Runtime
from zoo.data import open_data
from zoo.data.base import Data
from zoo.errors import UserError
from zoo.model_spec import open_model
from zoo.results import load_result

SHAPES = "shapes:size=8,train=120,test=90"


@pytest.fixture(scope="module")
def shapes() -> Data:
    return open_data(SHAPES)


def test_every_level_at_its_number_of_classes(shapes: Data) -> None:
    result = run_cluster(open_model("pixels"), shapes, preset="hirl")
    levels = shapes.role("test").levels
    sizes = {name: len(level.classes) for name, level in levels.items()}
    assert result.protocol["k"] == sorted(sizes.values())
    assert (result.preset, result.protocol["split"], result.protocol["k_from_classes"]) == ("hirl@8", "val", True)
    own = sizes.pop("class")
    assert result.headline.metric == f"ami_k{own}"
    assert result.data.splits.keys() == {"test"}
    for measure in ("nmi", "ami", "ari", "fmi", "accuracy"):
        assert f"{measure}_k{own}" in result.metrics
        for name, size in sizes.items():
            assert f"{name}/{measure}_k{size}" in result.metrics
            assert (f"{name}/accuracy_k{own}" in result.metrics) == (size == own)
    matched = result.counts["matched"][f"k{own}"]
    assert result.metrics[f"accuracy_k{own}"] == pytest.approx(100 * matched / 90)


def test_the_numbers_are_scikit_learns_for_the_same_clusters(shapes: Data) -> None:
    from torch.nn.functional import normalize

    from evaluation.clustering import kmeans
    from evaluation.extraction.features import extract_features
    from evaluation.tasks.measurement import transform_for

    model, preset = open_model("random:test_resnet"), CLUSTER_PRESETS["hirl"].change(clusters=[5], split="train")
    result = run_cluster(model, shapes, preset=preset, runtime=Runtime(seed=3))
    images = shapes.role("train")
    used = lazy_splits(shapes).used({"train": "train"})
    transform = transform_for(model, used, preset.images, None)
    features = extract_features(model.module, images, transform).features
    clusters = kmeans(normalize(features, dim=1), 5, seed=3, init="greedy").assignment.numpy()
    for name, level in images.levels.items():
        prefix = "" if name == "class" else f"{name}/"
        assert result.metrics[f"{prefix}ami_k5"] == pytest.approx(
            100 * metrics.adjusted_mutual_info_score(level.labels, clusters), abs=1e-9
        )
        assert result.metrics[f"{prefix}ari_k5"] == pytest.approx(100 * metrics.adjusted_rand_score(level.labels, clusters), abs=1e-9)
    assert result.protocol["changed"] == ["k", "split"]
    assert result.seeds == {"evaluation": 3}
    for shown in result.details["montage"]["clusters"]:
        assert (clusters[shown["images"]] == shown["cluster"]).all()
        assert shown["size"] == int((clusters == shown["cluster"]).sum())


def test_another_level_is_the_headline(shapes: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cluster.json"
    assert run("--task", "cluster", "--model", "pixels", "--data", SHAPES, "--level", "superclass", "--no-cache", "--out", out) == 0
    result = load_result(out)
    groups = len(shapes.role("test").levels["superclass"].classes)
    assert result.headline.metric == f"ami_k{groups}"
    assert (result.data.level, result.data.classes) == ("superclass", groups)
    shown = capsys.readouterr().out
    assert f"cluster hirl@8 on shapes: 90 test images, {groups} classes of level superclass" in shown
    assert "class AMI" in shown
    assert "AMI and ARI: 0 is chance" in shown


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(12):
        shade = 60 if index < 7 else 200
        Image.fromarray(rng.integers(shade - 20, shade + 20, (9, 9, 3), dtype=np.uint8)).save(folder / f"{index:02}.png")
    return folder


def test_images_without_labels_have_the_distance_only(unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--task", "cluster", "--model", "pixels", "--data", f"folder:{unlabelled}", "--no-cache")
    assert "give --split train to cluster the images that there are" in refusal(capsys, *words)
    assert "have no labels to take the number of clusters from; give --clusters K" in refusal(capsys, *words, "--split", "train")
    out = tmp_path / "cluster.json"
    assert run(*words, "--split", "train", "--clusters", "2,3", "--out", out) == 0
    result = load_result(out)
    assert result.metrics.keys() == {"distance_k2", "distance_k3"}
    assert result.headline.metric == "distance_k2"
    assert result.data.classes == 0
    assert [cluster["size"] for cluster in result.details["montage"]["clusters"]] == [7, 5]
    assert "12 training images, no labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "hcsc"], "there are 120 images for 25,000 clusters; choose at most 120"),
        (["--clusters", "91"], "there are 90 images for 91 clusters"),
        (["--clusters", "0"], "--clusters must be at least 1, not 0"),
        (["--clusters", "5,5"], "--clusters takes different numbers, each at least 1, not 5,5"),
        (["--clusters", "ten"], "--clusters takes whole numbers"),
        (["--split", "both"], "--split is train, or val"),
        (["--kmeans-init", "random"], "--kmeans-init is one of auto, k-means++, greedy, not 'random'"),
        (["--kmeans-restarts", "0"], "--kmeans-restarts must be at least 1"),
        (["--level", "genus"], "has no label level 'genus'"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, "--task", "cluster", "--model", "pixels", "--data", SHAPES, "--no-cache", *words)


def test_features_are_computed_once_for_several_models_and_splits_are_checked_once(shapes: Data) -> None:
    splits = lazy_splits(shapes)
    first = splits.role("test")
    assert splits.role("test") is first
    with pytest.raises(UserError, match="has no split 'dev'"):
        splits.split("dev")
