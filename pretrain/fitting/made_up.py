"""Tables that no survey has made, of the shapes that one would give: for steps that are only timed, or only have to fit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from evaluation.clustering import Hierarchy
from evaluation.views.tables import NEIGHBOURS
from pretrain.survey.prototypes import PREFIX, STEERING


def made_up_hierarchy(levels: list[int], images: int, width: int, temperature: float) -> Hierarchy:
    """Random prototypes of so many images: embeddings of ``width`` numbers, clustered on ``levels`` (from fine to coarse)."""
    draw = torch.Generator().manual_seed(0)
    centroids = [F.normalize(torch.randn(count, width, generator=draw), dim=1) for count in levels]
    parents = [torch.randint(above, (count,), generator=draw) for count, above in pairwise(levels)]
    assignments = [torch.randint(levels[0], (images,), generator=draw)]
    for parent in parents:
        assignments.append(parent[assignments[-1]])
    similarities = [lower @ upper.T for lower, upper in pairwise(centroids)]
    densities = [torch.full((count,), temperature) for count in levels]
    return Hierarchy(tuple(centroids), tuple(densities), tuple(assignments), tuple(parents), tuple(similarities))


def made_up_tables(settings: Any, images: int) -> dict[str, NDArray[Any]]:
    """Prototypes and neighbours, where a method with these settings follows them."""
    tables: dict[str, NDArray[Any]] = {}
    if getattr(settings, "prototypes", False) or getattr(settings, "instance_selection", False):
        hierarchy = made_up_hierarchy(list(settings.levels), images, settings.dim, settings.temperature)
        tables |= {PREFIX + name: tensor.numpy() for name, tensor in hierarchy.state_dict().items()}
        if settings.start_ami is not None:
            tables[STEERING] = np.ones(1, dtype=np.uint8)
    if getattr(settings, "neighbours", False):
        tables[NEIGHBOURS] = np.random.default_rng(0).integers(images, size=(images, settings.k))
    return tables
