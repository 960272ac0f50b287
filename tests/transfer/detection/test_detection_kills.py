"""A detection run that is killed at random moments goes on with the same command and ends as the unbroken one; a second call is refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_detection_training import FPN, words

from transfer.presence import has_detectron2, install_line
from zoo.errors import UserError
from zoo.models.run_lock import run_lock
from zoo.results import load_result

if not has_detectron2():
    pytest.skip(f"detectron2 is not installed: {install_line()}", allow_module_level=True)

from transfer.detection import detect

# Long enough that kills fall into loading, training, checkpoints and evaluation.
SETTINGS = FPN | {"SOLVER.MAX_ITER": 24, "SOLVER.STEPS": "(20,)", "SOLVER.CHECKPOINT_PERIOD": 3, "TEST.EVAL_PERIOD": 12}
BREAKS = 5


def begun(data: Path, out: Path) -> subprocess.Popen[str]:
    command = ["-m", "transfer", "detect", "coco_r50_fpn_1x", "--model", "random:resnet50:5", "--data", f"coco:{data}", "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, *command, "--continue", "--device", "cpu", *words(SETTINGS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = torch.load(run / "model_final.pth", weights_only=True)["model"]
    return model


@pytest.mark.faults
def test_kills_at_random_moments_end_as_the_unbroken_run(coco_shapes, tmp_path):
    draw = random.Random(0)
    whole = begun(coco_shapes, tmp_path / "whole")
    _, error = whole.communicate(timeout=600)
    assert whole.returncode == 0, error
    counts = {"SIGKILL": 0, "SIGTERM": 0, "status 3": 0}
    run = tmp_path / "run"
    for _ in range(BREAKS):
        process, number = begun(coco_shapes, run), draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        try:
            process.communicate(timeout=draw.uniform(5, 25))
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
        _, error = process.communicate(timeout=300)
        counts[number.name] += 1
        if number == signal.SIGTERM and process.returncode not in (0, -number, 128 + number):
            assert process.returncode == 3, error
            counts["status 3"] += 1
        assert not run.exists() or (run / "config.yaml").exists()
    last = begun(coco_shapes, run)
    _, error = last.communicate(timeout=600)
    assert last.returncode == 0, error
    print("\na detection run broken off and gone on with, equal to the unbroken one:", counts)
    ours, theirs = (load_result(folder / "result.json") for folder in (run, tmp_path / "whole"))
    assert ours.metrics == theirs.metrics
    mine, wanted = final_weights(run), final_weights(tmp_path / "whole")
    assert mine.keys() == wanted.keys()
    assert all(torch.equal(torch.as_tensor(mine[name]), torch.as_tensor(wanted[name])) for name in wanted)


def test_a_second_call_of_a_run_that_is_written_is_refused(coco_shapes, tmp_path):
    run = tmp_path / "run"
    detect.start("coco_r50_fpn_1x", "random:resnet50:5", f"coco:{coco_shapes}", run, words(FPN), max_seconds=0, say=lambda line: None)
    before = sorted(path.name for path in run.iterdir())
    with run_lock(run):
        for call in (
            lambda: detect.resume(run, say=lambda line: None),
            lambda: detect.start(
                "coco_r50_fpn_1x", "random:resnet50:5", f"coco:{coco_shapes}", run, words(FPN), overwrite=True, say=lambda line: None
            ),
            lambda: detect.start(
                "coco_r50_fpn_1x", "random:resnet50:5", f"coco:{coco_shapes}", run, words(FPN), go_on=True, say=lambda line: None
            ),
        ):
            with pytest.raises(UserError, match="is being written by"):
                call()
    assert sorted(path.name for path in run.iterdir()) == before
