"""The accuracy of a network's own classifier on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluation.extraction.labelled import LabelledData
from evaluation.statistics.accuracy import count_correct, per_class, right_answers
from evaluation.tasks.measurement import Measurement, made_ready, measurement
from evaluation.tasks.presets import Preset
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.top1.presets import TASK, OwnPreset
from zoo.data.base import Data
from zoo.data.outside import whole_number
from zoo.errors import UserError
from zoo.models.transforms import own_transform
from zoo.results import Result

if TYPE_CHECKING:
    from zoo.models.model import Model


def run_top1(
    model: Model,
    data: Data | LabelledData,
    *,
    preset: str | Preset = TASK.default_preset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """Top-1 and top-5 accuracy of a network whose outputs are the scores of the data's classes, in their order; nothing is trained.

    Classes whose names are the numbers 0 .. C-1 are the outputs of these numbers, though folders are sorted as text (0, 1, 10, 11, 2, ...).
    A network that was trained on folders in that order has its outputs in it too; so beside ``top1`` stands
    ``top1_outputs_sorted_as_text``. A network that knows the names of its outputs answers by them, in whatever order the data have them.

    Parameters are those of :func:`evaluation.tasks.knn.run.run_knn`.

    Raises
    ------
    UserError
        The network does not give one output for each class.
    """
    labelled: LabelledData
    chosen: Preset
    measured: Measurement[Preset, LabelledData]
    labelled, chosen, runtime = made_ready(TASK, data, preset, runtime)
    if isinstance(chosen, OwnPreset):
        transform = own_transform(model, image_size)
        measured = Measurement(task=TASK.name, model=model, data=labelled, preset=chosen, runtime=runtime, transform=transform)
    else:
        measured = measurement(TASK, model, labelled, chosen, image_size, runtime)
    with measured.timed("features"):
        outputs = measured.features("test").features
    classes = len(labelled.classes)
    if outputs.shape[1] != classes:
        raise UserError(
            f"'{model.name}' gives {outputs.shape[1]} outputs for an image, and '{labelled.data.spec}' has {classes} classes; "
            "task top1 is for a network with a classifier of its own (leave --features out), for others there are knn and linear"
        )
    truth = labelled.test.level(labelled.level).labels
    order = outputs_of_numbers(labelled.classes) if set(model.classes) != set(labelled.classes) else None
    named = outputs_of_names(model.classes, labelled.classes)
    if order is not None:
        outputs, as_text = outputs[:, order], outputs
    elif named is not None:
        outputs = outputs[:, named]
    found = count_correct(outputs, truth)
    correct = right_answers({"": found})
    if order is not None:
        correct["top1_outputs_sorted_as_text"] = count_correct(as_text, truth).correct
    return measured.result(
        protocol={
            "source": chosen.source,
            "changed": [],
            **({} if order is None else {"outputs": "those that the classes' names number"}),
            **({} if named is None else {"outputs": "by the classes' names, which the data have in another order"}),
        },
        headline="top1",
        metrics={name: 100 * count / found.total for name, count in correct.items()},
        counts={"correct": correct},
        answers=found,
        correct={"top1": found.predictions == truth},
        details={"per_class": per_class(labelled.classes, {"top1": found})},
    )


def outputs_of_names(own: Sequence[str], classes: Sequence[str]) -> list[int] | None:
    """For each class of the data the output of that name, where the network has the same names in another order; else None."""
    place = {name: number for number, name in enumerate(own)}
    if len(place) != len(classes) or tuple(own) == tuple(classes) or not all(name in place for name in classes):
        return None
    return [place[name] for name in classes]


def outputs_of_numbers(classes: Sequence[str]) -> list[int] | None:
    """For each class the output that its name numbers, where names are the numbers 0 .. C-1 in another order than theirs; else None."""
    numbers = [whole_number(name) for name in classes]
    order = [number for number in numbers if number is not None]
    return order if sorted(order) == list(range(len(classes))) and order != sorted(order) else None
