"""Rows of a study: one JSON line a finished run, added in one write; and what a row says of a network.

A row has at least ``study``, ``arm``, ``seed``, ``data``, ``optimizer``, ``steps``, ``scores``, ``log``, ``commit``, ``seconds``,
``torch`` and ``processor``. The first six tell runs apart: a run whose row is there is not made again.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import adjusted_mutual_info_score
from torch.nn.functional import normalize

import evaluation
from evaluation.clustering import kmeans
from evaluation.training.log import read_log
from zoo.data import open_data
from zoo.results.provenance import toolkit_commit

Row = dict[str, Any]
KEY = ("study", "arm", "seed", "data", "optimizer", "steps")
QUALITY = ("rankme", "lidar", "alpha", "alignment", "uniformity", "spread", "neighbour")
# Of the log, what a run says of itself.
EXPLAINING = ("prototypes/", "neighbours/", "boxes/", "gradients/")


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a run apart from others."""
    return tuple(row[name] for name in KEY)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add_row(path: Path, row: Row) -> None:
    """Add a row in one write, so that several studies may share a file and no part of a row is ever there."""
    line = json.dumps(row, sort_keys=True) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def machine() -> dict[str, str]:
    """What a row says of the machine and of the code."""
    told = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"processor": told[0] if told else platform.processor(), "torch": torch.__version__, "commit": toolkit_commit() or "unknown"}


def scores(run: Path, data: str, seed: int, image_size: int | None = None) -> dict[str, float]:
    """What the backbone of a run is worth on the test images.

    ``knn`` (k = 20, preset ``dino``) and ``linear`` (logistic regression, C = 1, on the features): top-1 in percent. ``ami_LEVEL``:
    adjusted
    mutual information in percent of k-means on unit-length features of the training images, with as many clusters as the level has labels.
    The rest: the numbers of ``evaluate --task quality``. ``image_size``: side in pixels at which the network sees whole images, where it is
    not their own.
    """
    found = {
        "knn": evaluation.knn(str(run), data, k=[20], image_size=image_size).headline.value,
        "linear": evaluation.linear(str(run), data, preset="logreg", c=[1.0], image_size=image_size).headline.value,
    }
    features = normalize(evaluation.extract(str(run), data, "train", image_size=image_size).features, dim=1)
    for name, level in open_data(data).role("train").levels.items():
        clusters = kmeans(features, len(level.classes), seed=seed)
        found[f"ami_{name}"] = 100 * float(adjusted_mutual_info_score(level.labels, clusters.assignment.numpy()))
    quality = evaluation.quality(str(run), data, image_size=image_size).metrics
    return found | {name: quality[name] for name in QUALITY if name in quality}


def explanations(run: Path) -> dict[str, dict[str, float]]:
    """What the run said of itself, at its first survey and at its last; and the last losses."""
    rows = read_log(run / "log.jsonl")
    told = [{name: row[name] for name in row if name.startswith(EXPLAINING)} for row in rows]
    told = [row for row in told if row]
    return {"first": told[0], "last": told[-1]} if told else {}


def paired_seeds(rows: Sequence[Row], arm: str, other: str, **fixed: Any) -> list[tuple[Row, Row]]:
    """Rows of two arms with the same seed, by seed."""
    chosen = [row for row in rows if all(row[name] == value for name, value in fixed.items())]
    by_seed = {row["seed"]: row for row in chosen if row["arm"] == other}
    pairs = [(row, by_seed[row["seed"]]) for row in chosen if row["arm"] == arm and row["seed"] in by_seed]
    return sorted(pairs, key=lambda pair: pair[0]["seed"])
