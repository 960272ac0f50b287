"""The methods, by the name that a recipe gives them."""

from __future__ import annotations

from pretrain.methods.base import Method, RunFacts
from pretrain.methods.moco import MoCo
from pretrain.methods.simclr import SimCLR

METHODS: dict[str, type[Method]] = {"moco": MoCo, "simclr": SimCLR}

__all__ = ["METHODS", "Method", "MoCo", "RunFacts", "SimCLR"]
