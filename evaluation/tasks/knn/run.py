"""kNN of a model on a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.extraction.labelled import LabelledData
from evaluation.statistics.accuracy import per_class, right_answers
from evaluation.tasks.knn.presets import TASK, KnnPreset
from evaluation.tasks.knn.votes import evaluate_knn
from evaluation.tasks.measurement import made_ready, measurement
from evaluation.tasks.runtime import Runtime
from zoo.data.base import Data, Level
from zoo.results import Result

if TYPE_CHECKING:
    from zoo.models.model import Model

# Test images whose neighbours a result lists, and how many neighbours of each.
SHOWN_QUERIES, SHOWN_NEIGHBOURS = 10, 8


def sample_queries(level: Level, count: int = SHOWN_QUERIES) -> NDArray[np.int64]:
    """Positions of ``count`` test images whose neighbours a result shows: the classes in turn, in each from its first image on."""
    members = [np.flatnonzero(level.labels == c) for c in range(len(level.classes))]
    longest = max(map(len, members))
    in_turn = [int(rows[turn]) for turn in range(min(longest, count)) for rows in members if turn < len(rows)]
    return np.sort(np.array(in_turn[:count], dtype=np.int64))


def run_knn(
    model: Model,
    data: Data | LabelledData,
    *,
    preset: str | KnnPreset = TASK.default_preset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """kNN evaluation of a model on a data set by a preset: the test split's images classified by those of the train split.

    Parameters
    ----------
    model
        As :func:`zoo.model_spec.open_model` gives it.
    data
        As :func:`zoo.data.open_data` gives it, or prepared by :func:`evaluation.extraction.labelled.labelled_data`, which has the choice of
        the label level and of what happens with bad images, and is done once for several models.
    preset
        A name in :data:`evaluation.tasks.knn.presets.KNN_PRESETS`, or such a preset with changes
        (``KNN_PRESETS["dino"].change(k=[1, 20])``).
    image_size
        Side of the images that reach the network. None: the preset's crop, or the images' own size where that is no larger.
    runtime
        Device, processes, batch size and the like; by default this process on the CPU.

    Raises
    ------
    UserError
        Whatever :func:`labelled_data`, :func:`extract_features` and :func:`evaluate_knn` refuse.
    """
    labelled, chosen, runtime = made_ready(TASK, data, preset, runtime)
    measured = measurement(TASK, model, labelled, chosen, image_size, runtime)
    with measured.timed("features"):
        train, test = measured.features("train"), measured.features("test")
    truth = test.levels[labelled.level].labels
    with measured.timed("search_and_vote"):
        evaluation = evaluate_knn(
            train.features,
            train.levels[labelled.level].labels,
            test.features,
            truth,
            k=chosen.k,
            temperature=chosen.temperature,
            weight=chosen.weight,
            num_classes=len(labelled.classes),
            normalize=chosen.similarity == "cosine",
            device=runtime.device,
            processes=runtime.processes,
        )

    total = len(labelled.test)
    shown = sample_queries(labelled.test.level(labelled.level))
    correct = right_answers({f"_k{k}": score for k, score in evaluation.scores.items()})
    return measured.result(
        protocol={
            "k": list(chosen.k),
            "temperature": chosen.temperature,
            "weight": chosen.weight,
            "similarity": chosen.similarity,
            "source": chosen.source,
            "changed": chosen.changed,
        },
        headline=f"top1_k{chosen.headline_k}",
        metrics={name: 100 * count / total for name, count in correct.items()},
        counts={"correct": correct, "clamped": {f"k{k}": used for k, used in evaluation.clamped.items()}},
        answers=evaluation.scores[chosen.headline_k],
        correct={f"top1_k{chosen.headline_k}": evaluation.scores[chosen.headline_k].predictions == truth},
        details={
            "feature_width": train.features.shape[1],
            "neighbours": {"test": shown.tolist(), "train": evaluation.nearest[shown, :SHOWN_NEIGHBOURS].tolist()},
            "per_class": per_class(labelled.classes, {f"top1_k{k}": score for k, score in evaluation.scores.items()}),
        },
    )
