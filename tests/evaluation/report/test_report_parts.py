"""What a report is made of: charts, curves, matrices, maps."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from evaluation.report.charts import Range, Series, interval_chart, line_chart
from evaluation.report.classes import confusion_matrix
from evaluation.report.curves import curves_of
from evaluation.report.differences import rankings
from evaluation.report.entries import read_entries
from evaluation.report.feature_map import check_method, project
from evaluation.report.groups import Cell, Column, Model, metric_label
from evaluation.report.thumbnails import thumbnail
from zoo.data import ArrayImages
from zoo.errors import UserError
from zoo.model_folder.claims import add_results
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.manifest import Manifest


def test_a_confusion_matrix_is_a_loops():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    loop = np.zeros((7, 7), dtype=int)
    for row, column in zip(truth, predicted, strict=True):
        loop[row, column] += 1
    assert (confusion_matrix(truth, predicted, 7) == loop).all()


def polyline(svg: str) -> np.ndarray:
    return np.array([[float(number) for number in point.split(",")] for point in re.findall(r'points="([^"]*)"', svg)[0].split()])


def test_lines_run_where_their_numbers_say():
    points = ((0.0, 10.0), (5.0, 30.0), (20.0, 25.0))
    drawn = polyline(line_chart([Series("a", 0, points)], label="", x_label="", y_label=""))
    # Equal steps of x and y are equal distances; y grows upwards.
    steps = np.diff(drawn, axis=0) / np.diff(np.array(points), axis=0)
    assert steps[0, 0] == pytest.approx(steps[1, 0], abs=0.1)
    assert steps[0, 1] == pytest.approx(steps[1, 1], abs=0.1)
    assert steps[0, 0] > 0 > steps[0, 1]


def test_a_logarithmic_axis_makes_ratios_distances():
    points = ((1.0, 1.0), (10.0, 2.0), (100.0, 3.0))
    drawn = polyline(line_chart([Series("a", 0, points)], label="", x_label="", y_label="", x_log=True))
    assert drawn[1, 0] - drawn[0, 0] == pytest.approx(drawn[2, 0] - drawn[1, 0], abs=0.2)
    # An axis from 0 on cannot be one.
    from_zero = polyline(line_chart([Series("a", 0, ((0.0, 1.0), *points))], label="", x_label="", y_label="", x_log=True))
    assert from_zero[2, 0] - from_zero[0, 0] == pytest.approx((from_zero[3, 0] - from_zero[0, 0]) / 10, abs=0.2)


def test_an_interval_reaches_from_its_lower_to_its_upper_limit():
    svg = interval_chart([Range("a", 0, 50.0, (40.0, 70.0), "a"), Range("b", 1, 60.0, None, "b")], label="", x_label="")
    low, high = (float(x) for x in re.search(r'<line x1="([\d.]+)" x2="([\d.]+)"', svg).groups())
    at = float(re.search(r'<circle cx="([\d.]+)"', svg)[1])
    assert (at - low) / (high - low) == pytest.approx(1 / 3, abs=0.01)


def test_a_single_number_has_a_place(make_result):
    line_chart([Series("a", 0, ((1.0, 5.0), (1.0, 5.0)))], label="", x_label="", y_label="", x_log=True)
    interval_chart([Range("a", 0, 5.0, None, "a")], label="", x_label="")


def test_accuracy_by_k_and_by_epoch(make_result):
    result = replace(make_result("1" * 64), details={"epochs": {"test_top1": [10.0, 20.0, 30.0], "held_out_top1": [1.0]}})
    by_k, by_epoch = curves_of(result, "knn dino@32")
    assert (by_k.title, by_k.points) == ("knn dino@32: top-1 by k", ((10, 56.25), (20, 57.25)))
    assert (by_epoch.title, by_epoch.points) == ("knn dino@32: test top-1", ((1, 10.0), (2, 20.0), (3, 30.0)))


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("top1_k20", "top-1, k = 20"),
        ("top5_best_on_test", "top-5 best on test"),
        ("superclass/ami_k3", "superclass: AMI, k = 3"),
        ("map_11point", "mAP 11point"),
        ("per_image_ap", "per image ap"),
        ("low_shot_k4_mean", "low shot, k = 4 mean"),
    ],
)
def test_metrics_are_named_for_readers(metric, label):
    assert metric_label(metric) == label


def test_a_linear_training_shows_the_chosen_rate(make_result):
    details = {
        "chosen": {"last": {"lr": 0.1}, "selected": {"lr": 1.0, "epoch": 1}},
        "held_out": 200,
        "curves": {
            "lr": [0.1, 1.0],
            "loss": [[2.0, 3.0], [1.5, None]],
            "test_correct": [[100, 200], [300, 400]],
            "held_out_correct": [[10, 20], [30, 50]],
        },
    }
    result = replace(make_result("1" * 64), metrics={"top1_k20": 57.25}, details=details)
    # The loss of that rate became no number, so it has no curve.
    assert [(curve.title, curve.points) for curve in curves_of(result, "linear moco")] == [
        ("linear moco: test top-1, at the chosen rate", ((1, 20.0), (2, 40.0))),
        ("linear moco: held out top-1, at the chosen rate", ((1, 10.0), (2, 25.0))),
    ]


def test_a_sweep_of_c(make_result):
    details = {"held_out": 50, "sweep": {"c": [0.1, 1.0], "held_out_correct": [10, 25], "test_correct": [500, 600]}}
    result = replace(make_result("1" * 64), metrics={"top1_k20": 57.25}, details=details)
    held_out, test = curves_of(result, "linear logreg")
    assert held_out.points == ((0.1, 20.0), (1.0, 50.0))
    assert test.points == ((0.1, 50.0), (1.0, 60.0))
    assert test.x_log


def test_measures_by_the_number_of_clusters(make_result):
    metrics = {"ami_k9": 10.0, "ami_k20": 12.0, "superclass/ami_k9": 5.0, "distance_k9": 0.5, "distance_k20": 0.4, "top1_k20": 57.25}
    (curve,) = curves_of(replace(make_result("1" * 64), task="cluster", metrics=metrics), "cluster hirl@32, k [9, 20], split val")
    assert (curve.title, curve.points) == ("cluster hirl@32, split val: AMI by number of clusters", ((9, 10.0), (20, 12.0)))


def test_a_map_keeps_neighbours_and_is_the_same_twice():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    features = (np.eye(3)[labels] @ rng.normal(size=(3, 16)) + 0.05 * rng.normal(size=(60, 16))).astype(np.float32)
    points = project(features, "tsne")
    assert points.shape == (60, 2)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).all()
    assert (project(features, "tsne") == points).all()


@pytest.mark.skipif(find_spec("umap") is not None, reason="umap-learn is installed")
def test_umap_is_refused_where_it_is_not_installed():
    with pytest.raises(UserError, match=r"--map umap needs umap-learn, which is not installed: pip install umap-learn"):
        check_method("umap")


# It compiles itself when it is first used.
@pytest.mark.slow
@pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn is not installed")
def test_umap_is_used_where_it_is_installed():
    features = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    assert project(features, "umap").shape == (20, 2)


def test_thumbnails_are_the_centre_square():
    import base64
    import io

    from PIL import Image

    pixels = np.zeros((1, 20, 40, 3), dtype=np.uint8)
    pixels[0, :, 10:30] = 200
    images = ArrayImages("toy", "test", pixels, {})
    small = Image.open(io.BytesIO(base64.b64decode(thumbnail(images, 0).removeprefix("data:image/png;base64,"))))
    assert (np.asarray(small) == pixels[0, :, 10:30]).all()
    large = ArrayImages("toy", "test", np.full((1, 300, 200, 3), 90, dtype=np.uint8), {})
    shown = Image.open(io.BytesIO(base64.b64decode(thumbnail(large, 0).removeprefix("data:image/jpeg;base64,"))))
    assert shown.size == (128, 128)


def test_results_of_a_zoo_model_are_read(tmp_path, make_backbone, make_result):
    facts = {"normalisation": {"mean": [0.5] * 3, "std": [0.2] * 3}, "interpolation": "bilinear", "crop_pct": 1.0}
    folder = write_zoo_model(
        tmp_path / "model", make_backbone(), Manifest(name="toy", method=None, arch="test_resnet", image_size=32, **facts)
    )
    with pytest.raises(UserError, match="there is no result in"):
        read_entries([folder])
    from zoo.model_folder.manifest import read_manifest

    add_results(folder, [make_result(read_manifest(folder).tensors_sha256)])
    (entry,) = read_entries([folder]).entries
    assert (entry.result.headline.value, entry.source) == (57.25, folder)


def test_ranks_by_hand():
    models = [Model(name, 0) for name in "abcd"]
    columns = [Column("knn", "dino", (), "top1"), Column("linear", "moco", (), "top1"), Column("semi", "hcsc", (), "top1")]
    values = {"a": (90.0, 80.0, None), "b": (90.0, 70.0, None), "c": (50.0, 90.0, 1.0), "d": (60.0, None, None)}

    class Known:
        rows = models

        def cell(self, row, column):
            value = values[row.label][columns.index(column)]
            return None if value is None else Cell((), value, None, None, 1, 0)

    Known.columns = columns
    by, ranked = rankings(Known())
    # d has no linear result, and only c a semi one.
    assert by == columns[:2]
    assert [(one.model.label, one.ranks) for one in ranked] == [("a", (1.5, 2.0)), ("c", (3.0, 1.0)), ("b", (1.5, 3.0))]
    assert [one.mean for one in ranked] == [1.75, 2.0, 2.25]
    values.update(c=(50.0, None, None))
    assert rankings(Known()) == ([], [])
