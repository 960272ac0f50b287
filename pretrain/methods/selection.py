"""HCSC's selection of negatives and of prototypes, and its losses (Guo et al., arXiv 2202.00455; details as in its published code).

An image's *cluster* on a level is its assignment at the last survey. A negative that probably belongs to the query's own cluster is
rejected at random, the more likely the closer it is; so is a prototype whose parent probably is the query's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.clustering import Hierarchy
from pretrain.methods.parts import full_precision, info_nce

# Bounds of the probability to keep a candidate, as published. The upper one rejects one candidate in a thousand whatever it is.
MOST_KEPT = 0.999
LEAST_PROTOTYPES_KEPT = 1e-4
# No density below this divides similarities of negatives, as published.
_LEAST_DENSITY = 1e-3
# Rows of similarities that :func:`dropped_share` holds at a time.
_ROWS = 1024


class Rejected(StrEnum):
    """What becomes of a rejected candidate: its logit is set to 0, which leaves exp(0) = 1 in the denominator; or it leaves the sum."""

    zero = "zero"
    drop = "drop"


class LossLevels(StrEnum):
    """How the instance losses of the levels are joined."""

    sum = "sum"
    mean = "mean"


@dataclass(frozen=True)
class Prototypes:
    """What a step needs of a hierarchy with L levels, M_l clusters on level l, worked out once for each survey.

    Attributes
    ----------
    centroids, densities
        L x float32 (M_l, D) and (M_l,).
    clusters
        L x int64 (N,): the cluster of each training image.
    parents
        L - 1 x int64 (M_l,).
    keep
        L - 1 x float32 (M_{l+1}, M_l): the probability to keep prototype j of level l for a query whose cluster on level l + 1 is the row.
    candidates
        L x bool (M_l,): which prototypes may be negatives at all.
    """

    centroids: tuple[Tensor, ...]
    densities: tuple[Tensor, ...]
    clusters: tuple[Tensor, ...]
    parents: tuple[Tensor, ...]
    keep: tuple[Tensor, ...]
    candidates: tuple[Tensor, ...]

    @classmethod
    def of(cls, hierarchy: Hierarchy, temperature: float, *, last: bool) -> Prototypes:
        """From a hierarchy over all training images. ``last``: whether the cluster of the highest number may be a negative."""
        keep = tuple(
            keep_prototypes(similarities, densities, temperature)
            for similarities, densities in zip(hierarchy.similarities, hierarchy.densities[1:], strict=True)
        )
        candidates = tuple(
            torch.arange(len(centroids), device=centroids.device) < int(clusters.max()) + last
            for centroids, clusters in zip(hierarchy.centroids, hierarchy.assignments, strict=True)
        )
        return cls(hierarchy.centroids, hierarchy.densities, hierarchy.assignments, hierarchy.parents, keep, candidates)


@dataclass(frozen=True)
class Masks:
    """What a step keeps; True is kept.

    Attributes
    ----------
    negatives
        L x bool (b, K): of the queue, for all views of an image alike. Empty: no instance selection.
    prototypes
        For each view, the query first: L - 1 x bool (b, M_l). Empty: no prototype selection.
    """

    negatives: tuple[Tensor, ...] = ()
    prototypes: tuple[tuple[Tensor, ...], ...] = ()


def keep_negatives(negatives: Tensor, centroids: Tensor, densities: Tensor, clusters: Tensor) -> Tensor:
    """float32 (b, K): 1 - the probability that negative j belongs to query i's cluster.

    That is a softmax over the clusters of similarity / density, of which only the queries' own columns are worked out.

    Parameters
    ----------
    negatives
        float32 (K, D), of unit length.
    centroids, densities
        float32 (M, D), (M,).
    clusters
        int64 (b,): the queries' clusters.
    """
    scaled = centroids / densities.clamp(min=_LEAST_DENSITY)[:, None]
    normaliser = torch.logsumexp(negatives @ scaled.T, dim=1)
    return 1 - torch.exp(scaled[clusters] @ negatives.T - normaliser)


def keep_prototypes(similarities: Tensor, densities: Tensor, temperature: float) -> Tensor:
    """float32 (M', M): 1 - the probability that prototype j (column) has the parent of the row.

    Parameters
    ----------
    similarities
        float32 (M, M'): cosines between a level's prototypes and those of the level above.
    densities
        float32 (M',): of the level above; brought to the mean ``temperature``, which they have already.
    """
    return (1 - torch.softmax(similarities / (temperature * densities / densities.mean()), dim=1)).T.contiguous()


@torch.no_grad()
def draw_masks(prototypes: Prototypes, negatives: Tensor, index: Tensor, draws: torch.Generator, *, instances: bool, views: int) -> Masks:
    """Bernoulli masks for a batch.

    Parameters
    ----------
    negatives
        float32 (K, D): the queue.
    index
        int64 (b,): positions of the batch's images in the training set.
    draws
        On the device of the rest.
    instances
        Whether negatives are selected.
    views
        For how many views prototypes are selected; 0: they are not.
    """
    own = [clusters[index] for clusters in prototypes.clusters]
    kept_negatives = []
    for centroids, densities, clusters in zip(prototypes.centroids, prototypes.densities, own, strict=True) if instances else ():
        probability = keep_negatives(negatives, centroids, densities, clusters).clamp(0, MOST_KEPT)
        kept_negatives.append(_draw(probability, draws))
    probabilities = [table[above].clamp(LEAST_PROTOTYPES_KEPT, MOST_KEPT) for table, above in zip(prototypes.keep, own[1:], strict=True)]
    kept_prototypes = tuple(tuple(_draw(probability, draws) for probability in probabilities) for _ in range(views))
    return Masks(tuple(kept_negatives), kept_prototypes)


def _draw(probability: Tensor, draws: torch.Generator) -> Tensor:
    return torch.rand(probability.shape, generator=draws, device=probability.device) < probability


@torch.no_grad()
def dropped_share(negatives: Tensor, centroids: Tensor, densities: Tensor, clusters: Tensor) -> float:
    """The expected share of negatives (K, D) that a level's selection rejects, over all images with the given clusters (N,)."""
    scaled = centroids / densities.clamp(min=_LEAST_DENSITY)[:, None]
    shares = torch.bincount(clusters, minlength=len(centroids)).to(scaled) / len(clusters)
    dropped = [torch.softmax(part @ scaled.T, dim=1).clamp(min=1 - MOST_KEPT) @ shares for part in negatives.split(_ROWS)]
    return float(torch.cat(dropped).mean())


def masked_nce(positive: Tensor, negatives: Tensor, kept: Tensor | None, rejected: Rejected, candidates: Tensor | None = None) -> Tensor:
    """InfoNCE of logits with rejected negatives.

    Parameters
    ----------
    positive, negatives
        float32 (b,), (b, K): similarities over temperature.
    kept
        bool (b, K); None keeps all.
    rejected
        What becomes of the others.
    candidates
        bool (b, K): those that are no candidates are not in the sum, whatever ``rejected`` says. None: all are.

    Returns
    -------
    Mean over the batch, a scalar.
    """
    if kept is not None:
        negatives = negatives.where(kept, 0.0 if rejected is Rejected.zero else -torch.inf)
    if candidates is not None:
        negatives = negatives.where(candidates, -torch.inf)
    logits = torch.cat([positive[:, None], negatives], dim=1)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def instance_losses(query: Tensor, key: Tensor, negatives: Tensor, masks: Masks, temperature: float, rejected: Rejected) -> list[Tensor]:
    """InfoNCE of a view against the key and the queue: one scalar for each level, or a single unselected one without masks.

    ``query``, ``key`` float32 (b, D), ``negatives`` float32 (K, D), all of unit length.
    """
    if not masks.negatives:
        return [info_nce(query, key, negatives, temperature)]
    with full_precision(query):
        positive, logits = (query * key).sum(1) / temperature, query @ negatives.T / temperature
        return [masked_nce(positive, logits, kept, rejected) for kept in masks.negatives]


def prototype_losses(
    query: Tensor, index: Tensor, prototypes: Prototypes, kept: Sequence[Tensor], rejected: Rejected, groups: int = 1
) -> list[Tensor]:
    """InfoNCE of a view against the prototypes of each level: L scalars.

    The positive is the prototype of the image's cluster. Clusters of other images in the same group are no negatives. The top level
    has no parents to be selected by.

    Parameters
    ----------
    query
        float32 (b, D), of unit length.
    index
        int64 (b,): positions of the images in the training set.
    kept
        L - 1 x bool (b, M_l), or empty: no selection.
    groups
        The batch consists of so many consecutive groups, as on so many devices.
    """
    losses = []
    with full_precision(query):
        for level, centroids in enumerate(prototypes.centroids):
            own = prototypes.clusters[level][index]
            logits = query @ centroids.T / prototypes.densities[level]
            candidates = prototypes.candidates[level] & ~_in_group(own, len(centroids), groups)
            mask = kept[level] if level < len(kept) else None
            losses.append(masked_nce(logits.gather(1, own[:, None])[:, 0], logits, mask, rejected, candidates))
    return losses


def _in_group(own: Tensor, count: int, groups: int) -> Tensor:
    """bool (b, count): whether a cluster is that of any image in the row's group."""
    found = torch.zeros(groups, count, dtype=torch.bool, device=own.device)
    found.scatter_(1, own.view(groups, -1), True)
    return found[:, None].expand(-1, len(own) // groups, -1).reshape(len(own), count)


def hcsc_losses(
    queries: Sequence[Tensor],
    key: Tensor,
    negatives: Tensor,
    index: Tensor,
    prototypes: Prototypes,
    masks: Masks,
    *,
    temperature: float,
    rejected: Rejected = Rejected.zero,
    loss_levels: LossLevels = LossLevels.sum,
    selection_on_local: bool = True,
    prototype_term: bool = True,
    groups: int = 1,
) -> dict[str, Tensor]:
    """HCSC's losses after the warm-up, by name; scalars.

    ``contrastive``: instance losses of the query, joined over levels. ``local_contrastive``: the same for local views, with the same
    masks, summed over views. ``prototype``: prototype losses, mean over levels. ``local_prototype``: summed over local views.

    Parameters
    ----------
    queries
        float32 (b, D) each: the query's embedding, then those of the local views.
    key, negatives
        float32 (b, D), (K, D).
    index, groups
        As in :func:`prototype_losses`.
    masks
        What is kept.
    selection_on_local
        Whether local views' negatives are selected too; else each has a single unselected loss.
    prototype_term
        Whether there are prototype losses at all.
    """

    def joined(view: int, masks: Masks) -> Tensor:
        return join_levels(instance_losses(queries[view], key, negatives, masks, temperature, rejected), loss_levels)

    losses = {"contrastive": joined(0, masks)}
    local = [joined(view, masks if selection_on_local else Masks()) for view in range(1, len(queries))]
    if local:
        losses["local_contrastive"] = torch.stack(local).sum()
    if prototype_term:
        losses |= prototype_terms(queries, index, prototypes, masks, rejected, groups)
    return losses


def join_levels(losses: Sequence[Tensor], how: LossLevels) -> Tensor:
    """The instance losses of the levels as one."""
    total = torch.stack(list(losses)).sum(0) if len(losses) > 1 else losses[0]
    return total / len(losses) if how is LossLevels.mean else total


def prototype_terms(
    queries: Sequence[Tensor], index: Tensor, prototypes: Prototypes, masks: Masks, rejected: Rejected, groups: int
) -> dict[str, Tensor]:
    """``prototype`` and, with local views, ``local_prototype``, as :func:`hcsc_losses` has them and with its parameters."""
    means = []
    for view, query in enumerate(queries):
        kept = masks.prototypes[view] if masks.prototypes else ()
        means.append(torch.stack(prototype_losses(query, index, prototypes, kept, rejected, groups)).mean())
    return {"prototype": means[0]} | ({"local_prototype": torch.stack(means[1:]).sum()} if means[1:] else {})
