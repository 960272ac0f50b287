"""The tasks of ``evaluate``. A task adds itself by a line here: the module that holds its presets and its ``TASK``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from evaluation.task import Task

# In the order of the help and of `--task all`.
_MODULES = ("evaluation.knn.presets",)

TASKS: Mapping[str, Task] = {task.name: task for task in (import_module(module).TASK for module in _MODULES)}
