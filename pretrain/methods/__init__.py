"""The methods, by the name that a recipe gives them."""

from __future__ import annotations

from evaluation.training.optimizers import ParameterGroup
from pretrain.methods.base import Method, Place, RunFacts
from pretrain.methods.byol import BYOL
from pretrain.methods.csml import CsMl
from pretrain.methods.hcsc import HCSC
from pretrain.methods.moco import MoCo
from pretrain.methods.simclr import SimCLR
from pretrain.methods.simsiam import SimSiam

METHODS: dict[str, type[Method]] = {"byol": BYOL, "csml": CsMl, "hcsc": HCSC, "moco": MoCo, "simclr": SimCLR, "simsiam": SimSiam}

__all__ = ["BYOL", "HCSC", "METHODS", "CsMl", "Method", "MoCo", "ParameterGroup", "Place", "RunFacts", "SimCLR", "SimSiam"]
