"""Two processes that share the points: the clusters of one, the same bits in both, and errors that reach both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn.functional import normalize

from evaluation.clustering import hierarchical_kmeans, kmeans
from evaluation.parallel import ALONE, Processes, stop_processes
from zoo.errors import UserError

# How many of 700 points the first process holds: half; few; none.
FIRST = (350, 3, 0)
LEVELS = (30, 12, 4)


def points() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(30, 12, generator=generator)
    return normalize(centres[torch.randint(30, (700,), generator=generator)] + 0.1 * torch.randn(700, 12, generator=generator), dim=1)


def cases(share: slice, processes: Processes) -> dict[str, Tensor]:
    """Everything of a few clusterings."""
    found: dict[str, Tensor] = {}
    for name, settings in {"plain": {}, "spherical": {"spherical": True}, "sample": {"max_points_per_centroid": 10}}.items():
        # Two iterations: after many, what was rounded otherwise may have grown.
        clusters = kmeans(points()[share], 30, seed=1, iterations=2, restarts=2, processes=processes, **settings)
        found[f"{name} centroids"], found[f"{name} assignment"] = clusters.centroids, clusters.assignment
        found[f"{name} counts"], found[f"{name} distance"] = clusters.counts, clusters.squared_distance
        found[f"{name} numbers"] = torch.tensor([clusters.objective, clusters.reseeded, clusters.trained_on])
    whole = kmeans(points()[share], 700, seed=1, restarts=1, processes=processes)
    found["whole counts"] = whole.counts
    crowd = kmeans(points()[:5].repeat(140, 1)[share], 20, seed=1, restarts=1, processes=processes)
    found["crowd points"] = crowd.centroids[crowd.assignment]
    hierarchy = hierarchical_kmeans(points()[share], LEVELS, restarts=1, iterations=2, processes=processes)
    found |= {f"hierarchy {name}": tensor for name, tensor in hierarchy.state_dict().items()}
    return found


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    processes = Processes.current()
    for first in FIRST:
        share = slice(0, first) if rank == 0 else slice(first, 700)
        torch.save(cases(share, processes), f"{folder}/{first}-{rank}.pt")
    half = points()[350 * rank : 350 * (rank + 1)]
    with pytest.raises(UserError, match="700 points for 701 clusters"):
        kmeans(half, 701, seed=0, processes=processes)
    with pytest.raises(UserError, match="700 images for 800 clusters"):
        hierarchical_kmeans(half, (800, 5), processes=processes)
    with pytest.raises(UserError, match="faiss engine clusters the points of one process, and these are 2"):
        kmeans(half, 5, seed=0, engine="faiss", processes=processes)
    half = half.clone()
    if rank == 1:
        half[4, 2] = torch.nan
    with pytest.raises(UserError, match="point 354 is not finite"):
        kmeans(half, 5, seed=0, processes=processes)
    stop_processes()


@pytest.mark.usefixtures("one_thread")
def test_two_processes_find_the_clusters_of_one(tmp_path: Path) -> None:
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    alone = cases(slice(None), ALONE)
    for first in FIRST:
        both = [torch.load(tmp_path / f"{first}-{rank}.pt", weights_only=True) for rank in range(2)]
        for name, mine in alone.items():
            theirs = [of[name] for of in both]
            if any(word in name for word in ("assignment", "distance", "points")):
                together = torch.cat(theirs)
            else:
                assert torch.equal(*theirs), name  # the same bits in both
                together = theirs[0]
            if mine.dtype.is_floating_point:
                torch.testing.assert_close(together, mine, rtol=1e-4, atol=1e-5, msg=f"{name}, {first}")
            else:
                assert torch.equal(together, mine), f"{name}, {first}"
