"""Hierarchical k-means: this toolkit's engine in torch beside faiss, in the same process, with the same threads and settings.

    python benchmarks/kmeans.py                200,000 x 128 to 3,000, 2,000 and 1,000 clusters, one restart; minutes on one core
    python benchmarks/kmeans.py --quick        20,000 x 128 to 300, 200 and 100, five restarts
    python benchmarks/kmeans.py --points 5000 --dim 64 --levels 200,168,112
    python benchmarks/kmeans.py --device cuda  on a GPU, beside faiss's GPU index where faiss has one, else beside faiss on the CPU

Each level runs in pairs, one engine after the other, which is the first by turns. What is compared is the median of the ratios within
pairs: a machine that others use too slows both alike. Both train and assign (20 iterations; restarts, of which
each costs the same, as said). Beside the wall clock stands the time of processors. The points are unit vectors around
random directions, four times as many as the first level has clusters, so wide that neighbours overlap; levels above the first cluster the
centroids of ours below, as the hierarchy does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import faiss
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import normalize

from evaluation.clustering import KMeans, kmeans
from evaluation.clustering.kmeans import RESTARTS, Engine

FULL = (200_000, (3000, 2000, 1000))
QUICK = (20_000, (300, 200, 100))
LUMPS_PER_CLUSTER = 4
LUMP_WIDTH = 0.8


@dataclass(frozen=True)
class Run:
    seconds: float
    processor: float
    found: KMeans


def make(points: int, dim: int, clusters: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    lumps = torch.randn(LUMPS_PER_CLUSTER * clusters, dim, generator=generator)
    rows = lumps[torch.randint(len(lumps), (points,), generator=generator)]
    return normalize(rows + LUMP_WIDTH * torch.randn(points, dim, generator=generator), dim=1)


def timed(points: Tensor, clusters: int, engine: Engine, seed: int, device: torch.device, restarts: int) -> Run:
    points = points.to(device)
    wait(device)
    started, of_processors = time.perf_counter(), time.process_time()
    found = kmeans(points, clusters, seed=seed, engine=engine, restarts=restarts)
    wait(device)
    return Run(time.perf_counter() - started, time.process_time() - of_processors, found)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def times(levels: list[dict[str, list[Run]]], pairs: int) -> list[str]:
    """Cells: seconds of ours, of faiss, and the ratio, by wall clock and of processors; each is the median over pairs of the sum over
    levels."""
    cells = []
    for clock in ("seconds", "processor"):
        ours, theirs = (
            [sum(getattr(level[name][pair], clock) for level in levels) for pair in range(pairs)] for name in ("torch", "faiss")
        )
        ratio = statistics.median(mine / yours for mine, yours in zip(ours, theirs, strict=True))
        cells += [f"{statistics.median(ours):.3f}", f"{statistics.median(theirs):.3f}", f"{ratio:.2f}"]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller problem")
    parser.add_argument("--points", type=int)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--levels", help="clusters per level, such as 3000,2000,1000")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--restarts", type=int, help="default: 5, and 1 of the full size")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    levels: tuple[int, ...]
    points, levels = QUICK if arguments.quick else FULL
    points = arguments.points or points
    restarts = arguments.restarts or (1 if points == FULL[0] else RESTARTS)
    levels = tuple(int(level) for level in arguments.levels.split(",")) if arguments.levels else levels
    torch.set_num_threads(arguments.threads)
    faiss.omp_set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    peer = device if device.type == "cuda" and faiss.get_num_gpus() else torch.device("cpu")

    console = Console()
    console.print(
        f"{points:,} x {arguments.dim}, float32, 20 iterations, {restarts} restart(s); "
        f"ours on {device}, faiss {faiss.__version__} on {peer}, "
        f"{arguments.threads} threads, medians of {arguments.pairs} pair(s)",
        highlight=False,
    )
    table = Table(caption="ratios: ours / faiss, below 1 is better; objective: sum of squared distances, mean of the pairs")
    for heading in ("points", "clusters", "ours s", "faiss s", "ratio", "ours CPU s", "faiss CPU s", "ratio", "objective ratio"):
        table.add_column(heading, justify="right")
    rows = make(points, arguments.dim, levels[0])
    engines: list[tuple[Engine, torch.device]] = [("torch", device), ("faiss", peer)]
    for engine, place in engines:
        timed(rows[:2000], 10, engine, 0, place, 1)  # warms up
    everything: list[dict[str, list[Run]]] = []
    for clusters in levels:
        runs: dict[str, list[Run]] = {"torch": [], "faiss": []}
        for pair in range(arguments.pairs):
            for engine, place in engines if pair % 2 == 0 else engines[::-1]:
                runs[engine].append(timed(rows, clusters, engine, pair, place, restarts))
        everything.append(runs)
        objective = {name: statistics.fmean(run.found.objective for run in taken) for name, taken in runs.items()}
        table.add_row(
            f"{len(rows):,}",
            f"{clusters:,}",
            *times([runs], arguments.pairs),
            f"{objective['torch'] / objective['faiss']:.4f}",
        )
        rows = normalize(runs["torch"][0].found.centroids, dim=1).cpu()
    table.add_row("", "all levels", *times(everything, arguments.pairs), "")
    console.print(table)


if __name__ == "__main__":
    main()
