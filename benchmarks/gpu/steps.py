"""Each method's step on ready views, beside the bare step of the networks; eager and compiled, bf16 and fp32; the whole loop."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from context import Context
from measure import peak_gib, seconds, synchronise, waits
from torch import Tensor

from evaluation.training.kernels import compile_networks, kernels
from evaluation.training.log import read_log
from evaluation.training.optimizers import OptimizerSettings, make_optimizer
from pretrain.fitting.made_up import made_up_tables
from pretrain.loop import train
from pretrain.methods import METHODS, Method, RunFacts
from pretrain.methods.base import Place
from pretrain.methods.multi_level import LevelMode
from pretrain.methods.parts import update_average
from pretrain.recipes import load_recipe
from zoo.backbones import create_backbone


@dataclass(frozen=True)
class Size:
    """A network, its images and batch, and what the published runs have for the methods."""

    backbone: str
    side: int
    batch: int
    images: int
    queue: int
    levels: tuple[int, ...]


AT_32 = Size("resnet18_small", 32, 512, 50_000, 12_288, (594, 396, 198))
# HCSC's published queue and clusters; its network, batch and side.
AT_224 = Size("resnet50", 224, 256, 1_281_167, 16_384, (3000, 2000, 1000))
TINY = Size("resnet10_small", 16, 8, 200, 32, (6, 4, 2))


def settings_of(name: str, size: Size) -> Any:
    momentum = {"queue": size.queue}
    selection: dict[str, Any] = {"levels": list(size.levels), "warmup_epochs": 0}
    values: dict[str, dict[str, Any]] = {
        "moco": momentum,
        "hcsc": momentum | selection,
        "csml": momentum | {"refresh_epochs": 1, "cross_epochs": 1, "level4": LevelMode("global")},
    }
    return METHODS[name].Settings(**values.get(name, {}))


class Step:
    """A method's step, as the loop does it, on views that are ready."""

    def __init__(self, name: str, size: Size, device: torch.device, *, bf16: bool, compiled: bool = False) -> None:
        torch.manual_seed(0)
        facts, settings = RunFacts(size.images, size.batch, 0, 10 * (size.images // size.batch)), settings_of(name, size)
        kind = METHODS[name]
        self.method: Method = kind(lambda: create_backbone(size.backbone, image_size=size.side), settings, facts).to(device).train()
        if bf16:
            self.method.to(memory_format=torch.channels_last)
        self.method.receive(made_up_tables(settings, size.images))
        if compiled:
            compile_networks([self.method.named_encoder(encoder) for encoder in self.method.encoders])
        self.optimizer = make_optimizer(self.method.parameter_groups(), OptimizerSettings(lr=0.03), 0.03)
        draw = torch.Generator().manual_seed(1)
        self.views = [torch.randn(size.batch, 3, size.side, size.side, generator=draw).to(device) for _ in kind.views(settings, size.side)]
        self.index = torch.arange(size.batch, device=device)
        self.device, self.bf16 = device, bf16
        # After the first epochs, in which CsMl has fewer terms.
        self.number = 2 * facts.steps_per_epoch
        self.losses: list[Tensor] = []

    def __call__(self) -> None:
        self.method.start_step(self.number)
        with torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else nullcontext():
            losses = self.method(self.views, self.index, Place(self.number))
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method.finish_step()
        self.losses.append(loss.detach())
        self.number += 1


class BareStep(Step):
    """Query forward and backward, key forward, moving average, optimizer: MoCo without queue, logits and cross-entropy."""

    def __init__(self, size: Size, device: torch.device, *, bf16: bool, compiled: bool = False) -> None:
        super().__init__("moco", size, device, bf16=bf16, compiled=compiled)

    def __call__(self) -> None:
        method: Any = self.method
        update_average(method.encoder_k.parameters(), method.encoder_q.parameters(), method.momentum)
        with torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else nullcontext():
            query = method.encoder_q(self.views[0])
            with torch.no_grad():
                key = method.encoder_k(self.views[1])
        (query * key).sum(1).mean().neg().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def measured(make: Callable[[], Step], context: Context, batch: int, *, tf32: bool = False, deterministic: bool = False) -> dict[str, Any]:
    """Speed, memory, waits and first losses of a step."""
    device = context.device
    with kernels(device, tf32=tf32, deterministic=deterministic):
        step = make()
        started = time.perf_counter()
        step()
        synchronise(device)
        first = time.perf_counter() - started
        memory = peak_gib(step, device)
        taken = seconds(step, device, repeats=3 if context.dry else 15, warm_up=1 if context.dry else 4)
        waited = waits(step, device)
    found = {"ms": 1000 * taken, "images_per_second": batch / taken, "memory_gib": memory, "waits": waited, "first_step_s": first}
    if step.losses:
        found["losses"] = [float(loss) for loss in step.losses[:3]]
    del step
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


MODES: dict[str, dict[str, Any]] = {"bf16": {"bf16": True}, "fp32": {"bf16": False}, "tf32": {"bf16": False, "tf32": True}}


def _compare(context: Context, size: Size, cases: list[tuple[str, str]], *, compiled: bool = False) -> None:
    for name, mode in cases:
        flags = dict(MODES[mode])
        tf32 = flags.pop("tf32", False)

        def make(name: str = name, flags: dict[str, Any] = flags, compiled: bool = compiled) -> Step:
            if name == "bare":
                return BareStep(size, context.device, compiled=compiled, **flags)
            return Step(name, size, context.device, compiled=compiled, **flags)

        context.report(**{f"{name} {mode}{' compiled' if compiled else ''}": measured(make, context, size.batch, tf32=tf32)})


def at_32(context: Context) -> None:
    size = TINY if context.dry else AT_32
    context.report(size=vars(size))
    every = ["bare", *METHODS]
    _compare(context, size, [(name, "bf16") for name in every] + [(name, "fp32") for name in every])


def at_224(context: Context) -> None:
    size = TINY if context.dry else AT_224
    context.report(size=vars(size))
    first = ["bare", "moco", "hcsc", "csml"]
    _compare(context, size, [(name, "bf16") for name in first] + [("bare", "tf32"), ("hcsc", "fp32")])
    _compare(context, size, [(name, "bf16") for name in ("simclr", "byol", "simsiam")])


def compiled_32(context: Context) -> None:
    _both(context, TINY if context.dry else AT_32, ["bare", "moco", "hcsc", "simclr"])


def compiled_224(context: Context) -> None:
    _both(context, TINY if context.dry else AT_224, ["moco", "hcsc"])


def _both(context: Context, size: Size, names: list[str]) -> None:
    """Compiled and eager, in the same process."""
    context.report(size=vars(size))
    # On a CPU compiling takes minutes, even of a tiny network.
    for name in names[:1] if context.dry else names:
        _compare(context, size, [(name, "bf16")])
        if context.dry:
            context.report(compiled="not in a dry walk")
            continue
        _compare(context, size, [(name, "bf16")], compiled=True)


def deterministic(context: Context) -> None:
    """What deterministic kernels cost."""
    for label, size in (("tiny", TINY),) if context.dry else (("32 px", AT_32), ("224 px", AT_224)):
        for name in ("moco", "hcsc"):
            for exact in (False, True):
                found = measured(lambda n=name, s=size: Step(n, s, context.device, bf16=True), context, size.batch, deterministic=exact)
                context.report(**{f"{name} {label}{' deterministic' if exact else ''}": found})


def whole_loop(context: Context) -> None:
    """The loop with views, log and progress, beside the bare step; MoCo v2 on made images of 32 px, held on the device."""
    size = TINY if context.dry else AT_32
    device = "cpu" if context.dry else "cuda"
    steps, pairs = (4, 1) if context.dry else (60, 3)
    with kernels(context.device):
        bare = BareStep(size, context.device, bf16=True)
        bare()
        timed = []
        for _ in range(pairs):
            timed.append((seconds(bare, context.device, repeats=3 if context.dry else 20), _loop_seconds(size, steps, device)))
    context.report(
        size=vars(size),
        bare_images_per_second=size.batch / statistics.median(b for b, _ in timed),
        loop_images_per_second=size.batch / statistics.median(w for _, w in timed),
        loop_over_bare=statistics.median(b / w for b, w in timed),
    )


def _loop_seconds(size: Size, steps: int, device: str) -> float:
    """Of a step of the whole loop, the first ones, in which buffers are made, left out."""
    queue, left_out, epochs = (size.batch, 2, 1) if steps < 10 else (size.queue, 20, 4)
    # Several epochs of few images: drawing them takes a core 0.4 ms each.
    settings = [
        f"data=shapes:train={size.batch * (steps + left_out) // epochs},test=10", f"backbone={size.backbone}", f"batch={size.batch}",
        f"epochs={epochs}",
        f"views.size={size.side}", "bn_splits=1", f"method.queue={queue}", "knn.every_epochs=0", f"device={device}", "precision=bf16",
        "optimizer.lr=0.03", "trackers=[]", "checkpoint.every_epochs=9", "log_every=10",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        train(load_recipe("moco_shapes", settings), Path(folder) / "run")
        return statistics.mean(row["seconds"] for row in read_log(Path(folder) / "run" / "log.jsonl")[left_out:-1])
