"""The tasks of ``evaluate``. A task adds itself by a line here: the module that holds its presets and its ``TASK``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from evaluation.tasks.task import Task

# In the order of the help and of `--task all`.
_MODULES = (
    "evaluation.tasks.knn.presets",
    "evaluation.tasks.linear.presets",
    "evaluation.tasks.cluster.presets",
    "evaluation.tasks.quality.presets",
    "evaluation.tasks.semi.presets",
    "evaluation.tasks.finetune.presets",
    "evaluation.tasks.voc07.presets",
    "evaluation.tasks.places205.presets",
    "evaluation.tasks.feature_file.presets",
    "evaluation.tasks.top1.presets",
)

TASKS: Mapping[str, Task[Any]] = {task.name: task for task in (import_module(module).TASK for module in _MODULES)}
