"""`pretrain RECIPE --trial`, and `micro_batch=auto`."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
import torch
from method_cases import BATCH, CASES, SIDE, make_method, tables
from torch import nn
from typer.testing import CliRunner

from evaluation.training.optimizers import OptimizerSettings
from pretrain import loop
from pretrain.batchnorm import split_batchnorm
from pretrain.cli import app
from pretrain.fitting.made_up import made_up_tables
from pretrain.fitting.micro_batch import _fits, candidates, find_micro_batch, largest_that_fits, smallest_part
from pretrain.loop import train
from pretrain.methods import METHODS
from pretrain.recipes import load_recipe
from pretrain.survey.prototypes import STEERING
from pretrain.trial import Trial, _size_of, try_recipe
from zoo.errors import UserError
from zoo.models.runs import latest_checkpoint, read_recipe

TINY = """
data: shapes:train=96,test=30,size=16
backbone: test_resnet
method: {name: moco, queue: 32, dim: 16, momentum: 0.9}
views: {size: 32}
batch: 8
epochs: 4
optimizer: {lr: 0.05}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
"""
CPU = torch.device("cpu")


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


METHOD_OVERRIDES = {
    "moco": [],
    "hcsc": ["method.name=hcsc", "method.queue=32", "method.levels=[12,4]", "method.warmup_epochs=2"],
    "csml": ["method.name=csml", "method.queue=32", "method.refresh_epochs=2", "method.cross_epochs=1"],
    "boxes": ["views.crop=contrastive_crop", "boxes.warmup_epochs=1", "boxes.every_epochs=1", "backbone=resnet10_small"],
}


@pytest.mark.parametrize("which", METHOD_OVERRIDES)
def test_a_trial_measures_the_steps_and_surveys_of_the_run(
    which: str, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    config = load_recipe(recipe, METHOD_OVERRIDES[which])
    began = time.perf_counter()
    found = try_recipe(config)
    elapsed = time.perf_counter() - began
    assert sorted(tmp_path.rglob("*")) == before
    assert (found.batch, found.micro_batch, found.steps, found.timed) == (8, 8, 48, 15)
    assert 0 < found.step_seconds * 15 < elapsed
    assert found.surveys == {"moco": 0, "hcsc": 2, "csml": 2, "boxes": 3}[which]
    assert (found.survey_batch_seconds is None) == (which == "moco")
    assert (found.table_seconds > 0) == (which in ("hcsc", "csml"))
    survey = (found.survey_batch_seconds or 0.0) + found.table_seconds
    assert found.hours == pytest.approx((48 * found.step_seconds + found.surveys * survey) / 3600)
    # A checkpoint of the run itself is as large, but for the numbers in it.
    if which == "boxes":
        return
    train(config, tmp_path / "run")
    assert found.checkpoint == pytest.approx(latest_checkpoint(tmp_path / "run").stat().st_size, rel=0.02)


def test_what_a_trial_says(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [recipe, "--trial", "epochs=1", *METHOD_OVERRIDES["hcsc"][:-1], "method.warmup_epochs=0"])
    assert done.exit_code == 0, done.output
    parts = ["device              cpu, 1 thread", "images/s (", "hours: 12 steps and 1 surveys of about", "memory of the host  "]
    for part in [*parts, "3 checkpoints of"]:
        assert part in done.output
    assert done.output.endswith("nothing was written\n")
    assert not list(tmp_path.glob("runs*"))


def test_hours_and_what_does_not_fit_by_hand() -> None:
    gib = 1 << 30
    trial = Trial("card", 256, 64, 1000, 15, 0.5, 10, 0.2, 5, 4.0, 30 * gib, 40 * gib, 2 * gib, 10**9, 3, 2 * 10**9)
    assert trial.images_per_second == 512
    assert trial.hours == pytest.approx((1000 * 0.5 + 10 * (0.2 * 5 + 4.0)) / 3600)
    text = "\n".join(trial.lines())
    assert "30.00 GiB of tensors at most, 75 % of 40.0 GiB" in text
    assert "does not fit        the checkpoints do not fit on the disk: lower checkpoint.keep" in text


def test_the_size_of_a_checkpoint_is_that_of_the_file() -> None:
    state, file = {"weights": torch.randn(1000, 7), "step": 3}, io.BytesIO()
    torch.save(state, file)
    assert _size_of(lambda counter: torch.save(state, counter)) == len(file.getvalue())


def test_memory_that_does_not_suffice_is_said_in_one_sentence(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop.Training, "_step", full)
    with pytest.raises(UserError, match="the GPU's memory does not suffice for a step; lower micro_batch"):
        try_recipe(load_recipe(recipe))


@pytest.mark.parametrize("case", CASES)
def test_made_up_tables_are_those_that_a_method_receives(case: str) -> None:
    method = make_method(case)
    settings = METHODS[CASES[case][0]].Settings(**CASES[case][1])
    made = made_up_tables(settings, 64)
    method.receive(made)
    # Prototypes that wait for each other need memory from when they steer.
    steering = made.pop(STEERING, None)
    assert (None if steering is None else steering.tolist()) == ([1] if case == "hcsc waiting" else None)
    real = {name: table for name, table in tables().items() if name in made}
    assert {name: (table.shape, table.dtype) for name, table in made.items()} == {n: (t.shape, t.dtype) for n, t in real.items()}


def test_micro_batches_that_may_be_tried() -> None:
    assert candidates(96, 2, 1) == [96, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2]
    assert candidates(96, 16, 8) == [96, 48, 32, 24, 16]
    assert largest_that_fits([96, 48, 32], lambda size: size <= 40) == 32
    with pytest.raises(UserError, match="not even micro_batch=32, the least that the method needs, fits on the GPU"):
        largest_that_fits([96, 32], lambda size: False)


def test_never_below_what_the_method_needs() -> None:
    assert smallest_part(make_method("moco"), 64) == 2
    assert smallest_part(split_batchnorm(make_method("moco"), 4), 64) == 8  # type: ignore[arg-type]
    assert smallest_part(make_method("simclr"), 64) == 64
    assert smallest_part(make_method("moco", "test_vit"), 64) == 1


def test_a_try_is_a_step_of_the_method_and_leaves_it_alone() -> None:
    method = make_method("hcsc")
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    seen: list[int] = []

    def prepare(copy: nn.Module) -> nn.Module:
        copy.named_encoder("query").register_forward_pre_hook(lambda module, inputs: watch(len(inputs[0])))  # type: ignore[operator]
        return copy

    def watch(count: int) -> None:
        seen.append(count)
        if count > 4:
            raise torch.OutOfMemoryError("full")

    def fits(size: int) -> bool:
        return _fits(method, prepare, size, BATCH, [SIDE, SIDE], OptimizerSettings(lr=0.1), dict(tables()), CPU, False)  # type: ignore[arg-type]

    assert largest_that_fits([8, 4, 2], fits) == 4
    assert seen == [8, 4, 4]
    assert all(torch.equal(tensor, state[name]) for name, tensor in method.state_dict().items())
    # A host's memory has no end at which it could be tried.
    assert find_micro_batch(method, prepare, BATCH, [SIDE], OptimizerSettings(lr=0.1), {}, device=CPU, autocast=False) == BATCH  # type: ignore[arg-type]


def test_auto_is_recorded(recipe: str, tmp_path: Path) -> None:
    train(load_recipe(recipe, ["micro_batch=auto", "epochs=1"]), tmp_path / "run")
    assert read_recipe(tmp_path / "run")["micro_batch"] == 8


@pytest.mark.cuda
def test_auto_finds_a_part_that_fits_on_the_gpu(tmp_path: Path) -> None:
    torch.cuda.set_per_process_memory_fraction(2e9 / torch.cuda.get_device_properties(0).total_memory)
    try:
        overrides = ["data=shapes:train=1024,test=10,size=64", "views.size=128", "batch=512", "backbone=resnet50", "method.queue=512"]
        recipe = load_recipe("moco_shapes", [*overrides, "micro_batch=auto", "epochs=1", "device=cuda", "bn_splits=1", "trackers=[]"])
        train(recipe, tmp_path / "run")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 2 <= read_recipe(tmp_path / "run")["micro_batch"] < 512
