"""CsMl's search for neighbours beside faiss's flat index: same rows, same threads, in the same process.

    python benchmarks/neighbours.py                       50,000 x 512, and 200,000 x 2048 for a sample of the queries; k = 5
    python benchmarks/neighbours.py --quick               10,000 x 128, in seconds
    python benchmarks/neighbours.py --threads 1 --pairs 5 --queries 2000

Each row's nearest others among all rows, by cosine: ours leaves the row out by its number, faiss looks for k + 1 neighbours of unit
vectors. Both run in turn, several times over, and what is compared is the median of the ratios of neighbouring runs, by wall clock and by
processor time: a machine that others use too slows both alike. At the larger size only `--queries` rows ask, the same ones of both: their
share of the whole search, since neither builds anything that further queries would find ready. Memory (on Linux) is by how much the peak
of a fresh process exceeds what it holds before the search, with the rows in it.
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
from torch import Tensor

K = 5
CHUNK = 256  # what the survey's shares are multiples of


@dataclass(frozen=True)
class Size:
    rows: int
    width: int
    queries: int | None  # None: all rows


QUICK = (Size(10_000, 128, None),)


def make(size: Size) -> Tensor:
    """Clusters of different density, of unit length, as features of a network are rather than noise."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(100, size.width, generator=draw)
    rows = torch.randn(size.rows, size.width, generator=draw)
    for start in range(0, size.rows, 10_000):
        part = rows[start : start + 10_000]
        part.add_(centres[torch.randint(100, (len(part),), generator=draw)])
        part.div_(part.norm(dim=1, keepdim=True))
    return rows


def ours(rows: Tensor, queries: int | None) -> np.ndarray:
    from evaluation.search import neighbours_of_all, top_k

    if queries is None:
        return neighbours_of_all(rows, K, total=len(rows), chunk=CHUNK, normalize=True)[1].numpy()
    return top_k(rows[:queries], rows, K, exclude_self=True, normalize=True, query_chunk=CHUNK)[1].numpy()


def with_faiss(rows: Tensor, queries: int | None) -> np.ndarray:
    import faiss

    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows.numpy())  # copies the rows, in a small part of the time
    found: np.ndarray = index.search(rows[:queries].numpy(), K + 1)[1]
    return found


SEARCHES: dict[str, Callable[[Tensor, int | None], np.ndarray]] = {"ours": ours, "faiss": with_faiss}


def timed(name: str, rows: Tensor, queries: int | None) -> tuple[float, float]:
    """Seconds by wall clock and of processors."""
    wall, processor = time.perf_counter(), time.process_time()
    SEARCHES[name](rows, queries)
    return time.perf_counter() - wall, time.process_time() - processor


def agreement(found: np.ndarray, theirs: np.ndarray) -> float:
    """Share of our neighbours among faiss's without the row itself."""
    return float(
        np.mean(
            [np.isin(mine, [n for n in other if n != row][:K]).mean() for row, (mine, other) in enumerate(zip(found, theirs, strict=True))]
        )
    )


def peak_growth(name: str, size: Size, threads: int) -> float:
    """MiB by which a fresh process's peak grows during the search."""
    words = [str(size.rows), str(size.width), str(size.queries or 0)]
    command = [sys.executable, __file__, "--threads", str(threads), "--measure-memory", name, *words]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(name: str, size: Size) -> None:
    rows = make(size)
    SEARCHES[name](rows[:300].clone(), None)  # what libraries allocate once
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in use
    before = memory("VmRSS")
    SEARCHES[name](rows, size.queries)
    sys.stdout.write(f"{memory('VmHWM') - before}\n")


def memory(what: str) -> float:
    """A figure of this process's memory in MiB, as Linux gives it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def compare(size: Size, pairs: int, threads: int) -> None:
    rows = make(size)
    asked = "all ask" if size.queries is None else f"{size.queries:,} of them ask"
    print(f"{size.rows:,} x {size.width}, {asked}, k = {K}, {threads} threads, float32")
    few = min(size.queries or size.rows, 200)
    print(f"  same neighbours: {100 * agreement(ours(rows, few), with_faiss(rows, few)):.3f} %")
    runs = [(timed("ours", rows, size.queries), timed("faiss", rows, size.queries)) for _ in range(pairs)]
    for place, clock in enumerate(("wall clock", "processors")):
        ratios = [mine[place] / theirs[place] for mine, theirs in runs]
        mine, theirs = (statistics.median(run[which][place] for run in runs) for which in range(2))
        print(
            f"  {clock}: ours {mine:.2f} s, faiss {theirs:.2f} s, ours / faiss {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} .. {max(ratios):.2f}, {pairs} pairs)"
        )
    growth = {name: peak_growth(name, size, threads) for name in SEARCHES}
    print(
        f"  memory beyond the rows: ours {growth['ours']:.0f} MiB, faiss {growth['faiss']:.0f} MiB (a copy of the rows among it)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small problem: does it run at all?")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--queries", type=int, default=4096, help="rows that ask, of the larger size; 0: all")
    parser.add_argument("--only", type=int, choices=(50_000, 200_000), help="one of the two sizes")
    parser.add_argument("--measure-memory", nargs=4, metavar=("NAME", "ROWS", "WIDTH", "QUERIES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    import faiss

    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    if options.measure_memory:
        name, *numbers = options.measure_memory
        rows, width, queries = map(int, numbers)
        measure_memory(name, Size(rows, width, queries or None))
        return
    full = (Size(50_000, 512, None), Size(200_000, 2048, options.queries or None))
    for size in QUICK if options.quick else full:
        if options.only in (None, size.rows):
            compare(size, 1 if options.quick else options.pairs, options.threads)


if __name__ == "__main__":
    main()
