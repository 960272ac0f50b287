"""Exact k-nearest-neighbour search: this toolkit's beside faiss and scikit-learn, in the same process, with the same threads.

    python benchmarks/knn.py            50,000 x 512 bank, 10,000 queries, k = 200
    python benchmarks/knn.py --quick    a smaller one, in seconds
    python benchmarks/knn.py --threads 1

The peers run in turn, several times over, and what is compared is the median of the ratios of neighbouring runs, by wall clock and by
processor time: a machine that others use too slows them alike. scikit-learn, which is slower, runs once, on a part of the queries. Memory
(on Linux) is by how much the peak of a fresh process exceeds what it holds before the search, with bank and queries in it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

SKLEARN_SHARE = 10  # scikit-learn searches for one in so many queries


@dataclass(frozen=True)
class Size:
    bank: int
    queries: int
    width: int
    k: int
    repeats: int


FULL = Size(bank=50_000, queries=10_000, width=512, k=200, repeats=5)
QUICK = Size(bank=20_000, queries=2_000, width=128, k=200, repeats=3)
Search = Callable[[Tensor, Tensor, int], "np.ndarray"]


def make(size: Size) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, bank = (torch.randn(count, size.width, generator=generator) for count in (size.queries, size.bank))
    for rows in (queries, bank):
        rows.div_(rows.norm(dim=1, keepdim=True))
    return queries, bank


def ours(queries: Tensor, bank: Tensor, k: int) -> np.ndarray:
    from evaluation.search import top_k

    return top_k(queries, bank, k)[1].numpy()


def with_faiss(queries: Tensor, bank: Tensor, k: int) -> np.ndarray:
    import faiss

    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank.numpy())  # copies the bank, in a small part of the time
    found: np.ndarray = index.search(queries.numpy(), k)[1]
    return found


def with_sklearn(queries: Tensor, bank: Tensor, k: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    # Of unit vectors, the nearest by Euclid are the nearest by cosine; scikit-learn has a faster path for the former.
    peer = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="euclidean", n_jobs=torch.get_num_threads()).fit(bank.numpy())
    found: np.ndarray = peer.kneighbors(queries.numpy(), return_distance=False)
    return found


SEARCHES: dict[str, Search] = {"ours": ours, "faiss": with_faiss, "sklearn": with_sklearn}


def seconds(search: Search, queries: Tensor, bank: Tensor, k: int) -> tuple[float, float]:
    """By wall clock, and of processors."""
    wall, processor = time.perf_counter(), time.process_time()
    search(queries, bank, k)
    return time.perf_counter() - wall, time.process_time() - processor


def agreement(found: np.ndarray, other: np.ndarray) -> float:
    """Share of the neighbours that both have; float32 sums in another order swap some at the end of the list."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in zip(found, other, strict=True)]))


def peak_growth(name: str, size: Size, threads: int) -> float:
    """MiB by which a fresh process's peak grows during the search."""
    command = [sys.executable, __file__, "--measure-memory", name, "--threads", str(threads), *(["--quick"] if size == QUICK else [])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(name: str, size: Size) -> None:
    queries, bank = make(size)
    SEARCHES[name](queries[:64], bank[:1000], 10)  # what libraries allocate once
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use
    before = memory("VmRSS")
    SEARCHES[name](queries, bank, size.k)
    sys.stdout.write(f"{memory('VmHWM') - before}\n")


def memory(what: str) -> float:
    """A figure of this process's memory in MiB, as Linux gives it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller problem")
    parser.add_argument("--measure-memory", choices=SEARCHES, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = QUICK if arguments.quick else FULL
    if arguments.measure_memory:
        measure_memory(arguments.measure_memory, size)
        return

    import faiss

    threads = arguments.threads
    faiss.omp_set_num_threads(threads)
    queries, bank = make(size)
    few = queries[: size.queries // SKLEARN_SHARE]
    console = Console()
    console.print(f"{size.queries:,} queries, bank {size.bank:,} x {size.width}, k = {size.k}, {threads} threads, float32", highlight=False)

    first = {name: search(few, bank, size.k) for name, search in SEARCHES.items()}  # warms up, and compares
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "faiss": []}
    for _ in range(size.repeats):
        for name, taken in times.items():
            taken.append(seconds(SEARCHES[name], queries, bank, size.k))
    part_of_ours, part_of_sklearn = (seconds(SEARCHES[name], few, bank, size.k) for name in ("ours", "sklearn"))

    def ratio(name: str, clock: int) -> float:
        if name == "sklearn":
            return part_of_sklearn[clock] / part_of_ours[clock]
        return statistics.median(other[clock] / own[clock] for own, other in zip(times["ours"], times[name], strict=True))

    table = Table(caption="MiB: peak beyond bank and queries; faiss keeps a copy of the bank. scikit-learn's seconds are extrapolated.")
    for heading in ("search", "wall s (median)", "time / ours", "processor s", "time / ours", "same neighbours", "MiB"):
        table.add_column(heading, justify="left" if heading == "search" else "right")
    for name in SEARCHES:
        taken = times.get(name, [(part_of_sklearn[0] * SKLEARN_SHARE, part_of_sklearn[1] * SKLEARN_SHARE)])
        cells = [
            text for clock in range(2) for text in (f"{statistics.median(one[clock] for one in taken):.2f}", f"{ratio(name, clock):.2f}")
        ]
        agreed = f"{100 * agreement(first['ours'], first[name]):.3f} %"
        table.add_row(name, *cells, agreed, f"{peak_growth(name, size, threads):.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
