"""Images that are there twice: the same bytes, or nearly the same picture.

Near duplicates are searched for by sorted neighbourhoods (M. Charikar, "Similarity estimation techniques from rounding algorithms", STOC
2002, section 3): the hashes are sorted under several orders of their bits, and each is compared with the few that follow it. Two hashes
that differ in few bits stand close in at least one order, and the work grows with the number of images, not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from zoo.data.inspection.thumbnails import HASH_BITS, contrasts, correlations, differing_bits, perceptual_hashes

# Two images are near duplicates if their hashes differ in at most so many of 128 bits and their thumbnails correlate at least so much.
# docs/data-look.md says how these were chosen.
MOST_BITS = 24
LEAST_CORRELATION = 0.98
# Below this contrast (in grey levels) a thumbnail is noise, and says nothing: the image is called uniform instead.
LEAST_CONTRAST = 2.0
_ORDERS = 16
_NEIGHBOURS = 8
# Bits by which one order sorts; what is beyond them never parts two neighbours in practice.
_SORTED_BITS = 64
_SEED = 20130421


@dataclass(frozen=True)
class Duplicates:
    """Which images are alike.

    Attributes
    ----------
    exact
        int64 array (N,): the number of the image's group of equal bytes; -1 where no other image has the same.
    near
        int64 array (N,): the number of its group of nearly the same picture, equal ones included; -1 where there is no other. Groups are
        chains: each image is alike to at least one other of its group, not to all.
    uniform
        bool array (N,): images of one colour, as far as a thumbnail shows, which are compared by their bytes alone.
    """

    exact: NDArray[np.int64]
    near: NDArray[np.int64]
    uniform: NDArray[np.bool_]


def find_duplicates(digests: NDArray[np.uint8], thumbnails: NDArray[np.uint8]) -> Duplicates:
    """The groups of duplicates among N images.

    Parameters
    ----------
    digests
        uint8 (N, 16): hashes of their bytes.
    thumbnails
        uint8 (N, 9, 9), grey.
    """
    exact = _groups_of_equal(digests)
    uniform = contrasts(thumbnails) < LEAST_CONTRAST
    telling = np.flatnonzero(~uniform)
    pairs = telling[near_pairs(thumbnails[telling])]
    # Equal bytes join what the search may have missed.
    order = np.argsort(exact, kind="stable")
    order = order[exact[order] >= 0]
    same = exact[order[:-1]] == exact[order[1:]]
    joined = np.concatenate([pairs, np.stack([order[:-1][same], order[1:][same]], axis=1)])
    return Duplicates(exact, _groups_of_pairs(joined, len(digests)), uniform)


def near_pairs(thumbnails: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pairs (M, 2) of near duplicates among thumbnails (N, 9, 9); the first of each pair comes before the second."""
    hashes = perceptual_hashes(thumbnails)
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    generator = np.random.default_rng(_SEED)
    found = [np.empty(0, dtype=np.int64)]
    count = len(hashes)
    for _ in range(_ORDERS):
        chosen = generator.permutation(HASH_BITS)[:_SORTED_BITS]
        keys = np.ascontiguousarray(np.packbits(bits[:, chosen], axis=1)).view(">u8").ravel()
        order = np.argsort(keys.astype(np.uint64), kind="stable")
        ordered = hashes[order]
        for step in range(1, min(_NEIGHBOURS, count - 1) + 1):
            close = np.flatnonzero(differing_bits(ordered[:-step], ordered[step:]) <= MOST_BITS)
            one, other = order[close], order[close + step]
            found.append(np.minimum(one, other) * count + np.maximum(one, other))
    candidates = np.unique(np.concatenate(found))
    first, second = candidates // max(count, 1), candidates % max(count, 1)
    alike = correlations(thumbnails, first, second) >= LEAST_CORRELATION
    return np.stack([first[alike], second[alike]], axis=1)


def _groups_of_equal(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    whole = np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel()
    _, group, counts = np.unique(whole, return_inverse=True, return_counts=True)
    return _renumbered(group, counts)


def _groups_of_pairs(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    return _renumbered(group, np.bincount(group))


def _renumbered(group: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups of two or more, numbered in the order of their first members; -1 for an image alone."""
    several = counts[group] > 1
    result = np.full(len(group), -1, dtype=np.int64)
    _, first, again = np.unique(group[several], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    result[several] = rank[again]
    return result
