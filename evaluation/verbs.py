"""The tasks of ``evaluate`` in Python, by the words that the commands take: ``evaluation.knn("runs/moco", "cifar10:data", k=[20])``.

``run_knn`` and the others beside these take models and data that are open, and a :class:`evaluation.Runtime`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from evaluation.parallel import choose_device
from evaluation.tasks.registry import TASKS
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.task import load
from zoo.data import Data, open_data
from zoo.model_spec import open_model
from zoo.models.transforms import EvalTransform

if TYPE_CHECKING:
    from evaluation.extraction.features import Features
    from zoo.models.model import Model
    from zoo.results import Result


def measure(
    task: str,
    model: str | Path | Model,
    data: str | Data,
    *,
    preset: str | None = None,
    device: str = "auto",
    seed: int = 0,
    image_size: int | None = None,
    **options: Any,
) -> Result:
    """One task of ``evaluate`` on one model, by a preset with changes.

    Parameters
    ----------
    task
        ``"knn"``, ``"linear"`` and so on, as ``evaluate --help`` lists them.
    model
        What ``--model`` takes, or a model that :func:`zoo.open_model` has opened.
    data
        What ``--data`` takes, or data that :func:`zoo.data.open_data` has opened.
    preset
        A name; None: the task's default.
    device
        ``auto``, ``cpu`` or ``cuda``.
    seed, image_size
        As ``--seed`` and ``--image-size``.
    options
        What the preset is changed by, by the names of the task's options with values of Python: ``k=[1, 20]``, ``epochs=10``.

    Raises
    ------
    UserError
        Whatever the command would say.
    """
    chosen = TASKS[task]
    opened_data = open_data(data) if isinstance(data, str) else data
    settings = chosen.find(preset or chosen.default_preset)
    changed = chosen.change(settings, **options)
    if isinstance(model, (str, Path)):
        side = changed.images.fitting(opened_data.image_size, image_size).crop
        model = open_model(model, image_size=side)
    result: Result = load(chosen.run)(
        model, opened_data, preset=changed, image_size=image_size, runtime=Runtime(device=choose_device(device), seed=seed)
    )
    return result


def knn(model: str | Path | Model, data: str | Data, **settings: Any) -> Result:
    """kNN, as :func:`measure` takes it: ``knn("timm:resnet18", "folder:photos", k=[20])``."""
    return measure("knn", model, data, **settings)


def linear(model: str | Path | Model, data: str | Data, **settings: Any) -> Result:
    """A linear classifier, as :func:`measure` takes it: ``linear(model, data, preset="logreg")``."""
    return measure("linear", model, data, **settings)


def semi(model: str | Path | Model, data: str | Data, **settings: Any) -> Result:
    """Few labels, as :func:`measure` takes it: ``semi(model, data, preset="frozen", percent=1)``."""
    return measure("semi", model, data, **settings)


def cluster(model: str | Path | Model, data: str | Data, **settings: Any) -> Result:
    """Clustering, as :func:`measure` takes it: ``cluster(model, data, clusters=[10])``."""
    return measure("cluster", model, data, **settings)


def quality(model: str | Path | Model, data: str | Data, **settings: Any) -> Result:
    """Numbers that need no labels, as :func:`measure` takes it: ``quality(model, data)``."""
    return measure("quality", model, data, **settings)


def extract(
    model: str | Path | Model, data: str | Data, split: str = "test", *, device: str = "auto", image_size: int | None = None
) -> Features:
    """Features of a split's images, float32 (N, D), by the test transform of the kNN preset ``dino``.

    Parameters
    ----------
    split
        A role (``train``, ``test``) or a split's own name.
    """
    opened_data = open_data(data) if isinstance(data, str) else data
    choices = TASKS["knn"].find("dino").images.fitting(opened_data.image_size, image_size)
    opened: Any = open_model(model, image_size=choices.crop) if isinstance(model, (str, Path)) else model
    images = opened_data.role(split) if split in opened_data.roles else opened_data.split(split)
    transform = EvalTransform(
        choices.resize, choices.crop, choices.interpolation, opened.mean or opened_data.mean, opened.std or opened_data.std, opened.channels
    )
    with torch.no_grad():
        return Runtime(device=choose_device(device)).features(opened, images, transform)
