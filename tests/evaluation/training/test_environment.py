"""Environment variables of accelerate: what would change a run behind its recipe is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate.state import PartialState

from evaluation.training.devices import check_environment, make_accelerator
from zoo.errors import UserError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR"),
        ("ACCELERATE_MIXED_PRECISION", "fp16"),
        ("ACCELERATE_USE_DEEPSPEED", "true"),
        ("ACCELERATE_USE_FSDP", "1"),
    ],
)
def test_a_variable_that_would_change_a_run_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"the environment variable {name}={value} would change the training"):
        make_accelerator("cpu", "fp32", trackers=[], project=Path())


def test_what_accelerate_launch_sets_by_itself_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_DYNAMO_MODE": "default",
        "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "ACCELERATE_CPU_AFFINITY": "False",
        "ACCELERATE_USE_CPU": "True",
    }.items():
        monkeypatch.setenv(name, value)
    check_environment("cpu")
    with pytest.raises(UserError, match="ACCELERATE_USE_CPU"):
        check_environment("cuda")
    accelerator = make_accelerator("cpu", "fp32", trackers=[], project=Path())
    weight = torch.ones((), requires_grad=True)
    accelerator.backward(3 * weight)
    assert weight.grad is not None
    assert weight.grad.item() == 3.0


def test_a_program_may_train_on_one_device_and_then_on_another() -> None:
    """Accelerate keeps the first device of a process: a training that asks for another one gets it."""
    make_accelerator("cpu", "fp32", trackers=[], project=Path())
    PartialState().device = torch.device("cuda", 0)
    try:
        assert make_accelerator("cpu", "fp32", trackers=[], project=Path()).device == torch.device("cpu")
        PartialState().device = torch.device("cuda", 0)
        PartialState().num_processes = 2
        with pytest.raises(UserError, match="the 2 processes of this group have trained on cuda, and cannot go on with cpu"):
            make_accelerator("cpu", "fp32", trackers=[], project=Path())
    finally:
        PartialState._reset_state()
    assert make_accelerator("cpu", "fp32", trackers=[], project=Path()).num_processes == 1


@pytest.mark.cuda
def test_a_gpu_is_taken_after_a_cpu() -> None:
    for device in ("cpu", "cuda", "cpu"):
        assert make_accelerator(device, "fp32", trackers=[], project=Path()).device.type == device
