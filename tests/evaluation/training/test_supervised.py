"""The loop of trainings with labels: values of its steps and schedules, and a training that was stopped is the one that ran through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from noise_training import TARGETS, Source, course, groups, measure, network, train
from torch import Tensor, nn
from torch.nn import functional

from evaluation.stopping import TrainingStopped
from evaluation.training.log import read_log
from evaluation.training.optimizers import Schedule, ScheduleName, ScheduleSettings, ScheduleUnit
from evaluation.training.supervised import Place, train_supervised
from zoo.errors import UserError
from zoo.models.run_lock import run_lock
from zoo.models.runs import checkpoints


def test_steps_are_those_of_a_plain_loop() -> None:
    model, plain = network(norm=False), network(norm=False)
    history = train(model)
    optimizer = torch.optim.SGD(
        [{"params": plain.backbone.parameters(), "lr": 0.02}, {"params": plain.head.parameters(), "lr": 0.5}],
        momentum=0.9,
        weight_decay=1e-3,
    )
    for epoch in range(3):
        for group, peak in zip(optimizer.param_groups, (0.02, 0.5), strict=True):
            group["lr"] = peak * 0.2**epoch
        for images, index in Source().batches(epoch):
            optimizer.zero_grad()
            functional.cross_entropy(plain(images), TARGETS[index]).backward()
            optimizer.step()
        plain.eval()
        assert history.epochs[epoch] == pytest.approx(measure(plain))
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not model.training
    assert history.batch_norm == "joint"


@pytest.mark.cuda
def test_a_gpu_trains_as_the_cpu_does() -> None:
    class OnGpu(Source):
        def batches(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
            return ((images.cuda(), index.cuda()) for images, index in super().batches(epoch, first_step))

    on_cpu, on_gpu = network(norm=False), network(norm=False)
    train(on_cpu)
    train_supervised(on_gpu, OnGpu(), TARGETS, course(), groups(on_gpu), place=Place(device="cuda"))
    for name, value in on_cpu.state_dict().items():
        # Convolutions may be rounded to TF32.
        torch.testing.assert_close(on_gpu.state_dict()[name].cpu(), value, atol=2e-2, rtol=2e-2)


def test_the_sum_of_losses_of_several_outputs() -> None:
    model, plain = network(norm=False), network(norm=False)
    targets = functional.one_hot(TARGETS).float()
    train_supervised(
        model,
        Source(),
        targets,
        course(1, "sum"),
        groups(model),
        loss=functional.binary_cross_entropy_with_logits,
        place=Place(device="cpu"),
    )
    optimizer = torch.optim.SGD([{"params": plain.backbone.parameters(), "lr": 0.02}, {"params": plain.head.parameters(), "lr": 0.5}])
    for group in optimizer.param_groups:
        group["momentum"], group["weight_decay"] = 0.9, 1e-3
    for images, index in Source().batches(0):
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(plain(images), targets[index], reduction="sum").backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


@pytest.mark.parametrize("how", ["trained", "frozen", "frozen, live batch norm"])
def test_what_is_frozen_stays_and_what_is_live_moves(how: str) -> None:
    model = network(how=how)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    assert model.backbone.norm.training == (how != "frozen")
    train(model)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"head.weight", "head.bias"} <= moved
    assert ("backbone.conv.weight" in moved) == (how == "trained")
    assert ("backbone.norm.running_mean" in moved) == (how != "frozen")
    if how == "frozen":
        assert moved == {"head.weight", "head.bias"}


def test_rates_of_restarts_and_of_a_wave_are_torchs() -> None:
    def rates(settings: ScheduleSettings, steps: int, per_epoch: int) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
        schedule = Schedule(optimizer, settings, epochs=100, steps_per_epoch=per_epoch)
        found = []
        for step in range(steps):
            schedule.set(step)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
    peer = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10)
    expected = []
    for step in range(35 * 4):
        peer.step(step / 4)
        expected.append(optimizer.param_groups[0]["lr"])
    restarts = ScheduleSettings(name=ScheduleName.restarts, period=10)
    np.testing.assert_allclose(rates(restarts, 35 * 4, 4), expected, atol=1e-9)

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
    wave = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
    optimizer.step()
    expected = []
    for _ in range(50):
        wave.step()
        expected += [optimizer.param_groups[0]["lr"]] * 2
    found = rates(ScheduleSettings(name=ScheduleName.wave, period=12, unit=ScheduleUnit.epoch), 100, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_best_weights_are_kept() -> None:
    model = network()
    history = train(model, keep_by="correct")
    best = history.best("correct")
    assert history.kept is not None
    again = network()
    again.load_state_dict(history.kept)
    assert measure(again.eval())["correct"] == max(epoch["correct"] for epoch in history.epochs)
    assert best == [epoch["correct"] for epoch in history.epochs].index(max(epoch["correct"] for epoch in history.epochs))


def test_a_training_that_is_stopped_again_and_again_is_the_one_that_ran_through(tmp_path: Path) -> None:
    whole = network()
    straight = train(whole, Place(device="cpu", folder=tmp_path / "whole"), identity={"rate": 1}, keep_by="correct")
    # No time at all: one step, then stop.
    hurried = Place(device="cpu", folder=tmp_path / "parts", max_seconds=0)
    for step in range(1, 9):
        with pytest.raises(TrainingStopped, match=f"after step {step} of 9; the same command goes on from"):
            train(network(), hurried, identity={"rate": 1}, keep_by="correct")
    part = network()
    history = train(part, hurried, identity={"rate": 1}, keep_by="correct")
    assert history.resumed_from == 8
    assert history.epochs == straight.epochs
    for name, value in whole.state_dict().items():
        assert torch.equal(part.state_dict()[name], value), name
    assert history.kept is not None
    assert straight.kept is not None
    assert all(torch.equal(history.kept[name], value) for name, value in straight.kept.items())
    rows = [[(row["step"], row["loss"]) for row in read_log(tmp_path / run / "log.jsonl")] for run in ("whole", "parts")]
    assert rows[0] == rows[1]
    assert [step for step, _ in rows[0]] == list(range(9))
    assert len(checkpoints(tmp_path / "parts")) == 1
    # What is finished is not trained again.
    done = network()
    assert train(done, Place(device="cpu", folder=tmp_path / "parts"), identity={"rate": 1}, keep_by="correct").resumed_from == 9
    assert torch.equal(done.head.weight, whole.head.weight)


def test_folders_of_other_trainings_are_refused(tmp_path: Path) -> None:
    train(network(), Place(device="cpu", folder=tmp_path / "run"), identity={"percent": 1, "seed": 0})
    assert json.loads((tmp_path / "run" / "training.json").read_text()) == {"percent": 1, "seed": 0}
    with pytest.raises(UserError, match="holds another training: its percent is 1, and here it is 10"):
        train(network(), Place(device="cpu", folder=tmp_path / "run"), identity={"percent": 10, "seed": 0})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not a folder of a training"):
        train(network(), Place(device="cpu", folder=tmp_path / "other"))
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]
    with run_lock(tmp_path / "run"), pytest.raises(UserError, match="is being written by another training of this process"):
        train(network(), Place(device="cpu", folder=tmp_path / "run"), identity={"percent": 1, "seed": 0})
    newest = checkpoints(tmp_path / "run")[-1]
    newest.write_bytes(newest.read_bytes()[:200])
    with pytest.raises(UserError, match="is damaged"):
        train(network(), Place(device="cpu", folder=tmp_path / "run"), identity={"percent": 1, "seed": 0})


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    model = network()
    with torch.no_grad():
        model.head.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="the loss became nan at step 0"):
        train(model)


def test_the_callers_random_numbers_are_left_alone() -> None:
    model = network()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(model)
    assert torch.equal(torch.rand(3), expected)
