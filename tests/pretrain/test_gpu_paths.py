"""Steps, views and surveys as on a GPU, where there is none: nothing is left on the host, and nobody waits for the device."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from method_cases import BATCH, CASES, DIM, IMAGES, SIDE, STEP, make_method, tables, views_of
from pretend_gpu import WAITING, OnGpu, from_gpu, network_to_gpu, pretend_gpu, to_gpu
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from evaluation.training.optimizers import OptimizerName, OptimizerSettings, make_optimizer
from evaluation.views import ViewSettings, ViewSource
from evaluation.views.tables import BOXES, NEIGHBOURS
from pretrain.methods import METHODS, Method
from pretrain.methods.base import Place
from pretrain.methods.selection import Prototypes
from pretrain.methods.selective import Selection
from pretrain.settings import BoxSettings
from pretrain.survey import BoxMaker, NeighbourMaker, PrototypeMaker, Survey
from zoo.data.base import ArrayImages

aten: Any = torch.ops.aten


@pytest.fixture(autouse=True)
def _draws_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch makes no generator for a device that it does not find."""
    drawn = Selection.draws
    monkeypatch.setattr(Selection, "draws", lambda self, place, device: drawn(self, place, torch.device("cpu")))


def moved(method: Method, put: Any) -> Method:
    """``method`` with every tensor, those of its prototypes too, replaced by ``put(tensor)``."""
    for module in method.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(put(parameter.detach()), requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = put(buffer)
    selection = getattr(method, "selection", None)
    if isinstance(selection, Selection) and selection.prototypes is not None:
        old = selection.prototypes
        selection.prototypes = replace(old, **{field.name: tuple(map(put, getattr(old, field.name))) for field in fields(Prototypes)})
    return method


class CountWaits(TorchDispatchMode):
    """Counts, on ordinary tensors, operations whose result the host would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.done = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.done += 1
        masked = func in (aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default) and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        )
        if func in WAITING or masked:
            self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


def test_the_counter_counts() -> None:
    numbers = torch.arange(4.0)
    with CountWaits() as waits:
        numbers.sum().item()
        numbers.nonzero()
        numbers[numbers > 1]
        bool(numbers.any())
        numbers.sum()
    assert waits.found == {"aten._local_scalar_dense.default": 2, "aten.nonzero.default": 1, "aten.index.Tensor": 1}


@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_nothing(case: str) -> None:
    """Start, forward, losses, backward, optimizer, queue: with gradients, on the CPU."""
    method = make_method(case)
    optimizer = make_optimizer(method.parameter_groups(), OptimizerSettings(lr=0.1), 0.1)
    views, index = views_of(method, case), torch.arange(BATCH)
    with CountWaits() as waits:
        for step in (STEP, STEP + 1):
            method.start_step(step)
            torch.stack(list(method(views, index, Place(step)).values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            method.finish_step()
    assert waits.done > 100
    assert waits.found == {}


@pytest.mark.parametrize("case", CASES)
def test_a_step_on_a_gpu_leaves_nothing_on_the_host(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fake tensors on a CUDA device: forward and losses with a graph, and the fused optimizer with made-up gradients."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda self, *args: self)
    method = make_method(case)
    views, index = views_of(method, case), torch.arange(BATCH)
    mode = FakeTensorMode()
    moved(method, mode.from_tensor)
    views, index = [mode.from_tensor(view) for view in views], mode.from_tensor(index)
    with mode:
        moved(method, lambda tensor: tensor.to("cuda"))
        method.start_step(STEP)
        losses = method([view.to("cuda") for view in views], index.to("cuda"), Place(STEP))
        loss = torch.stack(list(losses.values())).sum()
        assert loss.device.type == "cuda"
        assert loss.requires_grad
        # Of AdamW's fused step torch knows what it does to shapes; of SGD's it does not.
        optimizer = make_optimizer(method.parameter_groups(), OptimizerSettings(name=OptimizerName.adamw, lr=0.1), 0.1)
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        assert {group["fused"] for group in optimizer.param_groups} == {True}
        optimizer.step()
        method.finish_step()
        assert {tensor.device.type for tensor in method.state_dict().values()} == {"cuda"}


@pytest.mark.parametrize("case", CASES)
def test_a_step_on_a_gpu_copies_nothing_back(case: str) -> None:
    """Forward, losses, averages and queue with numbers, on tensors that say they are on a GPU: the CPU's losses, and no wait."""
    wanted = {name: float(value) for name, value in _losses(make_method(case), case, lambda tensor: tensor).items()}
    method = make_method(case)
    with pretend_gpu() as gpu:
        moved(method, to_gpu)
        found = _losses(method, case, to_gpu)
        assert gpu.waits == {}
    assert {name: float(from_gpu(value)) for name, value in found.items()} == pytest.approx(wanted, rel=1e-5)


def _losses(method: Method, case: str, put: Any) -> dict[str, Tensor]:
    with torch.no_grad():
        views, index = [put(view) for view in views_of(method, case)], put(torch.arange(BATCH))
        method.start_step(STEP)
        losses = method(views, index, Place(STEP))
        method.finish_step()
    return losses


def test_a_tensor_left_on_the_host_is_found() -> None:
    method = make_method("moco")
    with pretend_gpu():
        moved(method, to_gpu)
        method.queue.keys = from_gpu(method.queue.keys)
        with pytest.raises(AssertionError, match=r"left on the host, at pretrain/methods/parts.py: info_nce"):
            _losses(method, "moco", to_gpu)


def images(count: int = IMAGES) -> ArrayImages:
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    return ArrayImages("made up", "train", pixels, {})


@pytest.mark.parametrize("crop", ["random_resized_crop", "contrastive_crop"])
def test_views_on_a_gpu_are_the_cpus_and_nobody_waits(crop: str) -> None:
    settings = ViewSettings(size=24, crop=crop, blur=0.5, solarize=0.3, channel_permutation=0.2, vertical_flip=0.5)
    specs = METHODS["csml"].views(METHODS["csml"].Settings(local_views=True), 24)
    boxes = np.tile(np.array([0.1, 0.2, 0.7, 0.9], dtype=np.float32), (IMAGES, 1))
    followed = {NEIGHBOURS: tables()[NEIGHBOURS]} | ({BOXES: boxes} if crop == "contrastive_crop" else {})

    def batch(device: str) -> list[Tensor]:
        source = ViewSource(images(), specs, settings, mean=(0.5,) * 3, std=(0.2,) * 3, seed=3, batch=BATCH, device=device)
        return next(source.batches(1, 2, followed)).views

    plain = batch("cpu")
    with pretend_gpu() as gpu:
        source = ViewSource(images(), specs, settings, mean=(0.5,) * 3, std=(0.2,) * 3, seed=3, batch=BATCH, device="cuda")
        made = source.batches(1, 2, followed)
        # What is made once for all batches may wait.
        next(made)
        source = ViewSource(images(), specs, settings, mean=(0.5,) * 3, std=(0.2,) * 3, seed=3, batch=BATCH, device="cuda")
        gpu.waits.clear()
        there = next(source.batches(1, 2, followed)).views
        assert gpu.waits == {}
    for one, other in zip(plain, there, strict=True):
        torch.testing.assert_close(one, from_gpu(other), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("which", ["boxes", "neighbours", "prototypes"])
def test_a_survey_on_a_gpu_is_the_cpus_and_waits_as_often_as_stated(which: str) -> None:
    count = 3 * 256 + 40

    def makers(device: str, empty: Tensor) -> list[Any]:
        if which == "boxes":
            return [BoxMaker(BoxSettings(warmup_epochs=0, every_epochs=1, quantile=0.5), SIDE, native=SIDE)]
        if which == "neighbours":
            return [NeighbourMaker(5, 1, device=torch.device(device), labels={})]
        return [PrototypeMaker([12, 4], 0, temperature=0.2, seed=0, empty=empty, labels={})]

    def survey(device: str, encoder: Any, empty: Tensor) -> dict[str, Any]:
        looked = Survey(
            images(count), makers(device, empty), size=SIDE, native=SIDE, mean=(0.5,) * 3, std=(0.2,) * 3, device=torch.device(device)
        )
        return looked(1, lambda name: encoder).tables

    plain = survey("cpu", make_method("moco").named_encoder("key"), torch.empty(0, DIM))
    encoder = make_method("moco").named_encoder("key")
    with pretend_gpu() as gpu:
        network_to_gpu(encoder)
        there = survey("cuda", encoder, to_gpu(torch.empty(0, DIM)))
    assert plain.keys() == there.keys()
    for name, table in plain.items():
        if name == NEIGHBOURS:  # nearly equal ones change places with the rounding of norms
            assert np.mean([len(np.intersect1d(*rows)) for rows in zip(there[name], table, strict=True)]) > 4.95
        else:
            np.testing.assert_allclose(there[name], table, atol=2e-5)
    # Mean and deviation travel once in a process.
    waits = sum(count for (place, _), count in gpu.waits.items() if not place.endswith("_per_channel"))
    batches = -(-count // 256)
    assert waits == {"boxes": 1, "neighbours": batches + 5, "prototypes": 29}[which], gpu.waits


def test_a_tensor_on_the_pretended_device_is_one() -> None:
    with pretend_gpu():
        made = torch.ones(2, device="cuda") * torch.tensor(2.0)
        assert isinstance(made, OnGpu)
        assert made.is_cuda
    assert from_gpu(made).tolist() == [2.0, 2.0]
