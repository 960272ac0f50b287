"""A run that is killed, stopped, begun twice or gone on with: `--continue` gives what an unbroken run gives, or says why not.

The fast share is one run of each kind; marked ``faults`` are kills at random moments, whole groups, and two nodes.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

import pretrain.cli
from evaluation.training.log import read_log
from pretrain.loop import Outcome, train
from pretrain.recipes import load_recipe
from zoo.errors import UserError
from zoo.models.runs import CHECKPOINT_FOLDER, latest_checkpoint, read_checkpoint

MOCO = """
data: DATA
backbone: test_resnet
method: {name: moco, queue: 32, dim: 16, momentum: 0.9}
views: {size: 16, blur: 0.3, blur_sigma: [0.1, 1.0]}
batch: 8
epochs: 2
optimizer: {lr: 0.05}
threads: 1
device: cpu
workers: 2
trackers: []
knn: {every_epochs: 0}
checkpoint: {every_epochs: 1}
"""
HCSC_CCROP = """
base: hcsc_ccrop_shapes
data: shapes:train=256,test=60,size=32
views: {size: 32}
batch: 32
epochs: 4
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
"""
CSML = HCSC_CCROP.replace("hcsc_ccrop_shapes", "csml_shapes")
# How often a run is broken off before it may end.
BREAKS = 5
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """MoCo on files, which loader processes decode."""
    pictures = torch.randint(0, 256, (40, 16, 20, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    for number, picture in enumerate(pictures):
        path = tmp_path / "photos" / "train" / f"kind{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Images of one size would be kept in memory, and no loader process would begin.
        Image.fromarray(picture[:, : 16 + number % 5]).save(path)
    file = tmp_path / "moco.yaml"
    file.write_text(MOCO.replace("DATA", f"folder:{tmp_path / 'photos'}"))
    return file


def typed(*words: object) -> int:
    """Exit status of ``pretrain`` with these words, in this process."""
    before, sys.argv = sys.argv, ["pretrain", *map(str, words)]
    try:
        pretrain.cli.main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    finally:
        sys.argv = before
    return 0


def begun(*words: object) -> subprocess.Popen[str]:
    """``pretrain`` with these words, in a group of processes of its own."""
    command = [sys.executable, "-m", "pretrain", *map(str, words)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = read_checkpoint(latest_checkpoint(run))["model"]
    return model


def assert_same_run(run: Path, whole: Path) -> None:
    assert [row["loss"] for row in read_log(run / "log.jsonl")] == [row["loss"] for row in read_log(whole / "log.jsonl")]
    ours, theirs = weights(run), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def rows(run: Path) -> int:
    log = run / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def wait_for_rows(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while rows(run) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------------- one command


def test_one_command_starts_goes_on_and_is_done(tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert typed(recipe, "--out", whole) == 0
    assert typed(recipe, "--out", run, "--continue", "max_time=0s") == 3
    assert "stopped by max_time of 0 s after step 1 of 10" in capsys.readouterr().out
    assert typed(recipe, "--out", run, "--continue", "max_time=1h", "workers=0") == 0
    assert_same_run(run, whole)
    newest = latest_checkpoint(run)
    before = newest.stat().st_mtime_ns
    capsys.readouterr()
    assert typed(recipe, "--out", run, "--continue") == 0
    assert f"{run} is finished already (10 steps)" in capsys.readouterr().out
    assert newest.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("word", "now", "then"),
    [
        ("seed=3", "3", "0"),
        ("method.temperature=0.3", "0.3", "0.2"),
        ("epochs=3", "3", "2"),
        ("backbone=test_vit", "test_vit", "test_resnet"),
    ],
)
def test_another_recipe_is_not_gone_on_with(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str], word: str, now: str, then: str
) -> None:
    run = tmp_path / "run"
    train(load_recipe(str(recipe), ["max_time=0s"]), run)
    capsys.readouterr()
    assert typed(recipe, "--out", run, "--continue", word) == 2
    key = word.partition("=")[0]
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"error: {key} is {now} in this command, and the run {run} was begun with {then}; leave it as it was to go on, or choose another "
        "--out"
    )
    assert train(load_recipe(str(recipe)), run, go_on=True) == Outcome(10, 10, None)


def test_what_is_no_run_is_not_begun_in(tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    assert typed(recipe, "--out", mine, "--continue") == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
    assert typed(recipe, "--out", tmp_path / "run", "--continue", "--overwrite") == 2
    assert "--continue keeps what is there and --overwrite replaces it" in capsys.readouterr().err
    assert typed("--resume", tmp_path / "run", "--continue") == 2
    # What a process left that was killed while it made the folder is begun in.
    half = tmp_path / "half"
    (half / CHECKPOINT_FOLDER).mkdir(parents=True)
    (half / "environment.json").write_text("{}")
    assert train(load_recipe(str(recipe), ["epochs=1"]), half, go_on=True) == Outcome(5, 5, None)


def test_a_run_without_a_checkpoint_is_begun_again(tmp_path: Path, recipe: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    train(load_recipe(str(recipe)), whole)
    train(load_recipe(str(recipe), ["max_time=0s"]), run)
    latest_checkpoint(run).unlink()
    assert train(load_recipe(str(recipe)), run, go_on=True) == Outcome(10, 10, None)
    assert_same_run(run, whole)


def test_a_damaged_newest_checkpoint_and_a_clock_that_went_back(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    train(load_recipe(str(recipe)), whole)
    train(load_recipe(str(recipe), ["checkpoint.every_steps=1", "checkpoint.keep=9", "max_time=0s"]), run)
    train(load_recipe(str(recipe), ["checkpoint.every_steps=1", "checkpoint.keep=9", "max_time=0s"]), run, go_on=True)
    newest = latest_checkpoint(run)
    # The newest by its step has the oldest time.
    os.utime(newest, (0, 0))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    capsys.readouterr()
    assert typed(recipe, "--out", run, "--continue", "max_time=1h") == 0
    said = capsys.readouterr()
    assert "going on from the one before it" in said.out + said.err
    assert_same_run(run, whole)


# ---------------------------------------------------------------------- two at once, and signals


def test_two_at_once_and_a_signal_to_the_whole_group(tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second call of any kind leaves with one sentence; a signal to the training and its loader processes saves a checkpoint."""
    run = tmp_path / "run"
    process = begun(recipe, "--out", run, "epochs=500", "--continue")
    try:
        wait_for_rows(run, 3, process)
        assert len(psutil.Process(process.pid).children(recursive=True)) >= 2
        for words in ((recipe, "--out", run, "epochs=500", "--continue"), (recipe, "--out", run, "--overwrite"), ("--resume", run)):
            assert typed(*words) == 2
            error = capsys.readouterr().err.splitlines()[-1]
            assert re.fullmatch(rf"error: {run} is being written by process {process.pid} on .*; wait for its end, or stop it first", error)
        os.killpg(process.pid, signal.SIGTERM)
        output, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 3, error
    assert "stopped by SIGTERM after step" in output
    assert "Traceback" not in error
    saved = read_checkpoint(latest_checkpoint(run))["step"]
    assert saved == rows(run)
    assert train(load_recipe(str(recipe), ["epochs=500", "max_time=0s"]), run, go_on=True).step == saved + 1


