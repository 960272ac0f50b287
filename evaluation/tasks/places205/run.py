"""A linear layer on Places205, as a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.extraction.labelled import LabelledData
from evaluation.tasks.finetune.presets import FineTunePreset
from evaluation.tasks.finetune.run import run_training
from evaluation.tasks.places205.presets import TASK
from evaluation.tasks.runtime import Runtime
from zoo.data.base import Data
from zoo.data.sets.places205 import NAME
from zoo.errors import UserError
from zoo.results import Result

if TYPE_CHECKING:
    from zoo.models.model import Model


def run_places205(
    model: Model,
    data: Data | LabelledData,
    *,
    preset: str | FineTunePreset = TASK.default_preset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """Train a linear layer on the frozen network, on augmented images, and test it after each epoch.

    Parameters
    ----------
    data
        ``places205:ROOT`` as :func:`zoo.data.open_data` gives it, or prepared by :func:`evaluation.extraction.labelled.labelled_data`.
    preset
        A name in :data:`evaluation.tasks.places205.presets.PLACES205_PRESETS`, or such a preset with changes
        (:func:`evaluation.tasks.finetune.presets.change_training`).
    model, image_size, runtime
        As in :func:`evaluation.tasks.finetune.run.run_finetune`.

    Raises
    ------
    UserError
        Data that are not Places205; whatever ``run_finetune`` refuses.
    """
    opened = data if isinstance(data, Data) else data.data
    if opened.name != NAME:
        raise UserError(f"task places205 is for --data places205:ROOT, not for '{opened.spec}'; for other data take task linear")
    return run_training(TASK, model, data, preset, image_size, runtime)
