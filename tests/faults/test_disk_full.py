"""Full disks and disks that cannot be written, at every writer: one sentence, exit status 2, nothing half written, nothing lost."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import refusal, typed
from disks import BALLAST, leave_free, listing
from sources import Sources

from zoo.files import PARTIAL_SUFFIX
from zoo.models.runs import checkpoints, is_run

# Writer, and the command that makes it write OUT. The sources' names are replaced by their places.
WRITERS: dict[str, Sequence[str]] = {
    "import": ("zoo", "import", "CHECKPOINT", "--out", "OUT/model"),
    "export": ("zoo", "export", "RUN", "--out", "OUT/model", "--name", "resnet.moco"),
    "page": ("zoo", "data", "folder:PHOTOS", "--html", "OUT/page.html"),
    "report": ("zoo", "report", "RESULT", "--out", "OUT/report", "--numbers-only"),
    "result": ("evaluate", "--model", "pixels", "--data", "digits", "--out", "OUT/knn.json"),
    "pictures": ("evaluate", "--model", "pixels", "--data", "digits", "--pictures", "OUT/pictures"),
    "features": ("evaluate", "--task", "features", "--model", "MODEL", "--data", "shapes:train=4000,test=10,size=16", "--npz", "OUT/npz"),
    "checkpoints": (
        *("evaluate", "--task", "finetune", "--model", "MODEL", "--data", "folder:PHOTOS", "--epochs", "1", "--batch", "4"),
        *("--holdout", "0", "--workers", "0", "--checkpoints", "OUT/checkpoints"),
    ),
    "torchvision": ("transfer", "convert", "CHECKPOINT", "--to", "torchvision", "--out", "OUT/file.pth"),
    "timm": ("transfer", "convert", "CHECKPOINT", "--to", "timm", "--out", "OUT/file.safetensors"),
    "detectron2": ("transfer", "convert", "CHECKPOINT", "--to", "detectron2", "--out", "OUT/file.pkl"),
    "onnx": ("transfer", "convert", "CHECKPOINT", "--to", "onnx", "--out", "OUT/file.onnx"),
    "boxes": ("pretrain", "boxes", "RUN", "--out", "OUT/boxes.png", "--count", "4"),
}


# Those in the quick suite; the others are the same at a longer time.
_QUICK = ("export", "page", "result", "features", "timm")


def _case(*values: object, fast: bool) -> Any:
    return pytest.param(*values, marks=() if fast and values[0] in _QUICK else pytest.mark.faults)


def words_of(writer: str, sources: Sources, out: Path) -> list[str]:
    places = {
        "CHECKPOINT": sources.checkpoint,
        "RUN": sources.run,
        "MODEL": sources.model,
        "PHOTOS": sources.photos,
        "RESULT": sources.result,
        "OUT": out,
    }
    words = list(WRITERS[writer])
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    return words


@pytest.mark.parametrize(("writer", "free"), [_case(writer, free, fast=free > 0) for writer in WRITERS for free in (0, 4096)])
def test_a_full_disk(writer: str, free: int, sources: Sources, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With no room at all it is refused first; with room for a little the writer itself finds out."""
    leave_free(disk, free)
    said = refusal(capsys, words_of(writer, sources, disk))
    assert "No space left on device" in said or "the system did not take all of it" in said, said
    assert str(disk) in said
    assert "--debug" not in said
    whole = {".lock", "training.json", "log.jsonl"} if writer == "checkpoints" else set()
    assert {Path(name).name for name in listing(disk)} <= whole
    assert not list(disk.rglob(f"*{PARTIAL_SUFFIX}"))


@pytest.mark.parametrize("writer", [_case(writer, fast=writer != "features") for writer in WRITERS])
def test_a_disk_that_cannot_be_written(writer: str, sources: Sources, frozen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, words_of(writer, sources, frozen))
    assert "cannot be written (Read-only file system); choose another place" in said
    assert str(frozen) in said


