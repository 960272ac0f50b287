"""A GPU that is not there: tensors that say they are on ``cuda:0`` and compute on the CPU.

Code under test takes the paths that it has for a GPU. A tensor that was left on the host is an error, as on a real one, and each time
that the host would wait for the device is counted. Gradients are not supported: torch's engine asks a real device for its streams.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

aten: Any = torch.ops.aten
# Their result's shape, or the result itself, is known only when the device has done its work.
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.bincount.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
}
_COPIES = {aten._to_copy.default, aten.copy_.default}
_ON_HOST = {aten._local_scalar_dense.default, aten.equal.default}
_ROOT = Path(__file__).parents[1]


class OnGpu(Tensor):
    """A tensor on ``cuda:0``; ``there`` is what it holds."""

    there: Tensor

    @staticmethod
    def __new__(cls, there: Tensor) -> OnGpu:
        made: OnGpu = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            there.shape,
            strides=there.stride(),
            storage_offset=there.storage_offset(),
            dtype=there.dtype,
            device="cuda:0",
        )
        made.there = there
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the block in which there is a GPU")


class PretendGpu(TorchDispatchMode):
    """Runs every operation on the CPU, and keeps the books.

    Attributes
    ----------
    waits
        How often the host waited, by the line of this project that asked and the operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        # In inference mode operations arrive as they were called, not as those that they consist of.
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                return func.decompose(*args, **kwargs)
        values = tree_flatten((args, kwargs))[0]
        there = [value for value in values if isinstance(value, OnGpu)]
        here = [value for value in values if isinstance(value, Tensor) and not isinstance(value, OnGpu)]
        asked = kwargs.get("device")
        result_there = bool(there) if asked is None else torch.device(asked).type == "cuda"
        self._check(func, args, kwargs, there, here, result_there)
        result = func(*tree_map(_on_host, args), **tree_map(_on_host, kwargs))
        if func in _ON_HOST or not result_there:
            return result
        # What an operation writes into is what it returns.
        own = {id(value.there): value for value in there}

        def back(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return own[id(value)] if id(value) in own else OnGpu(value)

        if func is aten.copy_.default:
            return args[0]
        return tree_map(back, result)

    def _check(self, func: Any, args: Any, kwargs: Any, there: list[Any], here: list[Any], result_there: bool) -> None:
        if func in _COPIES:
            destination = isinstance(args[0], OnGpu) if func is aten.copy_.default else result_there
            source = isinstance(args[1] if func is aten.copy_.default else args[0], OnGpu)
            blocking = not kwargs.get("non_blocking", len(args) > 2 and args[2])
            # What the device holds the host gets only after the work that makes it; what the host gives is waited for unless told not to.
            if source != destination and (source or blocking):
                self._note(f"{func} to the {'device' if destination else 'host'}")
            return
        if not there:
            return
        if func in WAITING:
            self._note(str(func))
        if func in (aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default, aten.index_put.default):
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices) or any(not isinstance(i, OnGpu) for i in indices):
                self._note(f"{func} by a mask, or by positions on the host")
            here = [value for value in here if all(value is not index for index in indices)]
            if not isinstance(args[0], OnGpu):
                raise AssertionError(f"{func}: a tensor on the host is indexed by one on the device\n{_place()}")
        # A number may be on the host: it is handed to the kernel.
        left = [value for value in here if value.dim() > 0]
        if left:
            raise AssertionError(f"{func}: a tensor {tuple(left[0].shape)} was left on the host, at {_place()}")

    def _note(self, what: str) -> None:
        self.waits[_place(), what] += 1


def _on_host(value: Any) -> Any:
    if isinstance(value, OnGpu):
        return value.there
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == "cuda" else value


def _place() -> str:
    """The innermost line of this project, tests aside."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in ("zoo", "evaluation", "pretrain", "transfer"):
            return f"{path.relative_to(_ROOT).as_posix()}: {frame.name}"
    return "a test"


def to_gpu(tensor: Tensor) -> Tensor:
    """``tensor`` as it would be on the device."""
    return OnGpu(tensor.detach().clone())


def network_to_gpu(network: nn.Module) -> nn.Module:
    """``network`` with its parameters and buffers on the device, in place, without gradients."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(to_gpu(parameter), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = to_gpu(buffer)
    return network


def from_gpu(tensor: Tensor) -> Tensor:
    """What a tensor on the device holds, with nobody waiting for it."""
    assert isinstance(tensor, OnGpu), "the tensor is on the host"
    return tensor.there


@contextmanager
def pretend_gpu() -> Iterator[PretendGpu]:
    """In the block there is a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        # torch would look for a driver as soon as it reads "cuda".
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        # The CPU has no kernels of cuDNN's.
        patch.setattr(torch.backends.cudnn, "enabled", False)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1 << 40, 1 << 40))
        patch.setattr(Tensor, "pin_memory", lambda self, *args: self)
        as_list = Tensor.tolist
        # torch does not hand this one on.
        patch.setattr(Tensor, "tolist", lambda self: as_list(self.cpu()))
        torch._C._ensureCUDADeviceGuardSet()
        lifting = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        try:
            with PretendGpu() as gpu, torch.no_grad():
                yield gpu
        finally:
            torch._C._set_only_lift_cpu_tensors(lifting)
