"""HCSC's prototypes of features of one's own: clusters on three levels, each level's clusters grouped by the next.

    python examples/prototypes_of_my_features.py random:resnet18_small digits
"""

from __future__ import annotations

import sys

from sklearn.metrics import adjusted_mutual_info_score
from torch.nn.functional import normalize

import evaluation
from evaluation.clustering import Hierarchy, hierarchical_kmeans


def main(model: str, data: str, levels: tuple[int, ...] = (60, 30, 10)) -> Hierarchy:
    found = evaluation.extract(model, data, "train")
    hierarchy = hierarchical_kmeans(normalize(found.features, dim=1), levels)
    for count, clusters in zip(levels, hierarchy.assignments, strict=True):
        if found.labels is not None:
            print(f"{count} clusters: AMI with the classes {adjusted_mutual_info_score(found.labels, clusters.numpy()):.3f}")
    return hierarchy


if __name__ == "__main__":
    main(*sys.argv[1:3])