def test_what_is_there_already_stays_when_its_replacement_does_not_fit(
    sources: Sources, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for writer in ("export", "report", "result", "page"):
        words = [*words_of(writer, sources, disk), *([] if writer == "page" else ["--overwrite"])]
        assert typed(words) == 0
        before = listing(disk)
        leave_free(disk, 4096)
        capsys.readouterr()
        assert str(disk) in refusal(capsys, words)
        assert listing(disk) == before
        (disk / BALLAST).unlink()


def test_a_card_that_does_not_fit_leaves_the_model_as_it_was(sources: Sources, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(sources.model, disk / "model")
    before = listing(disk)
    leave_free(disk, 0)
    for words in (["zoo", "add-result", disk / "model", sources.result], ["zoo", "card", disk / "model"]):
        assert "cannot be written (No space left on device)" in refusal(capsys, words)
        assert listing(disk) == before


def test_caches_that_do_not_fit_cost_nothing_but_time(
    sources: Sources, disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features, and facts about images, are kept where there is room; without, the numbers are the same."""
    monkeypatch.setenv("BACKBONE_LOOP_CACHE", str(disk / "features"))
    monkeypatch.setenv("ZOO_HOME", str(disk / "home"))
    leave_free(disk, 0)
    words = ["evaluate", "--model", sources.model, "--data", f"folder:{sources.photos}", "--k", "1"]
    assert typed(words) == 0
    captured = capsys.readouterr()
    assert "features" in captured.err
    assert "not kept" in captured.err
    assert typed(["zoo", "data", f"folder:{sources.photos}"]) == 0
    assert listing(disk) == {}


def pretrain_words(sources: Sources, out: Path) -> list[object]:
    return ["pretrain", sources.run.parent / "tiny.yaml", "--out", out]


def check_run_on_a_disk_with(free: int, sources: Sources, disk: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A training on a disk that fills up, and what goes on when there is room again; returns how the first part ended."""
    run = disk / "run"
    leave_free(disk, free)
    capsys.readouterr()
    status = typed(pretrain_words(sources, run))
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert not list(run.rglob(f"*{PARTIAL_SUFFIX}"))
    (disk / BALLAST).unlink()
    if status == 0:
        return "done"
    assert status == 2
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert "No space left on device" in line or "the system did not take all of it" in line, line
    assert str(disk) in line, line
    for checkpoint in checkpoints(run):
        assert torch.load(checkpoint, weights_only=True)["step"] > 0
    if is_run(run) and checkpoints(run):
        assert typed(["pretrain", "--resume", run]) == 0
        return "resumed"
    assert typed([*pretrain_words(sources, run), "--overwrite"]) == 0
    return "begun again"


@pytest.mark.parametrize("free", [8192, 1 << 20])
def test_a_training_on_a_full_disk(free: int, sources: Sources, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_run_on_a_disk_with(free, sources, disk, capsys) in ("begun again", "resumed")


@pytest.mark.faults
def test_a_training_on_disks_of_all_sizes(sources: Sources, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends: dict[str, int] = {}
    tried = 0
    for free in [block * 4096 for block in range(2, 12)] + [int(65536 * 1.25**power) for power in range(26)]:
        end = check_run_on_a_disk_with(free, sources, disk, capsys)
        ends[end] = ends.get(end, 0) + 1
        tried += 1
        shutil.rmtree(disk / "run")
    with capsys.disabled():
        print(f"\ntrainings on disks that filled up: {tried}; {ends}")
    assert ends.keys() == {"begun again", "resumed", "done"}


@pytest.mark.faults
def test_every_writer_on_disks_of_all_sizes(sources: Sources, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From no room to enough, each writer either writes all or leaves nothing."""
    ends: dict[str, int] = {}
    for writer in WRITERS:
        if writer == "checkpoints":
            continue
        refused = 0
        for free in [4096 * 4**power for power in range(8)]:
            leave_free(disk, free)
            capsys.readouterr()
            status = typed(words_of(writer, sources, disk))
            captured = capsys.readouterr()
            assert "Traceback" not in captured.err
            if status == 0:
                break
            refused += 1
            assert status == 2
            (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
            assert str(disk) in line
            assert (
                {Path(name).suffix for name in listing(disk)} <= {".npz", ".png"}
                if writer in ("features", "pictures")
                else not listing(disk)
            )
            for left in disk.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
        else:
            pytest.fail(f"{writer} was never written")
        ends[writer] = refused
        for left in disk.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    with capsys.disabled():
        print(f"\nrefused by a disk that was too small, by writer: {ends}")
