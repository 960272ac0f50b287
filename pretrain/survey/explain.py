"""What a survey says of the run: whether prototypes agree with what they were and with the labels, whether boxes are boxes; and warnings.

The bounds of the warnings are choices, not results of anybody's; what is known of them stands in ``docs/survey.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from pretrain.survey.prototypes import cluster_agreement, hierarchy_of

# Below this AMI with a label level clusters are hardly better than chance (0), whatever the number of clusters.
CHANCE_AMI = 0.05
# Rejection that meets a query's own class less often than this times chance helps no more than rejecting at random.
CHANCE_REJECTION = 1.5
# Share of boxes that are the whole image, from which on crops follow nothing.
MOSTLY_FULL = 0.9


def cluster_changes(before: Mapping[str, NDArray[np.generic]], after: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """AMI of each level's clusters with those of the survey before (``prototypes/LEVEL/ami_before``); empty where there is no such pair.

    Near 0: the clusters are made up anew each time. They are of the same images in the same order; of at most 50,000, evenly spread.
    """
    old, new = hierarchy_of(before), hierarchy_of(after)
    if old is None or new is None or len(old.assignments) != len(new.assignments):
        return {}
    return {f"prototypes/{level}/ami_before": cluster_agreement(old, new, level) for level in range(len(new.assignments))}


def warnings_of(numbers: Mapping[str, float], warmup: int | None = None) -> Iterator[tuple[str, str]]:
    """Kind and sentence of what is doubtful about a survey's numbers; a run says each kind once."""
    label = next((name.rpartition("_")[2] for name in numbers if name.startswith("prototypes/0/rejected_")), "")
    agreement, precision, chance = (numbers.get(f"prototypes/0/{name}_{label}") for name in ("ami", "rejected", "chance"))
    if None not in (agreement, precision, chance) and numbers.get("prototypes/steer", 1.0):
        assert agreement is not None
        assert precision is not None
        assert chance is not None
        if agreement < CHANCE_AMI and precision < CHANCE_REJECTION * chance:
            later = "" if warmup is None else f" (now {warmup})"
            yield (
                "prototypes",
                f"warning: the prototypes steer at chance: their AMI with '{label}' is {agreement:.3f}, and {100 * precision:.1f} % of the "
                f"rejected negatives are of the query's own '{label}', of all {100 * chance:.1f} %; let the encoder learn first, by a "
                f"larger method.warmup_epochs{later}, method.start_ami=0.5 or init=",
            )
    if numbers.get("boxes/full", 0.0) > MOSTLY_FULL:
        yield (
            "boxes",
            f"warning: {100 * numbers['boxes/full']:.0f} % of the boxes are the whole image, so crops follow nothing; try "
            "boxes.quantile=0.75",
        )
