"""Commands say what is known of their data, and results carry it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from evaluation.commands.cli import app as evaluate
from zoo.data.inspection.look import look_at
from zoo.results import load_result


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))


@pytest.fixture
def own(tmp_path):
    """Two classes, a training image that is tested on too, and one that is torn."""
    root = tmp_path / "own"
    for split, seeds in (("train", range(8)), ("val", range(8, 12))):
        for seed in seeds:
            path = root / split / ("cat" if seed % 2 else "dog") / f"{seed}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((40, 40 + seed % 3)).save(path)
    shutil.copy(root / "train" / "cat" / "3.png", root / "val" / "cat" / "same.png")
    (root / "train" / "dog" / "torn.png").write_bytes(b"")
    return root


def test_what_a_look_found_between_the_splits_is_a_warning(own, tmp_path):
    """A test image that is nearly a training image is found by `zoo data` alone."""
    (own / "val" / "cat" / "same.png").unlink()
    picture = np.kron(np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8), np.ones((10, 10, 1), np.uint8))
    Image.fromarray(picture).save(own / "train" / "cat" / "large.png")
    Image.fromarray(picture).save(own / "val" / "cat" / "again.jpg", quality=95)
    out = tmp_path / "knn.json"
    words = ["--task", "knn", "--model", "pixels", "--data", f"folder:{own}", "--skip-bad-images", "--image-size", "32", "--k", "1"]
    assert CliRunner().invoke(evaluate, [*words, "--out", str(out)]).exit_code == 0
    assert "warnings" not in load_result(out).details
    look_at(f"folder:{own}")
    assert CliRunner().invoke(evaluate, [*words, "--out", str(out), "--overwrite"]).exit_code == 0
    (warning,) = load_result(out).details["warnings"]
    assert "1 image of val" in warning
    assert "nearly the same picture" in warning
    assert warning.endswith("(`zoo data`)")


def test_evaluate_says_it_and_the_result_carries_it(own, tmp_path):
    look_at(f"folder:{own}")
    out = tmp_path / "knn.json"
    words = ["--task", "knn", "--model", "pixels", "--data", f"folder:{own}", "--skip-bad-images", "--image-size", "32", "--out", str(out)]
    result = CliRunner().invoke(evaluate, [*words, "--k", "1"])
    assert result.exit_code == 0, result.output
    assert "1 left out (1: the file is empty)" in result.stderr
    assert "1 image of val is in train too" in result.stderr
    # The file is found with and without an earlier look, and told once.
    shared = f"1 of 5 test images is in the training split too (first: {own}/val/cat/same.png is {own}/train/cat/3.png)"
    assert load_result(out).details["warnings"] == [shared]
    assert f"warning: pixels: {shared}" in result.stdout
    details = load_result(out).details["data"]
    assert details["splits"]["train"] == {"images": 8, "classes": 2, "left_out": {"the file is empty": 1}}
    assert [finding["count"] for finding in details["look"]["findings"]] == [1, 1]
    assert json.loads(out.read_text())["schema"] == "backbone-loop result 1"
