"""torch's own generators, seeded at an address: initial weights, and what draws during a step (dropout, stochastic depth)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from zoo.randomness import generator


@contextlib.contextmanager
def seeded(seed: int, purpose: str = "initial weights") -> Iterator[None]:
    """What is drawn in the block has its own key, the same on all processes; the caller's generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, purpose).integers(2**63)))
        yield


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators for one step of one process, so that none of their states need saving."""
    torch.manual_seed(int(generator(seed, "torch", step, rank).integers(2**63)))
