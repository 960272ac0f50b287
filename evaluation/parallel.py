"""Which process this is, of how many, on which device; and how processes share rows and put them together again, exactly.

A share is a run of whole chunks of one partition that does not depend on the number of processes, so that every chunk is computed
in the same shape, and with the same bits, whoever computes it. Nothing is padded: a process whose share is empty waits for the others.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

from zoo.errors import UserError
from zoo.words.runtime import check_device_word

T = TypeVar("T")

# Rows travel between processes in pieces of at most this many bytes, which bounds the memory that NCCL needs on the device.
_BROADCAST_BYTES = 64 << 20


@dataclass(frozen=True)
class Processes:
    """A group of processes that do the same work on different rows.

    Attributes
    ----------
    rank
        This process's number, 0 .. count - 1. The main process, rank 0, is the one that speaks and writes.
    count
        How many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Processes:
        """The process group of ``torch.distributed`` where there is one, else this process alone."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return ALONE

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, total: int, chunk: int, rank: int | None = None) -> slice:
        """The rows, of ``total``, that process ``rank`` (by default this one) computes: whole chunks, but for the last of all.

        The shares of all processes, in order of rank, are 0 .. total without gap or overlap; some are empty where chunks are few.
        """
        rank = self.rank if rank is None else rank
        chunks = -(-total // chunk)
        first, last = chunks * rank // self.count, chunks * (rank + 1) // self.count
        return slice(min(first * chunk, total), min(last * chunk, total))

    def gather_rows(self, rows: Tensor, chunk: int) -> None:
        """Fill ``rows`` (a CPU tensor, the same shape in each process) in place, each process supplying its share of them."""
        if self.count == 1:
            return
        device = _reachable(rows.device)
        step = max(1, _BROADCAST_BYTES // max(1, rows[:1].nbytes))
        for source in range(self.count):
            share = self.share(len(rows), chunk, source)
            for start in range(share.start, share.stop, step):
                piece = rows[start : min(start + step, share.stop)]
                travelling = piece.to(device)
                distributed.broadcast(travelling, source)
                piece.copy_(travelling)

    def from_process(self, values: Tensor, source: int) -> Tensor:
        """The tensor of process ``source``, in each process, on the device of ``values``; the others' gives shape and type alone."""
        if self.count == 1:
            return values
        device = _reachable(values.device)
        mine = self.rank == source
        travelling = values.to(device).contiguous() if mine else torch.empty(values.shape, dtype=values.dtype, device=device)
        distributed.broadcast(travelling, source)
        return travelling.to(values.device)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's ``values`` (the same shape in each), in each process, on the device of ``values``."""
        if self.count == 1:
            return values
        travelling = values.to(_reachable(values.device), memory_format=torch.contiguous_format, copy=True)
        distributed.all_reduce(travelling)
        return travelling.to(values.device)

    def gather_objects(self, value: T) -> list[T]:
        """Every process's ``value`` (anything that pickles), in order of rank, in every process."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        distributed.all_gather_object(values, value)
        return values

    def raise_first(self, error: UserError | None) -> None:
        """Raise, in every process, the error of the lowest rank that has one; else return.

        A mistake that one process finds in its share must stop them all: the others would wait for its rows for ever.
        """
        message = next((text for text in self.gather_objects(None if error is None else str(error)) if text is not None), None)
        if message is not None:
            raise UserError(message) from error

    def from_main(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in the main process, which alone calls it, in every process; so is a UserError that it raises."""
        made: T | None = None
        error: UserError | None = None
        if self.is_main:
            try:
                made = make()
            except UserError as caught:
                error = caught
        self.raise_first(error)
        of_main: T = self.gather_objects(made)[0]  # type: ignore[assignment]
        return of_main


ALONE = Processes()


def _reachable(device: torch.device) -> torch.device:
    """Where the backend can reach what is on ``device``: NCCL moves device memory only."""
    return torch.device("cuda") if distributed.get_backend() == "nccl" and device.type != "cuda" else device


def start_processes(device: torch.device) -> Processes:
    """Join the processes that ``torchrun`` or ``accelerate launch`` started (NCCL on GPUs, gloo on CPUs); alone, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        from accelerate import PartialState

        join_restarted(device)
        PartialState(cpu=device.type == "cpu")
    return Processes.current()


def join_restarted(device: torch.device) -> None:
    """Join the processes that ``torchrun --max-restarts`` started again; do nothing where it is the first time, or on several nodes.

    torchrun (torch 2.14) keeps one store for all its attempts. Processes of the second one would find the addresses of the first there, and
    wait for processes that are gone. Here each attempt has names of its own. On several nodes the numbers of attempts may differ, and
    torchrun must be told to make a new store (``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1``, docs/pretraining.md).
    """
    environment = os.environ
    attempt = int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if not attempt or environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or environment.get("GROUP_WORLD_SIZE") != "1":
        return
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    if world == 1 or distributed.is_initialized():
        return
    store = TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), world, is_master=False)
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(int(environment.get("LOCAL_RANK", "0")))
        backend = "nccl"
    distributed.init_process_group(backend, store=PrefixStore(f"attempt {attempt}", store), rank=rank, world_size=world)


def stop_processes() -> None:
    """Leave the group that :func:`start_processes`, or a training, joined, and end its threads; without one, do nothing.

    torch ends them with the last reference to the group. A network that was wrapped to be trained together has one and refers to itself:
    without the collection here they would run on into the interpreter's end, where a thread that is destroyed while it runs aborts the
    process.
    """
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()
        distributed.destroy_process_group()


def choose_device(name: str) -> torch.device:
    """The device called ``name``: ``auto`` is a GPU where there is one; under ``torchrun`` each process takes the GPU of its local rank.

    Raises UserError where the device is not to be had.
    """
    check_device_word(name)
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if not available:
        raise UserError("this torch sees no GPU (torch.cuda.is_available() is false); use --device cpu, or auto")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"process {local_rank} of this machine has no GPU of its own, for there are {count}; start fewer processes")
    return torch.device("cuda", local_rank)
