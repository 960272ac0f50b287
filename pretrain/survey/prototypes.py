"""Prototypes: the training set clustered on several levels by what the key encoder makes of it (HCSC, arXiv 2202.00455)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from torch import Tensor

from evaluation.clustering import Hierarchy, hierarchical_kmeans
from evaluation.extraction.batches import BATCH_SIZE
from evaluation.parallel import Processes
from pretrain.survey.encoder_pass import EncoderPass, Outputs
from pretrain.survey.rejection import rejection_numbers

# The tensors of the hierarchy are tables with this before their names.
PREFIX = "prototypes."
# A table of one number, where prototypes wait for each other: whether they steer (1) or wait (0).
STEERING = "prototypes_steer"
# Queries and negatives that rejection is measured with.
_MEASURED = (256, 4096)
# AMI and purity are of at most so many images, evenly spread: the adjustment's cost grows with clusters x classes x images per cluster.
MEASURED_IMAGES = 50_000


def hierarchy_of(tables: Mapping[str, NDArray[np.generic]]) -> Hierarchy | None:
    """The hierarchy among ``tables``, on the CPU; None where there is none. Raises UserError where tensors are missing."""
    state = {name.removeprefix(PREFIX): torch.from_numpy(table) for name, table in tables.items() if name.startswith(PREFIX)}
    return Hierarchy.from_state_dict(state) if state else None


class PrototypeMaker:
    """Makes the hierarchy of prototypes: the key encoder's embeddings of centre crops, clustered.

    Each process keeps the embeddings of its share of the images, and clusters them with the others.

    Parameters
    ----------
    levels
        Clusters per level, from fine to coarse.
    warmup_epochs
        There are prototypes from this epoch on, made anew at the start of each.
    temperature, seed
        As for :func:`evaluation.clustering.hierarchical_kmeans`.
    empty
        float32 (0, D), on the device where embeddings of width D will be: what a process without images has.
    labels
        int64 (N,) by label level: only measured against.
    dropped
        The share of negatives that each level of a hierarchy rejects; None: not logged.
    kept
        The probability (Q, K) to keep each of the negatives (K, D) for queries at these positions (Q,), by a level of a hierarchy; None: no
        negatives are rejected. Only measured with.
    steering
        Whether a hierarchy steers, and the AMI of its finest clusters with those of the survey before, where that was asked; None: each
        steers.
    """

    encoder_pass = EncoderPass("key", "centre")

    def __init__(
        self,
        levels: Sequence[int],
        warmup_epochs: int,
        *,
        temperature: float,
        seed: int,
        empty: Tensor,
        labels: Mapping[str, NDArray[np.int64]],
        dropped: Callable[[Hierarchy], Sequence[float]] | None = None,
        kept: Callable[[Hierarchy, Tensor, Tensor], Sequence[Tensor]] | None = None,
        steering: Callable[[Hierarchy], tuple[bool, float | None]] | None = None,
    ) -> None:
        self._levels, self._warmup, self._temperature, self._seed = tuple(levels), warmup_epochs, temperature, seed
        self._labels, self._dropped, self._kept, self._steering = labels, dropped, kept, steering
        self._empty, self._seen = empty, [empty]
        self._count = 0

    def due(self, epoch: int) -> bool:
        """Whether prototypes are made at the start of ``epoch`` (counted from 0)."""
        return epoch >= self._warmup

    def start(self, count: int) -> None:
        self._count, self._seen = count, [self._empty]

    def update(self, outputs: Outputs) -> None:
        self._seen.append(outputs.embedding)

    def finish(self, processes: Processes) -> tuple[dict[str, NDArray[np.generic]], dict[str, float], str]:
        embeddings = torch.cat(self._seen)
        self._seen = [self._empty]
        found = hierarchical_kmeans(embeddings, self._levels, self._temperature, seed=self._seed, processes=processes)
        finest = torch.zeros(self._count, dtype=torch.int64)
        finest[processes.share(self._count, BATCH_SIZE)] = found.assignments[0].cpu()
        processes.gather_rows(finest, BATCH_SIZE)
        hierarchy = found.with_images(finest.to(embeddings.device))
        tables = {f"{PREFIX}{name}": tensor.cpu().numpy() for name, tensor in hierarchy.state_dict().items()}
        # The main process alone writes the log.
        numbers = self._numbers(hierarchy) | self._rejected(hierarchy, embeddings) if processes.is_main else {}
        text = self._text(numbers)
        if self._steering is not None:
            steers, agreement = self._steering(hierarchy)
            tables[STEERING] = np.array([steers], dtype=np.uint8)
            numbers["prototypes/steer"] = float(steers)
            text += _steering_text(steers, agreement)
        return tables, numbers, text

    def _numbers(self, hierarchy: Hierarchy) -> dict[str, float]:
        numbers: dict[str, float] = {}
        dropped = self._dropped(hierarchy) if self._dropped else None
        for level, assignment in enumerate(hierarchy.assignments):
            said = prototype_statistics(assignment.cpu().numpy(), hierarchy.levels[level], self._labels)
            if dropped is not None:
                said["dropped"] = dropped[level]
            numbers.update({f"prototypes/{level}/{name}": number for name, number in said.items()})
        return numbers

    def _rejected(self, hierarchy: Hierarchy, embeddings: Tensor) -> dict[str, float]:
        """How often rejected negatives are of the query's own label, by this process's images: the first ones of the set."""
        if self._kept is None or not self._labels:
            return {}
        count = len(embeddings)
        queries, negatives = (torch.arange(min(most, count)) * count // min(most, count) for most in _MEASURED)
        kept = self._kept(hierarchy, embeddings[negatives.to(embeddings.device)], queries.to(embeddings.device))
        return rejection_numbers(kept, queries, negatives, self._labels)

    def _text(self, numbers: Mapping[str, float]) -> str:
        text = f"{', '.join(map(str, self._levels))} prototypes"
        if numbers:
            smallest, largest = (int(numbers[f"prototypes/0/images_{end}"]) for end in ("min", "max"))
            text += f", the finest of {smallest} to {largest} images"
            for name in self._labels:
                values = (f"{numbers[f'prototypes/{level}/ami_{name}']:.3f}" for level in range(len(self._levels)))
                text += f"; AMI with '{name}' {', '.join(values)}"
        return text


def _steering_text(steers: bool, agreement: float | None) -> str:
    known = "" if agreement is None else f" (AMI with the survey before {agreement:.3f})"
    return f"; they {'steer' if steers else 'do not steer yet'}{known}"


def cluster_agreement(before: Hierarchy, after: Hierarchy, level: int = 0) -> float:
    """AMI of a level's clusters in two surveys of the same images, of at most ``MEASURED_IMAGES``, evenly spread. Near 0: made up anew."""
    count = len(after.assignments[level])
    chosen = np.linspace(0, count - 1, min(count, MEASURED_IMAGES)).round().astype(np.int64)
    one, other = (hierarchy.assignments[level].cpu().numpy()[chosen] for hierarchy in (before, after))
    return float(adjusted_mutual_info_score(one, other))


