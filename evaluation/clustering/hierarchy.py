"""Hierarchical k-means as HCSC uses it (Guo et al., CVPR 2022; details as in its published code): prototypes on several levels.

The finest level clusters the images' features, each further one the unit-length centroids of the level below. An image's cluster on a
level is the parent of its cluster on the level below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.clustering.kmeans import ITERATIONS, MAX_POINTS_PER_CENTROID, RESTARTS, Engine, kmeans
from evaluation.parallel import ALONE, Processes
from evaluation.search import full_float32
from zoo.errors import UserError

LEVELS = (3000, 2000, 1000)
TEMPERATURE = 0.2

# The constant of the density's logarithm, and the quantiles to which densities are clipped (Li et al., "Prototypical Contrastive
# Learning", ICLR 2021, whose measure HCSC uses).
_DENSITY_ALPHA = 10
_DENSITY_QUANTILES = (0.1, 0.9)
# No density is below this part of the largest: copies of one image have no spread, and similarities are divided by densities.
_DENSITY_FLOOR = 1e-3


@dataclass(frozen=True)
class Hierarchy:
    """Prototypes on L levels, from fine to coarse; M_l clusters on level l.

    Attributes
    ----------
    centroids
        L x float32 (M_l, D), of unit length.
    densities
        L x float32 (M_l,): small where a cluster is tight; their mean is the temperature. In HCSC they divide similarities.
    assignments
        L x int64 (n,): the cluster of each image of this process's share.
    parents
        L - 1 x int64 (M_l,): the cluster on level l + 1 that each cluster of level l belongs to.
    similarities
        L - 1 x float32 (M_l, M_{l+1}): cosines between the centroids of a level and those of the next.
    """

    centroids: tuple[Tensor, ...]
    densities: tuple[Tensor, ...]
    assignments: tuple[Tensor, ...]
    parents: tuple[Tensor, ...]
    similarities: tuple[Tensor, ...]

    @property
    def levels(self) -> tuple[int, ...]:
        """Clusters per level."""
        return tuple(len(level) for level in self.centroids)

    def to(self, device: torch.device | str) -> Hierarchy:
        """The same on another device."""
        return Hierarchy(**{field.name: tuple(tensor.to(device) for tensor in getattr(self, field.name)) for field in fields(self)})

    def with_images(self, finest: Tensor) -> Hierarchy:
        """The same hierarchy over other images, such as those of all processes: ``finest`` (n,) holds their clusters on level 0."""
        return replace(self, assignments=_ancestors(finest, self.parents))

    def state_dict(self) -> dict[str, Tensor]:
        """Everything in tensors by name, for a checkpoint: assignments above the finest level are left out, for parents imply them."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        named["assignments"] = self.assignments[:1]
        return {f"{name}.{level}": tensor for name, tensors in named.items() for level, tensor in enumerate(tensors)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Hierarchy:
        """What :meth:`state_dict` gave, back again. Raises UserError where the tensors are not those of one hierarchy."""
        levels = sum(name.startswith("centroids.") for name in state)
        lengths = {"centroids": levels, "densities": levels, "assignments": 1, "parents": levels - 1, "similarities": levels - 1}
        expected = {f"{name}.{level}" for name, length in lengths.items() for level in range(length)}
        if levels == 0 or state.keys() != expected:
            differing = ", ".join(sorted(state.keys() ^ expected))
            raise UserError(f"these are not the tensors of one hierarchy of prototypes (missing or unexpected: {differing})")
        tensors = {name: tuple(state[f"{name}.{level}"] for level in range(length)) for name, length in lengths.items()}
        tensors["assignments"] = _ancestors(state["assignments.0"], tensors["parents"])
        return cls(**tensors)


def hierarchical_kmeans(
    features: Tensor,
    levels: Sequence[int] = LEVELS,
    temperature: float = TEMPERATURE,
    *,
    seed: int = 0,
    iterations: int = ITERATIONS,
    restarts: int = RESTARTS,
    engine: Engine = "torch",
    spherical: bool = False,
    max_points_per_centroid: int = MAX_POINTS_PER_CENTROID,
    device: torch.device | str | None = None,
    tile: int | None = None,
    processes: Processes = ALONE,
) -> Hierarchy:
    """Cluster features on several levels.

    Parameters
    ----------
    features
        Tensor (n, D), as for :func:`evaluation.clustering.kmeans`: this process's share of the images' features, of unit length in HCSC.
    levels
        Clusters per level, from fine to coarse, none more than on the level below.
    temperature
        The mean of each level's densities.
    seed
        Level l is clustered with seed + l (HCSC: 0, 1, 2).
    iterations, restarts, engine, spherical, max_points_per_centroid, device, tile, processes
        As for :func:`evaluation.clustering.kmeans`. Levels above the finest are the same small problem in each process.

    Returns
    -------
    A :class:`Hierarchy` on ``device``: the same in each process, but for the assignments, which are those of its share.

    Raises
    ------
    UserError
        For levels that cannot be, and as :func:`evaluation.clustering.kmeans`.

    Notes
    -----
    Points are assigned to centroids as they were trained; afterwards centroids are brought to unit length. With n points at distances d
    from their centroid, n > 1, a cluster's density is mean(d) / ln(n + 10); with n <= 1 it is the largest of those. A level's densities
    are clipped to their 10th and 90th percentile and scaled to the mean ``temperature``. Where no cluster has any spread (all points by
    themselves, or copies) each density is the temperature; where some have none, they get a thousandth of the largest.
    """
    _check_order(levels)
    if not temperature > 0:
        raise UserError(f"the temperature of densities must be above 0, not {temperature}")
    size = torch.tensor(len(features), device=features.device if device is None else device)
    check_levels(levels, int(processes.sum(size)))

    centroids: list[Tensor] = []
    densities: list[Tensor] = []
    parents: list[Tensor] = []
    finest = torch.empty(0, dtype=torch.int64)
    for level, clusters in enumerate(levels):
        sharers = processes if level == 0 else ALONE
        found = kmeans(
            features if level == 0 else centroids[-1],
            clusters,
            seed=seed + level,
            iterations=iterations,
            restarts=restarts,
            engine=engine,
            spherical=spherical,
            max_points_per_centroid=max_points_per_centroid,
            device=device,
            tile=tile,
            processes=sharers,
        )
        density = cluster_densities(found.squared_distance, found.assignment, found.counts, temperature, sharers)
        # Processes on unlike hardware may have rounded otherwise: what the main one found counts.
        centroids.append(processes.from_process(functional.normalize(found.centroids, dim=1), 0))
        densities.append(processes.from_process(density, 0))
        if level == 0:
            finest = found.assignment
        else:
            parents.append(processes.from_process(found.assignment, 0))
    with torch.no_grad(), torch.autocast(finest.device.type, enabled=False), full_float32():
        similarities = tuple(below @ above.T for below, above in pairwise(centroids))
    return Hierarchy(tuple(centroids), tuple(densities), _ancestors(finest, tuple(parents)), tuple(parents), similarities)


def check_levels(levels: Sequence[int], images: int) -> None:
    """Raise UserError, with numbers that would work, unless so many images can be clustered on these levels."""
    _check_order(levels)
    if levels[0] > images:
        fitting = ", ".join(str(max(1, level * images // levels[0])) for level in levels)
        raise UserError(f"there are {images:,} images for {levels[0]:,} clusters; choose at most that many, such as levels {fitting}")


def _check_order(levels: Sequence[int]) -> None:
    given = ", ".join(map(str, levels))
    if not levels or min(levels) < 1:
        raise UserError(f"levels are the numbers of clusters from fine to coarse, such as 3000, 2000, 1000; not '{given}'")
    if any(above > below for below, above in pairwise(levels)):
        ordered = ", ".join(map(str, sorted(levels, reverse=True)))
        raise UserError(f"a level clusters the centroids of the one before and cannot have more; give levels {ordered}, not {given}")


def _ancestors(finest: Tensor, parents: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The clusters on all levels of images with the given ones on the finest."""
    found = [finest]
    for parent in parents:
        found.append(parent[found[-1]])
    return tuple(found)


def cluster_densities(squared_distance: Tensor, assignment: Tensor, counts: Tensor, temperature: float, processes: Processes) -> Tensor:
    """float32 (K,): the densities of a level's clusters, from its points and their number in all processes."""
    distances = torch.zeros(len(counts), dtype=torch.float64, device=counts.device)
    distances = processes.sum(distances.index_add_(0, assignment, squared_distance.double().sqrt_()))
    spread = torch.where(counts > 1, distances / counts.clamp(min=1) / torch.log(counts.double() + _DENSITY_ALPHA), 0)
    spread = torch.where(counts > 1, spread, spread.max())
    lowest, highest = torch.quantile(spread, torch.tensor(_DENSITY_QUANTILES, dtype=torch.float64, device=spread.device))
    spread = torch.minimum(torch.maximum(spread, torch.maximum(lowest, _DENSITY_FLOOR * highest)), highest)
    mean = spread.mean()
    return torch.where(mean > 0, temperature * spread / mean, temperature).float()