@pytest.fixture
def wholes(tmp_path: Path, recipe: Path) -> dict[str, tuple[Path, Path]]:
    """Recipes and their unbroken runs, by name."""
    found = {}
    for name, text in (("moco", None), ("hcsc_ccrop", HCSC_CCROP), ("csml", CSML)):
        file = recipe if text is None else tmp_path / f"{name}.yaml"
        if text is not None:
            file.write_text(text)
        assert typed(file, "--out", tmp_path / f"{name}_whole", "checkpoint.every_steps=1") == 0
        found[name] = file, tmp_path / f"{name}_whole"
    return found


@pytest.mark.faults
def test_kills_at_random_moments(tmp_path: Path, wholes: dict[str, tuple[Path, Path]]) -> None:
    """SIGKILL and signals from the start of the process on: whatever is left, the same command goes on to the same weights."""
    draw = random.Random(0)
    counts: dict[str, int] = {"kills": 0, "SIGTERM": 0, "SIGINT": 0, "status 3": 0, "runs": 0}
    for name, (file, whole) in wholes.items():
        for _ in range(2):
            run = tmp_path / f"{name}_{counts['runs']}"
            for attempt in range(BREAKS + 1):
                process = begun(file, "--out", run, "--continue", "checkpoint.every_steps=1")
                if attempt == BREAKS:
                    break
                number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
                try:
                    process.wait(timeout=draw.uniform(2.0, 9.0))
                    break
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, number)
                output, error = process.communicate(timeout=120)
                counts["kills" if number == signal.SIGKILL else number.name] += 1
                if number != signal.SIGKILL and process.returncode not in (0, -number, 128 + number):
                    assert process.returncode == 3, (output, error)
                    counts["status 3"] += 1
                assert run.exists() <= (run / "recipe.yaml").exists(), list(run.iterdir())
            assert process.wait(timeout=300) == 0, process.communicate()
            assert_same_run(run, whole)
            assert not list(tmp_path.glob(f".{run.name}*"))
            counts["runs"] += 1
    print("\nruns broken off and gone on with, bit-equal to the unbroken ones:", counts)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def agent(number: int, port: int, *words: object, restarts: int = 0) -> subprocess.Popen[str]:
    """One node's torchrun, by a static rendezvous on loopback."""
    command = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--node_rank", str(number)]
    command += ["--master_addr", "127.0.0.1", "--master_port", str(port), "--max-restarts", str(restarts), "-m", "pretrain"]
    return subprocess.Popen(
        [sys.executable, *command, *map(str, words)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.faults
def test_two_nodes_of_which_one_is_killed_go_on(tmp_path: Path, recipe: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = ("--out", run, "--continue", "epochs=40", "checkpoint.every_steps=1")

    def nodes(*which: object) -> list[subprocess.Popen[str]]:
        port = free_port()
        return [agent(number, port, recipe, *which) for number in (0, 1)]

    unbroken = nodes("--out", whole, "--continue", "epochs=40")
    assert [process.wait(timeout=300) for process in unbroken] == [0, 0], [process.communicate()[1][-2000:] for process in unbroken]
    first, second = nodes(*words)
    wait_for_rows(run, 6, first)
    # torchrun gives its workers sessions of their own; a node that is gone has neither.
    for gone in (psutil.Process(second.pid), *psutil.Process(second.pid).children(recursive=True)):
        gone.kill()
    _, error = first.communicate(timeout=120)
    assert first.returncode != 0
    own = error.partition("torch.distributed.elastic")[0]
    print("\nwhat the node that is left says:\n", own[-1500:])
    again = nodes(*words)
    assert [process.wait(timeout=300) for process in again] == [0, 0], [process.communicate()[1][-2000:] for process in again]
    assert_same_run(run, whole)


@pytest.mark.faults
def test_another_number_of_processes_is_refused_with_status_2(tmp_path: Path, recipe: Path) -> None:
    run = tmp_path / "run"
    train(load_recipe(str(recipe), ["max_time=0s"]), run)
    port = free_port()
    nodes = [agent(number, port, recipe, "--out", run, "--continue") for number in (0, 1)]
    said = [process.communicate(timeout=120) for process in nodes]
    assert all(process.returncode for process in nodes)
    assert "was made by 1 processes and cannot go on with 2" in said[0][1]
    assert "exitcode  : 2" in re.sub(r"exitcode\s+:", "exitcode  :", said[0][1])


def torchrun(*words: object, restarts: int = 0) -> subprocess.Popen[str]:
    """Two processes as docs/pretraining.md starts them; ``--standalone`` is a rendezvous by c10d."""
    options = ["--max-restarts", restarts] if restarts else []
    command = [Path(sys.executable).with_name("torchrun"), "--standalone", *options, "--nproc_per_node", "2", "-m", "pretrain", *words]
    return subprocess.Popen(
        list(map(str, command)), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def workers_of(run: Path) -> list[psutil.Process]:
    """The processes of a group that train in ``run``: those whose command names it, torchrun itself left out."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if str(run) in line and "--nproc_per_node" not in line:
            found.append(process)
    return [process for process in found if process.ppid() not in {other.pid for other in found}]


def ranks_of(run: Path) -> dict[int, psutil.Process]:
    members = {int(process.environ()["RANK"]): process for process in workers_of(run)}
    assert set(members) == {0, 1}
    return members


def own_lines(error: str) -> list[str]:
    """What stands before torchrun's own report."""
    lines = error.splitlines()
    end = next((number for number, line in enumerate(lines) if "torch/distributed/elastic" in line or "Traceback" in line), len(lines))
    return [line for line in lines[:end] if line.startswith("error")]


@pytest.mark.faults
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_other_in_one_sentence(tmp_path: Path, recipe: Path, rank: int) -> None:
    run = tmp_path / "run"
    group = torchrun(recipe, "--out", run, "--continue", "epochs=500", "checkpoint.every_steps=1")
    wait_for_rows(run, 3, group)
    members = ranks_of(run)
    members[rank].kill()
    _, error = group.communicate(timeout=120)
    assert group.returncode not in (0, 3)
    said = own_lines(error)
    print(f"\nrank {rank} was killed; the other says: {said}")
    assert len(said) <= 1, error
    # None of gloo's traces, which name its source files.
    assert "gloo/" not in error, error
    # What was saved is whole.
    read_checkpoint(latest_checkpoint(run))


@pytest.mark.faults
@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun_starts_a_killed_group_again_and_it_goes_on(tmp_path: Path, recipe: Path, rank: int) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    unbroken = torchrun(recipe, "--out", whole, "epochs=40")
    assert unbroken.wait(timeout=300) == 0, unbroken.communicate()
    group = torchrun(recipe, "--out", run, "--continue", "epochs=40", "checkpoint.every_steps=1", restarts=2)
    for after in (6, 90):
        wait_for_rows(run, after, group)
        ranks_of(run)[rank].kill()
    _, error = group.communicate(timeout=300)
    assert group.returncode == 0, error
    assert_same_run(run, whole)


@pytest.mark.faults
def test_of_two_begun_at_the_same_moment_one_trains(tmp_path: Path, recipe: Path) -> None:
    # Long enough that the first is still at it when the second looks.
    words = (recipe, "--continue", "epochs=100")
    for number in range(4):
        run = tmp_path / f"run{number}"
        if number % 2:
            # Both find a run that was broken off; else both find nothing.
            train(load_recipe(str(recipe), ["epochs=100", "max_time=0s"]), run)
        both = [begun(*words, "--out", run) for _ in range(2)]
        said = [process.communicate(timeout=300)[1] for process in both]
        assert sorted(process.returncode for process in both) == [0, 2], said
        loser = next(error for error, process in zip(said, both, strict=True) if process.returncode == 2)
        assert "is being written by process" in loser, loser
        assert rows(run) == 500
        assert not list(tmp_path.glob(f".{run.name}*"))


@pytest.mark.faults
def test_a_mistake_of_one_rank_alone_is_one_sentence_above_torchruns_report(tmp_path: Path, recipe: Path) -> None:
    """Rank 1 alone has a photo that is no image any more: it is exchanged once the look over all of them is done."""
    script = tmp_path / "one_rank.py"
    script.write_text(
        "import os, sys\n"
        "import pretrain.cli, pretrain.loop\n"
        "from zoo.errors import UserError\n"
        "step = pretrain.loop.Training._step\n"
        "def broken(self, number, views, index):\n"
        "    if number == 2 and os.environ['RANK'] == '1':\n"
        "        raise UserError('the disk of this machine has lost photos/3.png; put it back')\n"
        "    return step(self, number, views, index)\n"
        "pretrain.loop.Training._step = broken\n"
        "pretrain.cli.main()\n"
    )
    command = [Path(sys.executable).with_name("torchrun"), "--standalone", "--nproc_per_node", "2", script]
    command += [recipe, "--out", tmp_path / "run"]
    done = subprocess.run(list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, timeout=180)
    assert done.returncode != 0
    said = own_lines(done.stderr)
    print("\nrank 1 alone is wrong; said:", said)
    assert "error (process 1 of 2): the disk of this machine has lost photos/3.png; put it back" in said
    assert len(said) <= 2, done.stderr


@pytest.mark.faults
def test_a_killed_loader_process_is_one_sentence(tmp_path: Path, recipe: Path) -> None:
    run = tmp_path / "run"
    process = begun(recipe, "--out", run, "epochs=500")
    wait_for_rows(run, 3, process)
    loaders = psutil.Process(process.pid).children(recursive=True)
    assert loaders
    loaders[0].kill()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2, error
    assert "Traceback" not in error
    (sentence,) = [line for line in error.splitlines() if line.startswith("error: ")]
    print("\na loader process was killed:", sentence)
    assert "a process that decodes images ended" in sentence


@pytest.mark.faults
def test_every_flipped_bit_of_a_runs_checkpoints_is_noticed(tmp_path: Path, recipe: Path) -> None:
    run = tmp_path / "run"
    train(load_recipe(str(recipe), ["epochs=1"]), run)
    path = latest_checkpoint(run)
    content, draw = path.read_bytes(), random.Random(0)
    for _ in range(1000):
        changed, place = bytearray(content), draw.randrange(len(content))
        changed[place] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(UserError, match="damaged"):
            read_checkpoint(path)
    print("\n1000 of 1000 single flipped bits were noticed")


@pytest.mark.faults
def test_processes_that_srun_would_start_save_and_leave_with_status_3(tmp_path: Path, recipe: Path) -> None:
    """The variables of docs/pretraining.md, without torchrun, which would hide the status: SIGTERM to all, then the same command."""
    run, whole = tmp_path / "run", tmp_path / "whole"

    def start(out: Path) -> list[subprocess.Popen[str]]:
        port = str(free_port())
        words = [sys.executable, "-m", "pretrain", str(recipe), "--out", str(out), "--continue", "epochs=40"]
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        places = [{**ENVIRONMENT, **group, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
        return [subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for env in places]

    def said(processes: list[subprocess.Popen[str]], status: int) -> None:
        for process in processes:
            output, error = process.communicate(timeout=300)
            assert process.returncode == status, (output, error)

    said(start(whole), 0)
    first = start(run)
    wait_for_rows(run, 6, first[0])
    for process in first:
        process.send_signal(signal.SIGTERM)
    said(first, 3)
    said(start(run), 0)
    assert_same_run(run, whole)
