"""What other commands say of their data without a look of their own."""

from __future__ import annotations

import os
import shutil

import pytest
from data_files import noise
from PIL import Image

from zoo.data import check_images, open_data
from zoo.data.inspection.known import holding, known_lines, known_of
from zoo.data.inspection.look import look_at


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
            Image.fromarray(noise(seed, 6)).resize((40, 40 + seed % 3)).save(path)
    shutil.copy(root / "train" / "cat" / "3.png", root / "val" / "cat" / "same.png")
    (root / "train" / "dog" / "torn.png").write_bytes(b"")
    return root


def known(root):
    data = open_data(f"folder:{root}", on_bad="skip")
    return known_of(data, [check_images(data.role(role), "skip") for role in ("train", "test")])


def test_counts_and_reasons(own):
    told = known(own)
    assert told["splits"]["train"] == {"images": 8, "classes": 2, "left_out": {"the file is empty": 1}}
    assert told["splits"]["val"] == {"images": 5, "classes": 2, "left_out": {}}
    assert told["look"] is None
    assert known_lines(told, "folder:own") == [
        "data folder:own: train 8 images of 2 classes, 1 left out (1: the file is empty), val 5 images of 2 classes"
    ]


def test_an_earlier_look_is_told(own):
    look = look_at(f"folder:{own}")
    told = known(own)["look"]
    assert told["date"] == look.looked
    assert [finding["kind"] for finding in told["findings"]] == ["bad images", "overlap of splits"]
    assert "1 image of val is in train too" in known_lines(known(own), "x")[1]


def test_what_has_changed_is_told_no_more(own):
    look_at(f"folder:{own}")
    os.utime(own / "val" / "dog" / "8.png", ns=(1, 1))
    kinds = [finding["kind"] for finding in holding(f"folder:{own}")["findings"]]
    assert kinds == ["bad images"]  # train alone; the overlap was of both
    os.utime(own / "train" / "dog" / "0.png", ns=(1, 1))
    assert holding(f"folder:{own}") is None


def test_findings_about_other_splits_are_left_out(own):
    look_at(f"folder:{own}")
    assert [finding["kind"] for finding in holding(f"folder:{own}", {"train"})["findings"]] == ["bad images"]


def test_a_look_that_found_nothing_is_told(tmp_path):
    for name in ("a", "b"):
        path = tmp_path / "own" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise(ord(name), 6)).resize((40, 41)).save(path)
    look_at(f"folder:{tmp_path / 'own'}")
    data = open_data(f"folder:{tmp_path / 'own'}")
    assert "found nothing that is wrong" in known_lines(known_of(data, [data.role("pretrain")]), "x")[1]
