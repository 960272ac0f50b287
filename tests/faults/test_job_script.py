"""The job scripts of docs/slurm.md, word for word but for recipe and folders, with stand-ins for `srun` and `scontrol` on this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from zoo.models.runs import latest_checkpoint, read_checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "slurm.md"
SRUN = """#!/bin/bash
# Starts the command once for each task, and leaves with the highest status.
for ((task = 0; task < SLURM_NTASKS; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
  started+=($!)
done
echo "${started[@]}" > "$STANDINS/started.new" && mv "$STANDINS/started.new" "$STANDINS/started"
highest=0
for process in "${started[@]}"; do
  wait "$process"; status=$?
  ((status > highest)) && highest=$status
done
exit "$highest"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$STANDINS/requeued"; fi
"""
KEYS = (
    "data=shapes:train=64,test=60,size=32 backbone=test_resnet batch=8 method.queue=16 views.size=16 epochs=4 threads=1 "
    "device=cpu trackers=[] knn.every_epochs=0"
)


@pytest.fixture(params=[1, 2])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The page's script for one GPU, and that for eight with two processes in their place; of a small run."""
    scripts = [block for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL) if "#SBATCH" in block]
    script, changes = scripts[request.param - 1], [(r"moco_imagenet", "moco_shapes"), (r"--out runs/moco", f"--out {tmp_path / 'run'}")]
    if request.param == 1:
        changes += [(r"data=imagenet:/data bn_splits=8", f"{KEYS} bn_splits=2")]
    else:
        port = str(20000 + os.getpid() % 20000)
        changes += [(r"^source .*$", ""), (r"data=imagenet:/data workers=8", f"{KEYS} bn_splits=1"), (r"29500", port)]
    (tmp_path / "tasks").write_text(str(request.param))
    for wanted, given in changes:
        script, changed = re.subn(wanted, given, script, flags=re.MULTILINE)
        assert changed == 1, wanted
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("job", script)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path / "job"


def begun(job: Path) -> subprocess.Popen[str]:
    folder = job.parent
    slurm = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": (folder / "tasks").read_text(), "SLURM_JOB_NODELIST": "here", "STANDINS": str(folder)}
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {**os.environ, **slurm, "PATH": path}
    return subprocess.Popen([str(job)], env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(ready: Path, rows: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not ready.exists() or len(ready.read_text().splitlines()) < rows:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_the_job_script_stops_is_queued_again_and_goes_on(job: Path) -> None:
    folder, run = job.parent, job.parent / "run"
    first = begun(job)
    wait_for(run / "log.jsonl", 3, first)
    for process in (folder / "started").read_text().split():
        os.kill(int(process), signal.SIGTERM)
    output, _ = first.communicate(timeout=180)
    assert first.returncode == 3, output
    assert (folder / "requeued").read_text() == "requeue 17\n"
    stopped = read_checkpoint(latest_checkpoint(run))["step"]
    assert 0 < stopped < 32

    second = begun(job)
    output, _ = second.communicate(timeout=180)
    assert second.returncode == 0, output
    assert f"going on from step {stopped} of 32" in output
    third = begun(job)
    output, _ = third.communicate(timeout=180)
    assert third.returncode == 0, output
    assert "is finished already" in output
    assert (folder / "requeued").read_text() == "requeue 17\n"

    # The same weights as of a job that nobody stopped.
    whole = Path(str(job) + "-whole")
    job.write_text(job.read_text().replace(f"--out {run}", f"--out {whole}"))
    output, _ = begun(job).communicate(timeout=180)
    ours, theirs = read_checkpoint(latest_checkpoint(run))["model"], read_checkpoint(latest_checkpoint(whole))["model"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_mistake_is_not_queued_again(job: Path) -> None:
    job.write_text(job.read_text().replace("epochs=4", "epochs=-4"))
    process = begun(job)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 2, output
    assert "error: " in output
    assert "epochs" in output
    assert not (job.parent / "requeued").exists()
