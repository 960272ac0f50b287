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


def test_evaluate_says_it_and_the_result_carries_it(own, tmp_path):
    look_at(f"folder:{own}")
    out = tmp_path / "knn.json"
    words = ["--task", "knn", "--model", "pixels", "--data", f"folder:{own}", "--skip-bad-images", "--image-size", "32", "--out", str(out)]
    result = CliRunner().invoke(evaluate, [*words, "--k", "1"])
    assert result.exit_code == 0, result.output
    assert "1 left out (1: the file is empty)" in result.stderr
    assert "1 image of val is in train too" in result.stderr
    details = load_result(out).details["data"]
    assert details["splits"]["train"] == {"images": 8, "classes": 2, "left_out": {"the file is empty": 1}}
    assert [finding["count"] for finding in details["look"]["findings"]] == [1, 1]
    assert json.loads(out.read_text())["schema"] == "backbone-loop result 1"
