"""How far k-means++ and greedy k-means++ end from scikit-learn's k-means, with as many restarts: sums of squared distances, and seconds.

    python benchmarks/kmeans_seeds.py

Points of unit length around 120 centres in 64 dimensions; five restarts each; scikit-learn to convergence, this toolkit 20 iterations.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.cluster import KMeans

from evaluation.clustering import kmeans

CASES = ((450, 300), (900, 300), (1800, 300), (5000, 200), (10_000, 300), (20_000, 100))
WIDTH, CENTRES, SPREAD, RESTARTS = 64, 120, 0.8, 5


def main() -> None:
    draws = np.random.default_rng(0)
    print(f"{'points':>8}{'clusters':>10}{'k-means++':>12}{'greedy':>10}   seconds: scikit-learn, k-means++, greedy")
    for count, clusters in CASES:
        centres = draws.normal(size=(CENTRES, WIDTH))
        points = centres[draws.integers(0, CENTRES, count)] + SPREAD * draws.normal(size=(count, WIDTH))
        points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
        began = time.perf_counter()
        peer = KMeans(clusters, n_init=RESTARTS, random_state=0).fit(points)
        seconds, ratios = [time.perf_counter() - began], []
        for init in ("k-means++", "greedy"):
            began = time.perf_counter()
            found = kmeans(points, clusters, seed=0, restarts=RESTARTS, init=init)
            seconds.append(time.perf_counter() - began)
            ratios.append(found.objective / peer.inertia_)
        told = ", ".join(f"{value:.2f}" for value in seconds)
        print(f"{count:>8,}{clusters:>10}{ratios[0]:>12.3f}{ratios[1]:>10.3f}   {told}", flush=True)


if __name__ == "__main__":
    main()