def prototype_statistics(
    assignment: NDArray[np.int64], clusters: int, labels: Mapping[str, NDArray[np.int64]] | None = None
) -> dict[str, float]:
    """What the log says of one level.

    Parameters
    ----------
    assignment
        int64 (N,): each image's cluster, of ``clusters``.
    labels
        int64 (N,) by label level.

    Returns
    -------
    ``images_min``, ``images_median``, ``images_max``: images per cluster, empty ones too; for each label level L ``ami_L``, the adjusted
    mutual information, and ``purity_L``, the share of images whose label is their cluster's most frequent one, of at most
    ``MEASURED_IMAGES`` images.
    """
    sizes = np.bincount(assignment, minlength=clusters)
    numbers = {"images_min": float(sizes.min()), "images_median": float(np.median(sizes)), "images_max": float(sizes.max())}
    chosen = np.linspace(0, len(assignment) - 1, min(len(assignment), MEASURED_IMAGES)).round().astype(np.int64)
    for name, truth in (labels or {}).items():
        table = contingency_matrix(truth[chosen], assignment[chosen], sparse=True)
        numbers[f"ami_{name}"] = float(adjusted_mutual_info_score(truth[chosen], assignment[chosen]))
        numbers[f"purity_{name}"] = float(table.max(axis=0).sum() / len(chosen))
    return numbers
