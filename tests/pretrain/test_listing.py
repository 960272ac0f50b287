"""The runs below a folder: state, step and the newest numbers, by their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_files import losses
from typer.testing import CliRunner

from evaluation.training.log import read_log
from pretrain.cli import app
from pretrain.loop import train
from pretrain.recipes import load_recipe
from pretrain.runs.listing import runs_below, state_of
from zoo.errors import UserError
from zoo.models.run_lock import run_lock

SETTINGS = [
    "data=shapes:train=48,test=12", "backbone=resnet10_small", "batch=16", "views.size=16", "views.blur=0", "device=cpu", "trackers=[]",
    "threads=1", "epochs=2", "knn.every_epochs=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    train(load_recipe("simclr_cifar10_cpu", SETTINGS), root / "a" / "done")
    train(load_recipe("simclr_cifar10_cpu", [*SETTINGS, "max_time=0s"]), root / "b")
    (root / "notes").mkdir()
    (root / "broken" / "checkpoints").mkdir(parents=True)
    (root / "broken" / "recipe.yaml").write_text("[1, 2]")
    return root


def test_states_and_numbers(folder: Path) -> None:
    found = {state.path.relative_to(folder).as_posix(): state for state in runs_below(folder)}
    assert list(found) == ["a/done", "b", "broken"]
    done, stopped, broken = found.values()
    rows = read_log(folder / "a" / "done" / "log.jsonl")
    assert (done.state, done.step, done.steps, done.recipe) == ("finished", 6, 6, "simclr with resnet10_small")
    assert (done.loss, done.knn, done.rankme) == (losses(folder / "a" / "done")[-1], rows[-1]["knn_top1"], rows[-1]["rankme"])
    # One step of the first epoch does not tell how many there will be.
    assert (stopped.state, stopped.step, stopped.steps, stopped.knn) == ("stopped", 1, None, None)
    assert "recipe.yaml must be a mapping" in broken.state
    with run_lock(folder / "b"):
        assert state_of(folder / "b").state == "running"
    assert state_of(folder / "b").state == "stopped"


def test_the_command_prints_a_table_or_says_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["runs", str(folder)])
    assert shown.exit_code == 0
    line = next(line for line in shown.output.splitlines() if "a/done" in line)
    assert "finished" in line
    assert "6 of 6" in line
    with pytest.raises(UserError, match="there is no run in"):
        CliRunner().invoke(app, ["runs", str(tmp_path)], catch_exceptions=False)
    with pytest.raises(UserError, match="there is no folder"):
        list(runs_below(tmp_path / "nothing"))
