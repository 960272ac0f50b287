"""Names with line breaks, terminal escapes, formulas and bytes that are no UTF-8: through every command, and never obeyed by a terminal."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import refusal, typed
from PIL import Image

from zoo.models.runs import read_checkpoint
from zoo.results import load_result

CLASSES = [b"new\nline", b"escape \x1b[31m red", b"\xff\xfe no utf-8", "grün".encode(), rb"$\frac{", b"plain"]
IMAGES = [b"0.png", b"1.png", b"a\nb.png", b"\x1b[2J.png", b"\xf0\xf1.png"]
BAD = b"bad\none\xff.png"
TINY = """
base: moco_shapes
backbone: test_resnet
views: {size: 16}
method: {queue: 16, dim: 8}
batch: 8
bn_splits: 1
epochs: 2
threads: 1
device: cpu
workers: 0
trackers: []
knn: {every_epochs: 2}
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of such names, with two bad images, a link to itself, a link to a folder above and a pipe."""
    root = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    for split in (b"train", b"test"):
        for name in CLASSES:
            folder = os.path.join(os.fsencode(root), split, name)
            try:
                os.makedirs(folder)
            except OSError:
                pytest.skip("this file system takes UTF-8 names alone")
            for image in IMAGES:
                Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(tmp := str(root / "one.png"))
                shutil.move(tmp, os.path.join(folder, image))
        with open(os.path.join(os.fsencode(root), split, CLASSES[0], BAD), "wb") as file:
            file.write(b"not an image")
        plain = root / split.decode() / "plain"
        os.symlink("itself.png", plain / "itself.png")
        os.symlink("loop", plain / "loop")
        os.mkfifo(plain / "pipe.png")
        os.mkfifo(plain / "pipe")
    return root


def assert_printable(text: str) -> None:
    """Nothing that a terminal would obey, and nothing that it could not show."""
    assert {sign for sign in text if not sign.isprintable()} <= {"\n"}


def test_the_look(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time it is known
        assert typed(["zoo", "data", f"folder:{odd}", "--html", tmp_path / "page.html"]) == 0
        said = capsys.readouterr().out
        assert_printable(said)
        assert "\\udcff\\udcfe no utf-8" in said
        assert "new\\nline" in said
        assert "2: it is a link that leads to itself; it was passed over" in said
        assert "2: it is a pipe, a socket or a device, not a file; it was passed over" in said
        assert f"{odd}/train/plain/pipe.png" in said
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "\\udcff\\udcfe no utf-8" in page
    assert typed(["zoo", "data", f"folder:{odd}", "--json"]) == 0
    look = json.loads(capsys.readouterr().out)
    assert [os.fsencode(name) for name in look["splits"][0]["classes"]] == sorted(CLASSES, key=os.fsdecode)


def test_bad_images_are_named_in_one_line(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, ["evaluate", "--model", "pixels", "--data", f"folder:{odd}"])
    assert f"first {odd}/train/new\\nline/bad\\none\\udcff.png (not an image" in said


def test_results_pictures_features_and_the_report(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--model", "pixels", "--data", f"folder:{odd}", "--skip-bad-images", "--image-size", 24, "--no-cache"]
    assert typed([*words, "--k", 1, "--out", tmp_path / "knn.json", "--pictures", tmp_path / "pictures"]) == 0
    assert typed([*words, "--task", "features", "--npz", tmp_path / "npz"]) == 0
    assert typed(["zoo", "report", tmp_path / "knn.json", "--out", tmp_path / "report", "--map", "none", "--model", "pixels"]) == 0
    captured = capsys.readouterr()
    assert_printable(captured.out + captured.err)
    assert Image.open(tmp_path / "pictures" / "pixels.png").width > 100
    details = load_result(tmp_path / "knn.json").details
    assert os.fsdecode(CLASSES[2]) in json.dumps(details, ensure_ascii=False)
    with np.load(tmp_path / "npz" / "pixels.train.npz") as arrays:
        assert [os.fsencode(name) for name in arrays["classes_class"]] == sorted(CLASSES, key=os.fsdecode)
        assert os.fsencode(arrays["names"][0]).startswith(b"train/")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "\\udcff\\udcfe no utf-8" in page


def test_a_training_leaves_bad_images_out_when_it_goes_on_too(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    run = tmp_path / os.fsdecode(b"run \xff")
    assert typed(["pretrain", tmp_path / "tiny.yaml", "--out", run, f"data=folder:{odd}", "max_time=0s"]) == 3
    assert (run / "bad_images.txt").read_text() == f"{odd}/train/new\\nline/bad\\none\\udcff.png\n"
    assert typed(["pretrain", "--resume", run, "max_time=1h"]) == 0
    (checkpoint,) = (run / "checkpoints").glob("step_*6.pt")
    assert read_checkpoint(checkpoint)["images"] == 30
    assert typed(["zoo", "export", run, "--out", tmp_path / "model"]) == 0
    captured = capsys.readouterr()
    assert_printable(captured.out)


def test_two_runs_of_one_folder_name(tmp_path: Path, make_run, capsys: pytest.CaptureFixture[str]) -> None:
    """They have other weights, and other rows in the table and in the report."""
    for place, step in (("a", 10), ("b", 20)):
        (tmp_path / place).mkdir()
        shutil.move(make_run(f"run{step}", steps=(step,)), tmp_path / place / "run")
    words = ["evaluate", "--model", tmp_path / "a" / "run", "--model", tmp_path / "b" / "run", "--data", "digits", "--k", 1, "--no-cache"]
    assert typed([*words, "--out", tmp_path / "results"]) == 0
    captured = capsys.readouterr()
    rows = [line.split()[1] for line in captured.out.splitlines() if line.startswith("│")]
    assert rows == ["a/run", "b/run"]
    assert "a/run - b/run: " in captured.out or "b/run - a/run: " in captured.out
    assert typed(["zoo", "report", tmp_path / "results", "--out", tmp_path / "report", "--numbers-only"]) == 0
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "a/run" in page
    assert "b/run" in page
