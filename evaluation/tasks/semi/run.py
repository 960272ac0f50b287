"""Classification with few labels, as a task."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.extraction.labelled import LabelledData, labelled_data
from evaluation.extraction.subsets import stratified_subset
from evaluation.tasks.finetune.run import (
    Setting,
    curves,
    headline_of,
    image_counts,
    labelled_part,
    per_class,
    prepare_setting,
    right_images,
    training_protocol,
)
from evaluation.tasks.finetune.training import FineTuned, Labelled, outputs_of
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.linear.run import sweep_logistic
from evaluation.tasks.presets import find
from evaluation.tasks.runtime import Runtime, make_result
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
    if isinstance(preset, str):
        preset = find("preset", preset, SEMI_PRESETS)
    runtime = Runtime() if runtime is None else runtime
    if isinstance(data, Data):
        data = labelled_data(data, processes=runtime.processes, progress=runtime.progress)
    chosen, origin = labelled_images(data, preset, runtime)
    percent = preset.percent if preset.labels is None else 100 * len(chosen) / len(data.train)
    setting = prepare_setting(model, data, preset, chosen, image_size, runtime)
    started = time.perf_counter()
    found = {"fine-tune": _fine_tuned, "pseudo-labels": _with_pseudo_labels, "frozen": _frozen}[preset.way](setting, percent)
    return make_result(
        model,
        data,
        runtime,
        setting.transform,
        task="semi",
        preset=preset.name_at(setting.transform.crop),
        protocol={
            "way": preset.way,
            "percent": percent,
            "labelled_images": origin,
            **found["protocol"],
            "changed": preset.changed_from(SEMI_PRESETS),
        },
        headline=found["headline"],
        metrics=found["metrics"],
        counts={"correct": found["correct"], "labelled": len(chosen), **image_counts(setting), **found.get("counts", {})},
        details=found["details"],
        correct=found["right"],
        seconds={"training": time.perf_counter() - started},
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
    error: UserError | None = None
    if runtime.processes.is_main:
        try:
            simclr_list(percent)
        except UserError as caught:
            error = caught
    runtime.processes.raise_first(error)
    return read_label_list(simclr_list(percent), data.train)


def _fine_tuned(setting: Setting, percent: float) -> dict[str, Any]:
    assert isinstance(setting.preset, SemiPreset)
    tried = setting.preset.grid or (setting.preset.rates_for(percent),)
    tuned: list[FineTuned] = []
    for number, rates in enumerate(tried):
        tuned.append(setting.fine_tune("semi", rates, percent, part=f"{number}" if len(tried) > 1 else ""))
    best = max(tuned, key=lambda one: one.history.epochs[one.selected]["held_out_correct"] if one.selected is not None else 0)
    metrics, correct = best.numbers()
    details: dict[str, Any] = {"epochs": curves(best), "per_class": per_class(setting.data, best.final, headline_of(metrics))}
    if len(tried) > 1:
        details["grid"] = [{**asdict(one.rates), **one.numbers()[0], "held_out_top1": max(curves(one)["held_out_top1"])} for one in tuned]
    return {
        "protocol": {**training_protocol(setting.preset, best), "grid": len(tried)},
        "headline": headline_of(metrics),
        "metrics": metrics,
        "correct": correct,
        "details": details,
        "right": right_images(setting, best, metrics),
    }


def _with_pseudo_labels(setting: Setting, percent: float) -> dict[str, Any]:
    """Fine-tune; label the other training images; train again, from the first weights, with the surest of these labels too."""
    preset, data = setting.preset, setting.data
    assert isinstance(preset, SemiPreset)
    rates = preset.rates_for(percent)
    plain = setting.fine_tune("semi", rates, percent, part="plain")
    held = setting.held_out.positions if setting.held_out is not None else np.empty(0, dtype=np.int64)
    others = np.setdiff1d(np.arange(len(data.train)), np.concatenate([setting.train.positions, held]))
    if len(others) == 0:
        raise UserError("all training images are labelled, so none are left for pseudo-labels; give a smaller --percent")
    unlabelled = labelled_part(data, others)
    outputs = outputs_of(plain.network, unlabelled.images, setting.transform, setting.runtime)
    chosen = choose_pseudo_labels(outputs, max_entropy=preset.max_entropy, per_class=preset.per_class)
    if len(chosen.positions) == 0:
        raise UserError(
            f"the network is not sure of any of {len(others)} images (entropy within {preset.max_entropy:g} bits); "
            "raise --max-entropy, or train longer"
        )
    again = setting.fine_tune("semi", rates, percent, train=_joined(setting, others, chosen), part="pseudo")
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
            "per_class": per_class(data, again.final, headline_of(metrics)),
        },
        "right": right_images(setting, again, metrics),
    }


def _joined(setting: Setting, others: NDArray[np.int64], chosen: PseudoLabels) -> Labelled:
    """The labelled images and those with pseudo-labels, in the order of the split."""
    positions = np.concatenate([setting.train.positions, others[chosen.positions]])
    labels = np.concatenate([setting.train.labels, chosen.labels])
    order = np.argsort(positions)
    return replace(labelled_part(setting.data, positions[order]), labels=labels[order])


def _frozen(setting: Setting, percent: float) -> dict[str, Any]:
    """Logistic regression on the labelled images' features, its C chosen on held-out ones; the network stays as it is."""
    preset, data, runtime = setting.preset, setting.data, setting.runtime
    held = setting.held_out.positions if setting.held_out is not None else np.empty(0, dtype=np.int64)
    labelled = labelled_part(data, np.union1d(setting.train.positions, held))
    regression = LINEAR_PRESETS["logreg"]
    # Without held-out images nothing can choose, and C is scikit-learn's default.
    regression = regression.change(holdout=preset.holdout) if len(held) else replace(regression, rates=(1.0,), holdout=0.0)
    train = runtime.features(setting.model, labelled.images, setting.transform)
    test = runtime.features(setting.model, data.test, setting.transform, fingerprint=data.facts.splits["test"].fingerprint)
    answers = sweep_logistic(regression, train, labelled.labels, test, setting.test.labels, setting.classes, runtime)
    found = answers.by_metric["selected"]
    correct = {"top1_frozen": found.correct}
    if found.correct5 is not None:
        correct["top5_frozen"] = found.correct5
    correct |= answers.counts
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
            "per_class": per_class(data, found, "top1_frozen"),
        },
        "right": {"top1_frozen": found.predictions == setting.test.labels},
    }
