"""What ``evaluate`` is asked to do: which tasks, by which presets, and where results go. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.tasks.presets import Preset, find
from evaluation.tasks.registry import TASKS
from evaluation.tasks.task import Task
from zoo.errors import UserError
from zoo.files import check_can_write, check_new_folder, safe_name
from zoo.model_folder.manifest import MANIFEST_FILE, is_zoo_model
from zoo.results import check_result_path
from zoo.words.models import PIXELS

ALL = "all"
DEFAULT_TASK = "knn"


@dataclass(frozen=True)
class Plan:
    """One task by one preset.

    Attributes
    ----------
    options
        The task's own options that were given, as they were typed: with them and the preset's name anybody can ask for the same again.
    """

    task: Task
    preset: Preset
    options: Mapping[str, Any] = field(default_factory=dict)


def wanted_tasks(first: Sequence[str], named: Sequence[str]) -> Sequence[str]:
    """What ``evaluate`` shall do, by its first words (``evaluate knn``) or by ``--task``. Raises UserError where both are given."""
    for word in first:
        if word.lower() not in (*TASKS, ALL) and (set(":/") & set(word) or word == PIXELS or Path(word).expanduser().exists()):
            raise UserError(f"'{word}' stands alone, where a task may stand; a model is given by --model, data by --data")
    if first and named:
        raise UserError(f"the task is named twice, as '{' '.join(first)}' and by --task {','.join(named)}; leave one of them out")
    return first or named or [DEFAULT_TASK]


def make_plans(words: Sequence[str], presets: Sequence[str], options: Mapping[str, Any]) -> list[Plan]:
    """The tasks that ``--task`` names, each with its preset and the options that it has.

    Parameters
    ----------
    words
        Values of ``--task``: names with commas between them, or ``all``.
    presets
        Values of ``--preset``: with commas between them, ``TASK=NAME``, or ``NAME`` for every task.
    options
        Values of the tasks' options by name; None for those that were not given.

    Raises
    ------
    UserError
        An unknown task or preset, a preset for a task that is not asked for, an option that none of the tasks has.
    """
    tasks = _chosen(_words(words))
    named = _named_presets(_words(presets), tasks)
    for name in (name for name, value in options.items() if value is not None):
        if not any(option.name == name for task in tasks for option in task.options):
            flag = "--" + name.replace("_", "-")
            plural = "s" if len(tasks) > 1 else ""
            raise UserError(f"task{plural} '{', '.join(task.name for task in tasks)}' has no option {flag}; leave it out")
    return [Plan(task, task.preset(named.get(task.name), options), task.typed(options)) for task in tasks]


def _words(values: Sequence[str]) -> list[str]:
    return [word.strip() for value in values for word in value.split(",")]


def _chosen(words: Sequence[str]) -> list[Task]:
    wanted = [task for task in TASKS.values() if task.in_all] if ALL in words else []
    for word in words:
        task = None if word == ALL else find("task", word, TASKS)
        if task is not None and task not in wanted:
            wanted.append(task)
    return wanted


def _named_presets(words: Sequence[str], tasks: Sequence[Task]) -> dict[str, str]:
    """Preset by task."""
    named: dict[str, str] = {}
    for word in words:
        of, equals, name = word.rpartition("=")
        if equals and of not in [task.name for task in tasks]:
            raise UserError(f"--preset {word} is for a task '{of}', and --task asks for: {', '.join(task.name for task in tasks)}")
        for task in tasks:
            if equals and task.name != of:
                continue
            if not equals and len(tasks) > 1 and name not in task.presets:
                raise UserError(f"task '{task.name}' has no preset '{name}' ({', '.join(task.presets)}); write --preset TASK={name}")
            named[task.name] = name
    return named


# Files by position of the model and name of the task.
Paths = dict[tuple[int, str], Path]


def result_paths(models: Sequence[str], tasks: Sequence[Task], out: Path | None, *, overwrite: bool) -> Paths:
    """The result file of each model and task; empty where none is wanted. Raises UserError for what could not be written later."""
    if out is None:
        return {}
    if len(models) == len(tasks) == 1:
        if out.suffix != ".json":
            raise UserError(f"--out {out} must end in .json: with one model and one task it is the result file")
        targets = {(0, tasks[0].name): out}
    else:
        if out.suffix == ".json" or out.is_file():
            raise UserError(f"--out {out} must be a folder: with several models or tasks it gets a result file for each")
        if out.exists() and not overwrite:
            raise UserError(f"{out} exists already; choose another --out, or give --overwrite to replace results in it")
        targets = _in_folder(models, tasks, out, ".json")
    for target in targets.values():
        check_result_path(target, overwrite=overwrite)
    return targets


def picture_paths(models: Sequence[str], tasks: Sequence[Task], folder: Path | None, *, overwrite: bool) -> Paths:
    """The picture of each model and task that draws one; empty where none is wanted."""
    if folder is None:
        return {}
    drawing = [task for task in tasks if task.draw is not None]
    if not drawing:
        raise UserError(f"task '{tasks[0].name}' draws no pictures; leave --pictures out")
    if folder.exists() and not overwrite:
        raise UserError(f"{folder} exists already; choose another --pictures, or give --overwrite to replace pictures in it")
    paths = _in_folder(models, drawing, folder, ".png")
    for path in paths.values():
        check_can_write(path)
    return paths


def save_paths(models: Sequence[str], tasks: Sequence[Task], folder: Path | None, *, overwrite: bool) -> Paths:
    """The zoo model folder of each model and task that trains a classifier; empty where none is wanted."""
    if folder is None:
        return {}
    saving = [task for task in tasks if task.saves]
    if not saving:
        known = ", ".join(task.name for task in TASKS.values() if task.saves)
        raise UserError(f"task '{tasks[0].name}' trains no classifier; leave --save out, or take one of: {known}")
    several = len(models) > 1 or len(saving) > 1
    if several and is_zoo_model(folder):
        raise UserError(f"{folder} is a zoo model, and --save must be a folder of several here: choose another")
    paths = _in_folder(models, saving, folder, "") if several else {(0, saving[0].name): folder}
    for path in paths.values():
        check_new_folder(path, overwrite=overwrite, marker=MANIFEST_FILE)
        check_can_write(path, folder=True)
    return paths


def _in_folder(models: Sequence[str], tasks: Sequence[Task], folder: Path, suffix: str) -> Paths:
    paths: Paths = {}
    for position, model in enumerate(models):
        for task in tasks:
            path = folder / (safe_name(model) + (f".{task.name}" if len(tasks) > 1 else "") + suffix)
            if path in paths.values():
                raise UserError(f"two of the models would be written to {path}; evaluate them one by one")
            paths[position, task.name] = path
    return paths
