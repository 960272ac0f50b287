"""kNN, neighbours and k-means on the device, beside plain torch there and faiss on the host where it is installed."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from context import Context
from measure import seconds, waits
from torch import Tensor
from torch.nn import functional

from evaluation.clustering import hierarchical_kmeans, kmeans
from evaluation.search import full_float32, neighbours_of_all, top_k

ITERATIONS = 20


def made_rows(count: int, width: int, seed: int = 0) -> Tensor:
    """Points of unit length in clusters of different density, on the CPU."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(100, width, generator=draw)
    rows = torch.randn(count, width, generator=draw)
    rows.add_(centres[torch.randint(100, (count,), generator=draw)])
    return functional.normalize(rows, dim=1)


def plain_top_k(queries: Tensor, bank: Tensor, k: int) -> Tensor:
    """As one writes it: chunks of queries, a product, topk; no order among equals."""
    with full_float32():
        return torch.cat([(part @ bank.T).topk(k).indices for part in queries.split(4096)])


def plain_kmeans(points: Tensor, clusters: int) -> Tensor:
    """As one writes it: Lloyd's algorithm from random points, sums by index_add."""
    with full_float32():
        centroids = points[torch.randperm(len(points), device=points.device)[:clusters]]
        for _ in range(ITERATIONS):
            nearest = torch.cat([torch.cdist(part, centroids).argmin(1) for part in points.split(1 << 15)])
            sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
            counts = torch.bincount(nearest, minlength=clusters).clamp(min=1)
            centroids = sums / counts[:, None]
        return centroids


def _faiss() -> Any:
    if importlib.util.find_spec("faiss") is None:
        return None
    import faiss

    faiss.omp_set_num_threads(os.cpu_count() or 1)
    return faiss


def search(context: Context) -> None:
    """kNN of 10,000 queries in a bank of 50,000 x 512, and 5 neighbours of each of 50,000."""
    bank_size, query_count, width, k = (2000, 300, 32, 20) if context.dry else (50_000, 10_000, 512, 200)
    device, repeats = context.device, 1 if context.dry else 5
    bank, queries = made_rows(bank_size, width), made_rows(query_count, width, 1)
    bank_there, queries_there = bank.to(device), queries.to(device)
    found = top_k(queries, bank, k, device=device)[1]
    agreement = (found.sort(1).values == plain_top_k(queries_there, bank_there, k).sort(1).values.cpu()).float().mean()
    context.report(
        knn={
            "s_from_host": seconds(lambda: top_k(queries, bank, k, device=device), device, repeats=repeats),
            "s": seconds(lambda: top_k(queries_there, bank_there, k), device, repeats=repeats),
            "plain_torch_s": seconds(lambda: plain_top_k(queries_there, bank_there, k), device, repeats=repeats),
            "waits": waits(lambda: top_k(queries_there, bank_there, k), device),
            "same_neighbours": float(agreement),
        }
    )
    context.report(
        neighbours={
            "s": seconds(lambda: neighbours_of_all(bank, 5, total=bank_size, chunk=256, device=device), device, repeats=repeats),
            "plain_torch_s": seconds(lambda: plain_top_k(bank_there, bank_there, 6), device, repeats=repeats),
            "waits": waits(lambda: neighbours_of_all(bank, 5, total=bank_size, chunk=256, device=device), device),
        }
    )
    faiss = _faiss()
    if faiss is None:
        context.report(faiss="not installed")
        return

    def by_faiss() -> None:
        index = faiss.IndexFlatIP(width)
        index.add(bank.numpy())
        index.search(queries.numpy(), k)

    context.report(faiss_host_s=seconds(by_faiss, torch.device("cpu"), repeats=1, warm_up=0), faiss_threads=os.cpu_count())


def k_means(context: Context) -> None:
    """200,000 x 128 into 3000, 2000 and 1000 clusters; one restart of 20 iterations of the finest level beside the peers'."""
    count, width, levels = (3000, 16, (30, 20, 10)) if context.dry else (200_000, 128, (3000, 2000, 1000))
    device, repeats = context.device, 1 if context.dry else 3
    points = made_rows(count, width)
    there = points.to(device)
    ours = seconds(lambda: kmeans(there, levels[0], seed=0, iterations=ITERATIONS, restarts=1), device, repeats=repeats)
    context.report(
        size=[count, width, *levels],
        finest_s=ours,
        plain_torch_s=seconds(lambda: plain_kmeans(there, levels[0]), device, repeats=repeats),
        waits=waits(lambda: kmeans(there, levels[0], seed=0, iterations=ITERATIONS, restarts=1), device),
        objective=kmeans(there, levels[0], seed=0, iterations=ITERATIONS, restarts=1).objective,
    )
    # The whole of a survey's clustering: three levels, five restarts each.
    context.report(hierarchy_s=seconds(lambda: hierarchical_kmeans(there, levels), device, repeats=1, warm_up=0))
    faiss = _faiss()
    if faiss is None:
        context.report(faiss="not installed")
        return

    def by_faiss() -> None:
        trained = faiss.Kmeans(width, levels[0], niter=ITERATIONS, nredo=1, seed=0, max_points_per_centroid=1000, gpu=False)
        trained.train(points.numpy())

    taken = seconds(by_faiss, torch.device("cpu"), repeats=1, warm_up=0)
    context.report(faiss_host_s=taken, faiss_threads=os.cpu_count(), faiss_over_ours=taken / ours)
