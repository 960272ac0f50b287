"""What a device computes with: precision, memory layout, torch's switches for GPUs, compiled and recomputed networks, peak memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.errors import UserError

AUTO = "auto"
# cuBLAS sums in a fixed order only with a workspace of its own; it reads this when it first starts.
_CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def training_device(asked: str) -> torch.device:
    """The kind of device that ``device=asked`` means here: a CUDA (or ROCm) GPU where there is one, else the CPU; ``cpu``; ``cuda``."""
    return torch.device("cuda" if asked == "cuda" or (asked == AUTO and torch.cuda.is_available()) else "cpu")


def resolve_precision(asked: str, device: torch.device) -> Literal["fp32", "bf16"]:
    """``auto``: bf16 on GPUs that compute in it, fp32 elsewhere; anything else as it is."""
    if asked == AUTO:
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if asked == "bf16" else "fp32"


def resolve_channels_last(asked: bool | str, device: torch.device) -> bool:
    """``auto``: yes on GPUs, no elsewhere. Raises UserError for a word that is none of true, false and auto."""
    if isinstance(asked, bool):
        return asked
    if asked != AUTO:
        raise UserError(f"channels_last is true, false or auto, not '{asked}'")
    return device.type == "cuda"


@contextmanager
def kernels(device: torch.device, *, deterministic: bool = False, tf32: bool = False) -> Iterator[None]:
    """torch's switches for a GPU in the block; afterwards they are as they were. On a CPU nothing is changed.

    Parameters
    ----------
    deterministic
        Only operations that give the same bits each time; an operation that has no such form is an error of torch's. Off: cuDNN tries
        several algorithms for each new shape and keeps the fastest.
    tf32
        Products and convolutions of float32 in TensorFloat-32 (10 bits of mantissa). Off: in float32, convolutions too.
    """
    if device.type != "cuda":
        yield
        return
    if deterministic:
        os.environ.setdefault(*_CUBLAS_WORKSPACE)
    cudnn: Any = torch.backends.cudnn
    before = (cudnn.benchmark, cudnn.deterministic)
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with _float32_in(tf32):
        cudnn.benchmark, cudnn.deterministic = not deterministic, deterministic
        if deterministic:
            torch.use_deterministic_algorithms(True)
            # Nothing here reads memory that it has not written; filling each new tensor would cost a pass over it.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = before
            torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
            torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


@contextmanager
def _float32_in(tf32: bool) -> Iterator[None]:
    backends: Any = torch.backends
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        places, attribute, value = (backends.cuda.matmul, backends.cudnn.conv), "fp32_precision", "tf32" if tf32 else "ieee"
    else:  # torch < 2.9
        places, attribute, value = (backends.cuda.matmul, backends.cudnn), "allow_tf32", tf32  # type: ignore[assignment]
    before = [getattr(place, attribute) for place in places]
    for place in places:
        setattr(place, attribute, value)
    try:
        yield
    finally:
        for place, was in zip(places, before, strict=True):
            setattr(place, attribute, was)


def compile_networks(networks: list[nn.Module]) -> None:
    """torch.compile of ``networks``, in place: names, weights and classes stay; a call of one runs the compiled code.

    One code for each shape, so that no code depends on which shapes came before: a resumed training runs the same as one that ran through.

    Raises
    ------
    UserError
        There is no compiler that torch.compile needs.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++")):
        raise UserError("compile=true needs a C++ compiler (such as g++), which is not installed here; install one, or use compile=false")
    for network in networks:
        network.compile(dynamic=False)


def recompute_activations(network: nn.Module, name: str) -> None:
    """Keep a vision transformer's activations only between blocks; backward computes the rest again (Chen et al., arXiv 1604.06174).

    Raises UserError for a network with batch norm, whose running statistics would be updated twice, and for one that has no such mode.
    """
    switch = getattr(network, "set_grad_checkpointing", None)
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise UserError(
            f"activation_checkpointing=true is for vision transformers: '{name}' has batch norm, whose running statistics would be updated "
            "twice a step; use activation_checkpointing=false and a smaller micro_batch"
        )
    try:
        assert callable(switch)
        switch(True)
    except AssertionError as error:
        raise UserError(f"'{name}' cannot recompute its activations; use activation_checkpointing=false") from error


def peak_memory(device: torch.device) -> int | None:
    """Bytes of tensors that the device held at most in this process; None where the device is the CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
