"""`zoo cache`: what is kept, by kind and age, and removing it without harm to whoever is at it."""

from __future__ import annotations

import json
import os
import time

import pytest
import torch
from filelock import FileLock
from typer.testing import CliRunner

from evaluation.extraction.cache import FeatureCache, cache_folder
from zoo.cache.kept import KIND_NAMES, items, size_text
from zoo.commands.cli import app

DAY = 86400


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with one thing of each kind but for the Hub's, 10 days old: kind -> (files, bytes)."""
    import huggingface_hub

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "zoo"))
    monkeypatch.delenv("ZOO_LOCK", raising=False)
    monkeypatch.setenv("BACKBONE_LOOP_CACHE", str(tmp_path / "features"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def file(path: str, size: int) -> None:
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * size)

    file("zoo/downloads/0123/weights.pth", 1000)
    file("zoo/downloads/0123/.weights.pth.lock", 0)
    file("zoo/downloads/4567/.other.pth.partial", 300)
    file("zoo/downloads/4567/.other.pth.partial.json", 30)
    file("zoo/label-lists/1percent.txt", 40)
    file("zoo/models/resnet50.x/model.safetensors", 5000)
    file("zoo/models/resnet50.x/zoo.json", 50)
    file("zoo/models/.resnet50.y.abc.partial/model.safetensors", 600)
    file("zoo/inspection/0a1b.json", 70)
    file("zoo/inspection/0a1b.npz", 80)
    file("hub/models--a--b/blobs/0f.12345678.incomplete", 900)
    FeatureCache(cache_folder()).get({"of": "these"}, lambda: torch.ones(10, 4))
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - 10 * DAY,) * 2)
    return tmp_path


def zoo(*words: str):
    return CliRunner().invoke(app, ["cache", *words])


def facts(*words: str) -> dict[str, list[dict]]:
    done = zoo("--json", *words)
    assert done.exit_code == 0, done.output
    by_kind: dict[str, list[dict]] = {}
    for item in json.loads(done.stdout):
        by_kind.setdefault(item["kind"], []).append(item)
    return by_kind


def test_kinds_and_sizes(home):
    found = facts()
    assert {kind: [(item["name"], item["bytes"]) for item in of_kind] for kind, of_kind in found.items() if kind != "features"} == {
        "downloads": [("weights.pth", 1000), ("1percent.txt", 40)],
        "models": [("resnet50.x", 5050)],
        "looks": [("0a1b.npz", 80), ("0a1b.json", 70)],
        "interrupted": [("0f.12345678.incomplete", 900), (".resnet50.y.abc.partial", 600), ("other.pth", 330)],
    }
    (features,) = found["features"]
    assert features["bytes"] == sum(path.stat().st_size for path in (home / "features").rglob("*") if path.is_file()) > 10 * 4 * 4
    lines = zoo().stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["kind", "count"],
        ["downloads", "2"],
        ["models", "1"],
        ["hub", "0"],
        ["features", "1"],
        ["looks", "2"],
        ["interrupted", "3"],
    ]
    assert "1.8 kB" in lines[-1]


def test_nothing_is_removed_without_yes(home):
    before = sorted(home.rglob("*"))
    done = zoo("--prune", "--kind", "downloads")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (0, "nothing was removed; --yes removes it")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["kind", "size", "age", "name"],
        ["downloads", "1.0", "kB", "10", "days", "weights.pth"],
        ["downloads", "40", "bytes", "10", "days", "1percent.txt"],
    ]
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize("kind", [kind for kind in KIND_NAMES if kind != "hub"])
def test_pruning_a_kind_leaves_the_others(home, kind):
    before = facts()
    done = zoo("--prune", "--kind", kind, "--yes")
    assert done.exit_code == 0, done.output
    size = sum(item["bytes"] for item in before[kind])
    assert done.stdout == f"{len(before[kind])} removed, {size_text(size)} freed\n"
    assert facts() == {name: of_kind for name, of_kind in before.items() if name != kind}


def test_pruning_all_leaves_no_file(home):
    assert zoo("--prune", "--yes").exit_code == 0
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_by_age_where_features_count_from_their_last_use(home):
    recent = home / "zoo/downloads/0123/weights.pth"
    os.utime(recent, (time.time() - 2 * DAY,) * 2)
    assert FeatureCache(cache_folder()).look_up({"of": "these"}) is not None
    assert zoo("--prune", "--older-than", "5", "--yes").exit_code == 0
    assert {kind: len(of_kind) for kind, of_kind in facts().items()} == {"downloads": 1, "features": 1}
    assert recent.exists()


def test_what_may_still_be_written_is_not_interrupted(home):
    for path in ("zoo/models/.resnet50.y.abc.partial/model.safetensors", "hub/models--a--b/blobs/0f.12345678.incomplete"):
        os.utime(home / path)
    assert [item["name"] for item in facts()["interrupted"]] == ["other.pth"]


def test_what_another_process_is_at_stays(home):
    with FileLock(home / "zoo/downloads/4567/.other.pth.lock"):
        done = zoo("--prune", "--kind", "interrupted", "--yes")
    assert (done.exit_code, done.stderr) == (2, "other.pth stays: another process is at it\n")
    assert done.stdout == "2 removed, 1.5 kB freed\n"
    assert (home / "zoo/downloads/4567/.other.pth.partial").read_bytes() == b"x" * 300


def test_mistakes(home):
    for words, sentence in (
        (["--kind", "feature"], "there is no kind 'feature': .*; did you mean 'features'"),
        (["--yes"], "--yes is for --prune"),
        (["--older-than", "-1"], "--older-than"),
    ):
        done = zoo(*words)
        assert done.exit_code != 0
        with pytest.raises(Exception, match=sentence):
            raise done.exception


def test_an_empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("BACKBONE_LOOP_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert items() == []
    assert zoo("--prune", "--yes").stdout == "0 removed, 0 bytes freed\n"


def test_sizes_for_people():
    assert [size_text(count) for count in (0, 999, 1000, 1_500_000, 2_340_000_000, 10**16)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "1.5 MB",
        "2.3 GB",
        "10000.0 TB",
    ]
