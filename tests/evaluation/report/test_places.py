"""A result that somebody else wrote says where its images lie: a report does not go over the disk, or to the Hub, because of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.report import at_hand
from evaluation.report.at_hand import AtHand, Missing
from zoo.data import open_data
from zoo.results import DataFacts, SplitFacts

SPLITS = {"test": SplitFacts("all", 10, 0, "0" * 64)}


@pytest.fixture
def images(tmp_path):
    """A folder of 40 images that are too large to be held, in four folders."""
    for number in range(40):
        path = tmp_path / "data" / f"part{number % 4}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((120, 120, 3), number, np.uint8)).save(path)
    return tmp_path / "data"


def of_folder(result, place: object):
    data = open_data(f"folder:{place}").role("pretrain")
    splits = {"test": SplitFacts(data.split, len(data), 0, data.fingerprint())}
    return replace(result, data=DataFacts(f"folder:{place}", "folder", "class", 0, splits))


@pytest.mark.parametrize("place", ["/", "/.//", "~", "~/..", "..", "/proc", "/sys/class", "/dev"])
def test_a_place_that_is_no_place_of_data_is_not_searched(make_result, place, monkeypatch, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "a"))
    monkeypatch.chdir(tmp_path / "a" / "b")
    listed = []
    monkeypatch.setattr(os, "scandir", lambda *arguments: listed.append(arguments))
    result = replace(make_result("c" * 64), data=DataFacts(f"folder:{place}", "folder", "class", 0, SPLITS))
    found = AtHand().images(result, "test")
    assert isinstance(found, Missing)
    assert "is not searched because a result names it" in found.why
    assert "--data folder:ROOT" in found.how
    assert listed == []


def test_a_place_with_far_more_files_is_left_soon(make_result, images, monkeypatch):
    result = of_folder(make_result("c" * 64), images)
    assert len(AtHand().images(result, "test")) == 40
    monkeypatch.setattr(at_hand, "_ENTRIES", 3)
    few = replace(result, data=replace(result.data, splits={"test": replace(result.data.splits["test"], images=5)}))
    found = AtHand().images(few, "test")
    assert isinstance(found, Missing)
    assert "there are far more files in" in found.why
    # What the user names is opened however large it is.
    given = AtHand(data=[f"folder:{images}"]).images(replace(result, data=replace(result.data, spec="folder:/")), "test")
    assert len(given) == 40


def test_nothing_is_fetched_because_a_result_says_so(make_result):
    result = replace(make_result("c" * 64), data=DataFacts("hf:alice/images", "hf", "class", 0, SPLITS))
    found = AtHand().images(result, "test")
    assert isinstance(found, Missing)
    assert "'hf:alice/images' would be fetched from the Hub" in found.why


def test_a_run_that_a_result_names_may_be_anything(make_result, tmp_path):
    """Of a result's run only the log is read, and a pipe or a damaged one in its place is none."""
    from evaluation.report.curves import log_charts
    from evaluation.report.entries import Entry

    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.yaml").write_text("a: 1")
    result = make_result("c" * 64)
    result = replace(result, model=replace(result.model, kind="run", spec=str(run)))
    os.mkfifo(run / "log.jsonl")
    for _ in range(2):
        charts, absent = log_charts([Entry(1, result, Path("a.json"))], {})
        assert charts == []
        assert "there is no run with a log" in absent[0][1].why
        (run / "log.jsonl").unlink(missing_ok=True)
        (run / "log.jsonl").write_bytes(b'{"step": 1}\n{"step": "x"}\n\xff\n')
