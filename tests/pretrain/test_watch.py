"""``pretrain watch``: a picture worked out by hand, a log that grows, runs that end, and what is no run."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from pretrain.cli import app
from pretrain.runs.listing import RunState
from pretrain.runs.watch import picture_of, watch
from zoo.errors import UserError
from zoo.models.run_lock import run_lock


def row(step: int, **more: float) -> dict[str, float]:
    return {"step": step, "epoch": step // 4, "loss": 8.0 - step, "seconds": 0.5, **more}


def test_a_picture_by_hand() -> None:
    rows = [row(step) for step in range(8)]
    rows[3]["knn_top1"], rows[7]["knn_top1"] = 0.25, 0.5
    state = RunState(Path("runs/a"), "running", 8, 40, 1.0, 0.5, None, "moco with resnet18")
    lines = picture_of(state, rows, {"epochs": 10, "batch": 32}, 80).splitlines()
    assert lines[:2] == ["runs/a", "moco with resnet18, running"]
    # 32 images in half a second; 32 steps of half a second are left.
    assert lines[2] == "step 8 of 40, epoch 2 of 10, 64 images/s, 16 s left"
    assert lines[4] == "loss: 1.000, at step 8"
    # Eight values from 8 down to 1 on four lines of eight eighths: 32, 28, 23, 19, 14, 10, 5, 1 of them.
    assert lines[5:9] == ["8.000 █▄", "      ██▇▃", "      ████▆▂", "1.000 ██████▅▁"]
    assert lines[10] == "kNN top-1, %: 50.0, at step 8"
    # A column for each step; between two checks there is nothing.
    assert lines[11:15] == ["50.0        █", "            █", "            █", "25.0    ▁   █"]


def test_a_narrow_terminal_and_a_long_log() -> None:
    rows = [row(step % 8 + 8 * (step // 8)) for step in range(5000)]
    state = RunState(Path("runs") / ("a" * 60), "stopped", 5000, None)
    lines = picture_of(state, rows, {"epochs": 10}, 40).splitlines()
    assert max(map(len, lines)) <= 40
    assert "left" not in lines[2]


def make(folder: Path, count: int) -> None:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text("backbone: resnet18\nepochs: 2\nbatch: 32\nmethod: {name: moco}\n")
    (folder / "log.jsonl").write_text("".join(json.dumps(row(step)) + "\n" for step in range(count)))


def test_it_looks_again_while_the_run_runs_and_leaves_with_it(tmp_path: Path) -> None:
    shown: list[str] = []
    run = tmp_path / "run"
    make(run, 0)
    looks = 0
    with contextlib.ExitStack() as held:
        held.enter_context(run_lock(run))

        def sleep(seconds: float) -> None:
            nonlocal looks
            looks += 1
            # Nothing is new at the second look; then it grows; then the process lets go.
            if looks == 2:
                make(run, 5)
            if looks == 3:
                held.close()

        watch(run, shown.append, width=80, every=2.0, sleep=sleep)
    assert [("its log has no line yet" in text, "running" in text, "step 5" in text) for text in shown] == [
        (True, True, False),
        (False, True, True),
        (False, False, True),
    ]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "run", 3)
    app(["watch", str(tmp_path / "run")], standalone_mode=False)
    assert "moco with resnet18, stopped" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"is no run: it has no recipe.yaml"):
        app(["watch", str(tmp_path)], standalone_mode=False)
    with pytest.raises(UserError, match="takes one run, and 0 were given"):
        app(["watch"], standalone_mode=False)
