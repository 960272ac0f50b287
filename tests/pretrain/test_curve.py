"""The training curve: of the steps that the weights have seen, the same file for the same log, and on the card."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pretrain.runs.curve import _thinned, draw_curve
from pretrain.runs.export import export_run
from zoo.errors import UserError
from zoo.hashing import file_sha256
from zoo.model_folder.manifest import read_manifest


def write_log(run: Path, steps: int, **more: float) -> None:
    rows = [{"step": step, "epoch": 0, "lr": 0.1, "loss": 5.0 / (1 + step), **more} for step in range(steps)]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 99, "lo')


def test_the_curve_is_exported_with_the_run_and_shown_on_the_card(make_run, tmp_path):
    run = make_run(steps=(10,))
    write_log(run, 20)
    folder = export_run(run, tmp_path / "model")
    manifest = read_manifest(folder)
    picture = folder / "training_curve.png"
    assert manifest.curve_sha256 == file_sha256(picture)
    assert picture.read_bytes() == draw_curve(run, steps=10, title=manifest.name)
    assert Image.open(picture).size == (700, 260)
    assert picture.stat().st_size < 50_000
    assert "](training_curve.png)" in (folder / "README.md").read_text()


def test_a_run_without_a_log_has_no_curve(make_run, tmp_path):
    folder = export_run(make_run(), tmp_path / "model")
    assert read_manifest(folder).curve_sha256 is None
    assert not (folder / "training_curve.png").exists()
    assert "training_curve" not in (folder / "README.md").read_text()


def test_only_the_steps_of_the_weights_are_drawn(make_run):
    run = make_run()
    write_log(run, 20)
    whole, half = (draw_curve(run, steps=steps, title="x") for steps in (20, 10))
    write_log(run, 10)
    assert draw_curve(run, steps=20, title="x") == half != whole
    assert draw_curve(run, steps=0, title="x") is None


def test_knn_checks_get_a_panel_of_their_own(make_run):
    run = make_run()
    write_log(run, 5)
    without = np.asarray(Image.open(io.BytesIO(draw_curve(run, steps=5, title="x") or b"")).convert("RGB"))
    write_log(run, 5, knn_top1=0.5)
    with_checks = np.asarray(Image.open(io.BytesIO(draw_curve(run, steps=5, title="x") or b"")).convert("RGB"))
    green = np.all(with_checks == (0x2A, 0x9D, 0x4E), axis=2)
    assert green.any()
    assert not np.all(without == (0x2A, 0x9D, 0x4E), axis=2).any()
    assert np.flatnonzero(green.any(0)).min() > 700 * 2 / 3


def test_accuracy_is_drawn_in_the_percent_that_its_axis_says(make_run, monkeypatch):
    drawn = []

    class Kept(Figure):
        def __init__(self, **settings):
            super().__init__(**settings)
            drawn.append(self)

    monkeypatch.setattr("pretrain.runs.curve.Figure", Kept)
    run = make_run()
    write_log(run, 3, knn_top1=0.42)
    draw_curve(run, steps=3, title="x")
    axes = drawn[0].axes[2]
    assert axes.get_title() == "kNN top-1, percent"
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0, 42], [1, 42], [2, 42]])


def test_long_logs_are_drawn_as_means():
    points = np.stack([np.arange(3000.0), np.arange(3000.0) ** 2], 1)
    thinned = _thinned(points)
    assert thinned.shape == (300, 2)
    np.testing.assert_allclose(thinned[1], points[10:20].mean(0))
    assert _thinned(points[:300]) is not None
    np.testing.assert_array_equal(_thinned(points[:300]), points[:300])


def test_a_log_that_is_none(make_run):
    run = make_run()
    (run / "log.jsonl").write_text('{"loss": 1}\n')
    with pytest.raises(UserError, match=r"log\.jsonl, line 1: .* this one has None; remove the log to export without a training curve"):
        draw_curve(run, steps=5, title="x")
