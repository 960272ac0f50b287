"""The parts that every training shares."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from evaluation.stopping import StopRequest, parse_duration
from evaluation.training.checkpoints import remove_partial_checkpoints, save_checkpoint
from evaluation.training.log import Log, read_log
from evaluation.training.optimizers import (
    OptimizerName,
    OptimizerSettings,
    ParameterGroup,
    Schedule,
    ScheduleName,
    ScheduleSettings,
    ScheduleUnit,
    make_optimizer,
)
from zoo.errors import UserError
from zoo.models.runs import checkpoints


def schedule(settings: ScheduleSettings, *, lr: float, epochs: int, steps_per_epoch: int) -> Schedule:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    return Schedule(optimizer, settings, epochs=epochs, steps_per_epoch=steps_per_epoch)


def test_cosine_per_epoch_gives_the_published_rates() -> None:
    # ContrastiveCrop's CIFAR recipe, whose epochs count from 1: .5 at 1, .457856 at 100, .050004 at 500.
    settings = ScheduleSettings(final_lr=0.1, unit=ScheduleUnit.epoch)
    cifar = schedule(settings, lr=0.5, epochs=500, steps_per_epoch=97)
    for epoch, rate in ((1, 0.5), (100, 0.457856), (500, 0.050004)):
        cifar.set((epoch - 1) * 97 + 50)
        assert cifar.optimizer.param_groups[0]["lr"] == pytest.approx(rate, abs=1e-6)
    imagenet = schedule(ScheduleSettings(unit=ScheduleUnit.epoch), lr=0.03, epochs=100, steps_per_epoch=5)
    assert 0.03 * imagenet.factor(59 * 5) == pytest.approx(0.010815, abs=1e-6)


def test_cosine_per_step_with_warmup() -> None:
    s = schedule(ScheduleSettings(warmup_epochs=2, warmup_start=0.1), lr=1.0, epochs=10, steps_per_epoch=4)
    assert s.factor(0) == pytest.approx(0.1)
    assert s.factor(4) == pytest.approx(0.55)
    assert s.factor(8) == pytest.approx(1.0)
    assert s.factor(24) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
    assert s.factor(39) < 0.01


def test_step_schedule_counts_epochs_from_zero() -> None:
    # Linear probe of MoCo: 30, and a tenth from epochs 60 and 80 on (counted from 0).
    s = schedule(ScheduleSettings(name=ScheduleName.step, milestones=[60, 80]), lr=30.0, epochs=100, steps_per_epoch=3)
    assert [round(30 * s.factor(epoch * 3), 6) for epoch in (59, 60, 79, 80)] == [30, 3, 3, 0.3]
    assert s.factor(60 * 3 - 1) == 1.0


@pytest.mark.parametrize("name", list(OptimizerName))
def test_optimizers_update_and_biases_need_not_decay(name: OptimizerName) -> None:
    layer = nn.Linear(3, 2)
    optimizer = make_optimizer(
        [ParameterGroup(list(layer.parameters()))], OptimizerSettings(name=name, lr=0.1, weight_decay=0.5, decay_all=False), 0.1
    )
    decays = {group["weight_decay"]: [p.ndim for p in group["params"]] for group in optimizer.param_groups}
    assert decays == {0.5: [2], 0.0: [1]}
    before = layer.weight.clone()
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, before)


def test_sgd_step_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = make_optimizer([ParameterGroup([weight])], OptimizerSettings(lr=0.1, momentum=0.9, weight_decay=0.5), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (3 * weight).sum().backward()
        optimizer.step()
    # v1 = 3 + .5*2 = 4, w1 = 2 - .4 = 1.6; v2 = .9*4 + 3 + .5*1.6 = 7.4, w2 = 1.6 - .74
    assert weight.item() == pytest.approx(0.86)


def test_checkpoints_are_kept_pruned_and_loadable(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"value": torch.tensor(step), "step": step}, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000002.pt", "step_00000003.pt"]
    assert torch.load(checkpoints(tmp_path)[-1], weights_only=True)["value"].item() == 3


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="needs root, to mount a small file system")
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        good = save_checkpoint(disk, 1, {"value": torch.zeros(50_000)}, keep=2)
        with pytest.raises(UserError) as caught:
            save_checkpoint(disk, 2, {"value": torch.zeros(500_000)}, keep=2)
        assert "No space left on device" in str(caught.value)
        assert str(good) in str(caught.value)
        assert checkpoints(disk) == [good]
        assert len(torch.load(good, weights_only=True)["value"]) == 50_000
        assert [path.name for path in good.parent.iterdir()] == [good.name]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_size_limit_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The same by another way, which needs no root: the system refuses to let the file grow."""
    import resource

    good = save_checkpoint(tmp_path, 1, {"value": torch.zeros(10)}, keep=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match="File too large"):
            save_checkpoint(tmp_path, 2, {"value": torch.zeros(500_000)}, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints(tmp_path) == [good]
    assert len(list(good.parent.iterdir())) == 1


def test_half_written_checkpoints_are_removed(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path, 1, {}, keep=2)
    (good.parent / ".step_00000002.pt.abc.partial").write_bytes(b"half")
    remove_partial_checkpoints(tmp_path)
    assert list(good.parent.iterdir()) == [good]


def test_log_drops_rows_after_the_checkpoint_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(5)) + '{"step": 5, "lo')
    with Log(path, step=3) as log:
        log.write({"step": 3, "loss": 2.0})
    assert [(row["step"], row["loss"]) for row in read_log(path)] == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0)]


def test_durations() -> None:
    assert [parse_duration(text) for text in ("90s", "45m", "3h", "1h30m", "2", 0.5)] == [90, 2700, 10800, 5400, 120, 30]
    with pytest.raises(UserError, match="is not a duration"):
        parse_duration("soon")


def test_stop_by_signal_and_by_time() -> None:
    device = torch.device("cpu")
    before = signal.getsignal(signal.SIGUSR1)
    with StopRequest() as stop:
        assert not stop.asked(device)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.asked(device)
        assert stop.reason == "SIGUSR1"
    assert signal.getsignal(signal.SIGUSR1) is before
    with StopRequest(max_seconds=0) as stop:
        assert stop.asked(device)
        assert "max_time" in str(stop.reason)
