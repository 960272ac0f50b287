"""What a device computes with: choices by the device, torch's switches, recomputed activations, the optimizer of a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from accelerate import Accelerator
from torch import nn

from evaluation.training.kernels import (
    compile_networks,
    kernels,
    peak_memory,
    recompute_activations,
    resolve_channels_last,
    resolve_precision,
    training_device,
)
from evaluation.training.log import Log, read_log
from evaluation.training.losses import LossRecorder
from evaluation.training.optimizers import OptimizerName, OptimizerSettings, ParameterGroup, make_optimizer
from evaluation.training.progress import TrainingProgress
from zoo.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_auto_is_full_precision_and_the_plain_layout_on_a_cpu() -> None:
    assert resolve_precision("auto", CPU) == "fp32"
    assert resolve_channels_last("auto", CPU) is False
    assert resolve_channels_last("auto", GPU) is True
    # What was asked for is kept wherever the training runs.
    assert [resolve_precision(word, device) for word in ("fp32", "bf16") for device in (CPU, GPU)] == ["fp32", "fp32", "bf16", "bf16"]
    assert [resolve_channels_last(value, device) for value in (False, True) for device in (CPU, GPU)] == [False, False, True, True]
    assert training_device("cpu") == CPU
    assert training_device("cuda") == GPU
    assert training_device("auto") == (GPU if torch.cuda.is_available() else CPU)
    with pytest.raises(UserError, match="channels_last is true, false or auto, not 'yes'"):
        resolve_channels_last("yes", CPU)


def _switches() -> list[object]:
    matmul = torch.backends.cuda.matmul
    precision = matmul.fp32_precision if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
    return [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled(), precision]


def test_switches_are_set_for_a_gpu_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = _switches()
    with kernels(CPU, deterministic=True, tf32=True):
        assert _switches() == before
    with kernels(GPU):
        assert _switches()[:3] == [True, False, False]
        exact = _switches()[3]
    with kernels(GPU, deterministic=True, tf32=True):
        assert _switches()[:3] == [False, True, True]
        assert _switches()[3] != exact
    assert _switches() == before


def test_recomputed_activations_give_the_same_gradients_and_hold_less() -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, depth=6, embed_dim=48)
    images = torch.randn(4, 3, 32, 32)

    def gradients() -> tuple[list[torch.Tensor], int]:
        held: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        network.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = network(images).square().sum()
        kept = sum(held.values())
        loss.backward()
        return [parameter.grad.clone() for parameter in network.parameters()], kept

    plain, much = gradients()
    recompute_activations(network, "vit")
    again, little = gradients()
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert little < much / 2


def test_recomputing_is_refused_where_it_would_change_numbers_or_cannot_be() -> None:
    with pytest.raises(UserError, match="'resnet18' has batch norm, whose running statistics would be updated twice"):
        recompute_activations(timm.create_model("resnet18", num_classes=0), "resnet18")
    with pytest.raises(UserError, match="'line' cannot recompute its activations"):
        recompute_activations(nn.Linear(2, 2), "line")


def test_compiling_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"compile=true needs a C\+\+ compiler"):
        compile_networks([nn.Linear(2, 2)])


def test_the_log_holds_the_peak_memory_of_a_device(tmp_path: Path) -> None:
    assert peak_memory(CPU) is None
    held = iter([None, 3 << 20, 5 << 20])
    progress = TrainingProgress(6, done=0, images_per_step=1, shown=False)
    with Log(tmp_path / "log.jsonl") as log:
        recorder = LossRecorder(
            Accelerator(cpu=True), progress, log, epochs=1, interval=2, last_good=lambda: "", memory=lambda device: next(held)
        )
        for step in range(6):
            recorder.add({"step": step, "epoch": 0, "lr": 0.1}, {"loss": torch.tensor(1.0)})
            if step % 2:
                recorder.flush()
    assert [row.get("device_memory") for row in read_log(tmp_path / "log.jsonl")] == [None, None, None, 3 << 20, None, 5 << 20]
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["loss"] == 1.0


@pytest.mark.parametrize("name", [OptimizerName.sgd, OptimizerName.adamw])
def test_the_cpu_keeps_torchs_own_choice_of_optimizer(name: OptimizerName) -> None:
    optimizer = make_optimizer([ParameterGroup([nn.Parameter(torch.zeros(3))])], OptimizerSettings(name=name, lr=0.1), 0.1)
    assert optimizer.param_groups[0]["fused"] is None


@pytest.mark.cuda
@pytest.mark.parametrize("name", [OptimizerName.sgd, OptimizerName.adamw])
def test_the_fused_optimizer_of_a_gpu_takes_the_cpus_steps(name: OptimizerName) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(1000), torch.randn(5, 1000)
    found = []
    for device in ("cpu", "cuda"):
        weight = nn.Parameter(start.to(device, copy=True))
        optimizer = make_optimizer([ParameterGroup([weight])], OptimizerSettings(name=name, lr=0.1, weight_decay=0.01), 0.1)
        assert optimizer.param_groups[0]["fused"] is (True if device == "cuda" else None)
        for gradient in gradients:
            weight.grad = gradient.to(device)
            optimizer.step()
        found.append(weight.detach().cpu())
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


@pytest.mark.cuda
def test_full_float32_and_tf32_are_what_they_are_called() -> None:
    torch.manual_seed(0)
    rows, kernel = torch.randn(256, 512), torch.randn(512, 256)
    exact = (rows.double() @ kernel.double()).float()

    def error(tf32: bool) -> float:
        with kernels(GPU, tf32=tf32):
            return float(((rows.cuda() @ kernel.cuda()).cpu() - exact).abs().max())

    assert error(False) < 1e-4 < error(True)
