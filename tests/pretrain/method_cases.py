"""Every method, small, with all that a step of it can do turned on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.clustering import hierarchical_kmeans
from evaluation.views.tables import NEIGHBOURS
from pretrain.methods import METHODS, Method, RunFacts
from pretrain.methods.multi_level import LevelMode
from pretrain.survey.prototypes import PREFIX
from zoo.backbones import create_backbone

BATCH, IMAGES, SIDE, DIM = 8, 64, 32, 16
FACTS = RunFacts(images=IMAGES, batch=BATCH, seed=0, steps=80)
_QUEUE = {"queue": 32, "dim": DIM}
_LEVELS: dict[str, Any] = {"levels": [6, 3], "warmup_epochs": 0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "moco": ("moco", _QUEUE),
    "hcsc": ("hcsc", _QUEUE | _LEVELS),
    "hcsc waiting": ("hcsc", _QUEUE | _LEVELS | {"start_ami": 0.9}),
    "csml": ("csml", _QUEUE | {"refresh_epochs": 1, "cross_epochs": 1, "level4": LevelMode.patch, "window": 2, "stride": 1}),
    "csml with prototypes": (
        "csml",
        _QUEUE | _LEVELS | {"refresh_epochs": 1, "cross_epochs": 1, "prototypes": True, "instance_selection": True},
    ),
    "simclr": ("simclr", {"dim": DIM}),
    "byol": ("byol", {"dim": DIM, "hidden": 32}),
    "simsiam": ("simsiam", {"dim": DIM, "predictor_hidden": 8}),
}
# A step after CsMl's first epochs, in which each query has two positives.
STEP = 2 * FACTS.steps_per_epoch


def tables() -> Mapping[str, NDArray[np.generic]]:
    """What surveys would have made."""
    draw = torch.Generator().manual_seed(1)
    features = torch.nn.functional.normalize(torch.randn(IMAGES, DIM, generator=draw), dim=1)
    hierarchy = hierarchical_kmeans(features, [6, 3], 0.2, iterations=3, restarts=1)
    found: dict[str, NDArray[np.generic]] = {PREFIX + name: tensor.numpy() for name, tensor in hierarchy.state_dict().items()}
    found[NEIGHBOURS] = torch.randint(IMAGES, (IMAGES, 5), generator=draw).numpy()
    return found


def make_method(case: str, backbone: str = "resnet10_small") -> Method:
    """A method in train mode, on the CPU, with the tables received."""
    name, values = CASES[case]
    kind = METHODS[name]
    torch.manual_seed(0)
    method = kind(lambda: create_backbone(backbone, image_size=SIDE), kind.Settings(**values), FACTS)
    # A method that makes no prototypes refuses those of others.
    method.receive({name: table for name, table in tables().items() if "levels" in values or not name.startswith(PREFIX)})
    return method.train()


def views_of(method: Method, case: str) -> list[torch.Tensor]:
    """Made-up views, as many as the method asks for."""
    draw = torch.Generator().manual_seed(2)
    specs = method.views(METHODS[CASES[case][0]].Settings(**CASES[case][1]), SIDE)
    return [torch.randn(BATCH, 3, SIDE, SIDE, generator=draw) for _ in specs]
