"""Classification with few labels, as a task."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.extraction.labelled import LabelledData
from evaluation.extraction.subsets import stratified_subset
from evaluation.statistics.accuracy import per_class, right_answers
from evaluation.tasks.finetune.run import (
    TrainingMeasurement,
    curves,
    headline_of,
    labelled_part,
    training_measurement,
    training_protocol,
)
from evaluation.tasks.finetune.training import FineTuned, Labelled
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.linear.sweep import sweep_logistic
from evaluation.tasks.measurement import made_ready
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.semi.label_lists import SIMCLR_SHA256, read_label_list, simclr_list
from evaluation.tasks.semi.presets import SEMI_PRESETS, TASK, SemiPreset
from evaluation.tasks.semi.pseudo_labels import PseudoLabels, choose_pseudo_labels
from zoo.data.base import CLASS_LEVEL, Data
from zoo.data.sets.imagenet import IMAGENET
from zoo.data.sets.imagenet_lists import IMAGENET_CLASSES
from zoo.errors import UserError
from zoo.results import Result

if TYPE_CHECKING:
    from zoo.models.model import Model


# A share of labels within this part of what was asked for is what was asked for: of each class there is a whole number.
_SAME_SHARE = 0.1


def run_semi(
    model: Model,
    data: Data | LabelledData,
    *,
    preset: str | SemiPreset = TASK.default_preset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """Learn from the labels of a small share of the train split, and test on the test split.

    The labelled images are SimCLR's for 1 % and 10 % of all 1000 classes of ImageNet, those of the preset's list where it has one, and else
    the share of each class that the runtime's seed draws.

    Parameters
    ----------
    model, data, image_size, runtime
        As in :func:`evaluation.tasks.finetune.run.run_finetune`.
    preset
        A name in :data:`evaluation.tasks.semi.presets.SEMI_PRESETS`, or such a preset with changes
        (``SEMI_PRESETS["hcsc"].change(percent=10)``).

    Raises
    ------
    UserError
        Lists that cannot be had or do not fit; whatever ``run_finetune`` refuses.
    """
    labelled, chosen, runtime = made_ready(TASK, data, preset, runtime)
    positions, origin = labelled_images(labelled, chosen, runtime)
    percent = chosen.percent if chosen.labels is None else 100 * len(positions) / len(labelled.train)
    share = 100 * len(positions) / len(labelled.train)
    measured = training_measurement(TASK, model, labelled, chosen, positions, image_size, runtime)
    if abs(share - percent) > _SAME_SHARE * percent:
        measured.doubt(
            [f"{percent:g} % of the labels were asked for, and {len(positions):,} of {len(labelled.train):,} ({share:.3g} %) are used"]
        )
    way = {"fine-tune": _fine_tuned, "pseudo-labels": _with_pseudo_labels, "frozen": _frozen}[chosen.way]
    with measured.timed("training"):
        found = way(measured, percent)
    return measured.result(
        protocol={
            "way": chosen.way,
            "percent": percent,
            "percent_labelled": share,
            "labelled_images": origin,
            **found["protocol"],
            "changed": chosen.changed_from(SEMI_PRESETS),
        },
        headline=found["headline"],
        metrics=found["metrics"],
        counts={"correct": found["correct"], "labelled": len(positions), **measured.image_counts(), **found.get("counts", {})},
        details=found["details"],
        correct=found["right"],
        answers=found["answers"],
    )


def labelled_images(data: LabelledData, preset: SemiPreset, runtime: Runtime) -> tuple[NDArray[np.int64], str]:
    """Positions of the training images that keep their labels, and where these come from."""
    labels = data.train.level(data.level).labels
    percent = preset.percent
    if preset.labels is not None:
        chosen, origin = read_label_list(preset.labels, data.train), f"the list {preset.labels.name}"
    elif data.data.name == IMAGENET and len(data.train.level(CLASS_LEVEL).classes) == IMAGENET_CLASSES and percent in SIMCLR_SHA256:
        chosen, origin = _simclr(data, int(percent), runtime), f"SimCLR's list, sha256 {SIMCLR_SHA256[int(percent)]}"
    else:
        chosen, origin = stratified_subset(labels, percent, runtime.seed), f"{percent:g} % of each class, seed {runtime.seed}"
    absent = np.setdiff1d(np.unique(labels), np.unique(labels[chosen]))
    if len(absent):
        name = data.classes[absent[0]]
        raise UserError(f"no labelled image is of class '{name}' ({len(absent)} classes are without any); nothing could learn it")
    return chosen, origin


def _simclr(data: LabelledData, percent: int, runtime: Runtime) -> NDArray[np.int64]:
    """By one process first, so that not all of them fetch the list."""
    runtime.processes.from_main(lambda: simclr_list(percent))
    return read_label_list(simclr_list(percent), data.train)


def _fine_tuned(measured: TrainingMeasurement[SemiPreset], percent: float) -> dict[str, Any]:
    tried = measured.preset.grid or (measured.preset.rates_for(percent),)
    tuned: list[FineTuned] = []
    for number, rates in enumerate(tried):
        tuned.append(measured.fine_tune(rates, percent, part=f"{number}" if len(tried) > 1 else ""))
    best = max(tuned, key=lambda one: one.history.epochs[one.selected]["held_out_correct"] if one.selected is not None else 0)
    measured.keep_network(best)
    metrics, correct = best.numbers()
    details: dict[str, Any] = {"epochs": curves(best), "per_class": per_class(measured.data.classes, {headline_of(metrics): best.final})}
    if len(tried) > 1:
        details["grid"] = [{**asdict(one.rates), **one.numbers()[0], "held_out_top1": max(curves(one)["held_out_top1"])} for one in tuned]
    return {
        "protocol": {**training_protocol(measured.preset, best), "grid": len(tried)},
        "headline": headline_of(metrics),
        "metrics": metrics,
        "correct": correct,
        "details": details,
        "right": measured.right_images(best, metrics),
        "answers": best.final,
    }


def _with_pseudo_labels(measured: TrainingMeasurement[SemiPreset], percent: float) -> dict[str, Any]:
    """Fine-tune; label the other training images; train again, from the first weights, with the surest of these labels too."""
    preset, data = measured.preset, measured.data
    rates = preset.rates_for(percent)
    plain = measured.fine_tune(rates, percent, part="plain")
    others = np.setdiff1d(np.arange(len(data.train)), _all_labelled(measured))
    if len(others) == 0:
        raise UserError("all training images are labelled, so none are left for pseudo-labels; give a smaller --percent")
    unlabelled = labelled_part(data, others)
    outputs = measured.runtime.outputs(plain.network, unlabelled.images, measured.transform)
    chosen = choose_pseudo_labels(outputs, max_entropy=preset.max_entropy, per_class=preset.per_class)
    if len(chosen.positions) == 0:
        raise UserError(
            f"the network is not sure of any of {len(others)} images (entropy within {preset.max_entropy:g} bits); "
            "raise --max-entropy, or train longer"
        )
    again = measured.fine_tune(rates, percent, train=_joined(measured, others, chosen), part="pseudo")
    measured.keep_network(again)
    metrics, correct = again.numbers()
    first_metrics, first_correct = ({name.replace("_", "_plain_", 1): value for name, value in one.items()} for one in plain.numbers())
    right = unlabelled.labels[chosen.positions] == chosen.labels
    return {
        "protocol": {
            **training_protocol(preset, again),
            "max_entropy_bits": preset.max_entropy,
            "per_class": preset.per_class,
            "second_start": "the model's weights, not the fine-tuned ones",
        },
        "headline": headline_of(metrics),
        "metrics": {**metrics, **first_metrics, "pseudo_labels_right": 100 * float(right.mean())},
        "correct": {**correct, **first_correct},
        "counts": {
            "unlabelled": len(others),
            "within_max_entropy": chosen.sure,
            "pseudo_labels": len(chosen.positions),
            "pseudo_labels_right": int(right.sum()),
        },
        "details": {
            "epochs": curves(again),
            "epochs_plain": curves(plain),
            "pseudo_labels_by_class": chosen.by_class.tolist(),
            "per_class": per_class(data.classes, {headline_of(metrics): again.final}),
        },
        "right": measured.right_images(again, metrics),
        "answers": again.final,
    }


def _all_labelled(measured: TrainingMeasurement[SemiPreset]) -> NDArray[np.int64]:
    """Positions of the labelled images, those held out included, ascending."""
    parts = [measured.train, *([] if measured.held_out is None else [measured.held_out])]
    return np.sort(np.concatenate([part.positions for part in parts]))


def _joined(measured: TrainingMeasurement[SemiPreset], others: NDArray[np.int64], chosen: PseudoLabels) -> Labelled:
    """The labelled images and those with pseudo-labels, in the order of the split."""
    positions = np.concatenate([measured.train.positions, others[chosen.positions]])
    labels = np.concatenate([measured.train.labels, chosen.labels])
    order = np.argsort(positions)
    return replace(labelled_part(measured.data, positions[order]), labels=labels[order])


def _frozen(measured: TrainingMeasurement[SemiPreset], percent: float) -> dict[str, Any]:
    """Logistic regression on the labelled images' features, its C chosen by folds or on held-out ones; the network stays as it is."""
    preset, data, runtime = measured.preset, measured.data, measured.runtime
    labelled = labelled_part(data, _all_labelled(measured))
    regression = LINEAR_PRESETS["logreg"]
    if preset.folds:
        regression = replace(regression, holdout=0.0)
    elif measured.held_out is not None:
        regression = regression.change(holdout=preset.holdout)
    else:  # nothing can choose, and C is scikit-learn's default
        regression = replace(regression, rates=(1.0,), holdout=0.0)
    train, test = runtime.features(measured.model, labelled.images, measured.transform), measured.features("test")
    answers = sweep_logistic(regression, train, labelled.labels, test, measured.test.labels, len(data.classes), runtime, folds=preset.folds)
    found = answers.by_name["selected"]
    if answers.layer is not None:
        measured.keep(*answers.layer)
    correct = right_answers({"_frozen": found}) | answers.counts
    return {
        "protocol": {"classifier": "logistic regression, L2", "holdout": preset.holdout, "source": preset.source, **answers.protocol},
        # Once C is chosen all labelled images are learnt from.
        "counts": {"trained_on": len(labelled.images)},
        "headline": "top1_frozen",
        "metrics": {name: 100 * count / len(data.test) for name, count in correct.items()},
        "correct": correct,
        "details": {
            "feature_width": train.features.shape[1],
            **answers.details,
            "per_class": per_class(data.classes, {"top1_frozen": found}),
        },
        "right": {"top1_frozen": found.predictions == measured.test.labels},
        "answers": found,
    }
