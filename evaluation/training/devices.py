"""Which devices a training runs on: accelerate's set-up, said in words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin, ProjectConfiguration

from evaluation.parallel import join_restarted
from evaluation.training.kernels import training_device
from zoo.errors import UserError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16"]


# Variables of accelerate that change no number, and values of the others that ask for nothing (`accelerate launch` sets these).
_HARMLESS = (
    "ACCELERATE_LOG_LEVEL",
    "ACCELERATE_DEBUG_MODE",
    "ACCELERATE_DISABLE_RICH",
    "ACCELERATE_ENABLE_RICH",
    "ACCELERATE_CPU_AFFINITY",
)
_NOTHING = ("", "no", "false", "0", "none", "default")
_NOTHING_OF = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1",), "ACCELERATE_MIXED_PRECISION": ("fp32",)}


def check_environment(device: str) -> None:
    """Raise UserError, by name, for an environment variable of accelerate by which a run would be another than its recipe says."""
    for name, value in sorted(os.environ.items()):
        if not name.startswith("ACCELERATE_") or name in _HARMLESS:
            continue
        if value.lower() in (*_NOTHING, *_NOTHING_OF.get(name, ())) or (name == "ACCELERATE_USE_CPU" and device == "cpu"):
            continue
        raise UserError(
            f"the environment variable {name}={value} would change the training behind its recipe; unset it (and leave the flag of "
            "`accelerate launch` out that sets it), and say in the recipe what is meant"
        )


def make_accelerator(device: Device, precision: Precision, *, trackers: list[str], project: Path) -> Accelerator:
    """accelerate's device, process group and mixed precision for a training.

    Parameters
    ----------
    device
        ``auto``: a CUDA (or ROCm) GPU where there is one, else the CPU; accelerate by itself would take other devices too.
    precision
        ``bf16``: autocast of forward passes to bfloat16; weights, losses and optimizer state stay float32.
    trackers
        Names that accelerate knows (``tensorboard``, ``wandb``).
    project
        Folder that trackers write below.

    Raises
    ------
    UserError
        ``cuda`` without a GPU; a tracker that is not installed; an environment variable that would have accelerate train otherwise.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda was asked for, but torch finds no CUDA GPU here; use device=auto or device=cpu")
    wanted = training_device(device).type
    check_environment(wanted)
    # accelerate keeps the first precision and device of a process for good; a program may train more than once, with another one.
    AcceleratorState._reset_state(reset_partial_state=_is_on_another(wanted))
    join_restarted(training_device(device))
    try:
        return Accelerator(
            cpu=wanted == "cpu",
            mixed_precision="bf16" if precision == "bf16" else "no",
            log_with=list(trackers) or None,
            project_config=ProjectConfiguration(project_dir=str(project), logging_dir=str(project)),
            # Buffers are batch statistics and queues: the queues are equal on all ranks by construction, and the statistics are
            # only used in eval mode, before which `synchronise_buffers` makes them rank 0's.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
            # Said here, so that nothing is left to its environment variables.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            step_scheduler_with_optimizer=False,
        )
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot start with precision={precision} and trackers={','.join(trackers)}: {error}") from error


def _is_on_another(wanted: str) -> bool:
    """Whether this process trained on another type of device before. Raises UserError where that binds it to a group of processes."""
    if not PartialState._shared_state:
        return False
    state = PartialState()
    if state.device.type == wanted:
        return False
    if state.num_processes > 1:
        raise UserError(
            f"the {state.num_processes} processes of this group have trained on {state.device.type}, and cannot go on with {wanted}; "
            "start them anew for that"
        )
    return True


def describe(accelerator: Accelerator) -> str:
    """One line for the user, e.g. ``"2 processes on cpu (gloo), 1 thread each, fp32"``."""
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    precision = "fp32" if accelerator.mixed_precision == "no" else accelerator.mixed_precision
    processes = accelerator.num_processes
    threads = torch.get_num_threads()
    parts = [name if processes == 1 else f"{processes} processes on {name} ({torch.distributed.get_backend()})"]
    if device.type == "cpu":
        parts.append(f"{threads} thread{'s' if threads > 1 else ''}{' each' if processes > 1 else ''} of {os.cpu_count()} cores")
    return ", ".join([*parts, precision])


@torch.no_grad()
def synchronise_buffers(module: torch.nn.Module) -> None:
    """Give every rank rank 0's buffers (batch-norm statistics), before a pass in eval mode."""
    if torch.distributed.is_initialized():
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many CPU threads in the block; None: as many as there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shares(batch: int, micro_batch: int | None, accelerator: Accelerator) -> tuple[int, int]:
    """Images per process and step, and in how many forward passes. Raises UserError where the numbers do not divide."""
    processes = accelerator.num_processes
    if batch % processes:
        fitting = batch // processes * processes
        raise UserError(f"batch={batch} cannot be shared equally by {processes} processes; use for example batch={fitting}")
    share = batch // processes
    part = micro_batch or share
    if part < 1 or share % part:
        raise UserError(f"micro_batch={part} does not divide the {share} images of a process (batch={batch} over {processes})")
    return share, share // part
