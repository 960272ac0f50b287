"""Two processes on this machine's CPU, as `torchrun --nproc_per_node 2` starts them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch

from evaluation.parallel import stop_processes

Work = Callable[[int, Path], None]


def in_two_processes(work: Work, folder: Path) -> None:
    """Run ``work(rank, folder)``, a module's own function, in two new processes; what one of them raises is raised here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_start, (port, work, folder), nprocs=2)


def _start(rank: int, port: int, work: Work, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    work(rank, folder)
    stop_processes()
