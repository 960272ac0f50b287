"""The command that measures a result again, with every option that its number depends on. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.tasks.registry import TASKS
from evaluation.tasks.task import Task
from zoo.model_folder.again import FILE_OPTIONS, IMAGE_OPTIONS, data_word, data_words, image_words, list_words, option_words
from zoo.results import Result

# What stands where a model of another machine stood.
MODEL = "MODEL"
# Kinds of models whose words name no place.
_NAMED_KINDS = ("timm", "torchvision", "random", "pixels")
# What a protocol's options have beside the preset and the task's own, as `evaluate` writes them.
INPUT_OPTIONS = (*IMAGE_OPTIONS, *FILE_OPTIONS)


def registered_name(preset: str, task: Task) -> str:
    """A result's preset without what a task adds to say how it was carried out, such as the image size after an ``@``."""
    fitting = [name for name in task.presets if preset == name or preset.startswith((f"{name}@", f"{name}-"))]
    return max(fitting, key=len) if fitting else preset.partition("@")[0]


def command_again(result: Result, *, model: str | None = None, data: str | None = None) -> str:
    """The command of a result of ``evaluate``: its places are placeholders, weights are named by file and sha256.

    Parameters
    ----------
    model, data
        What ``--model`` and ``--data`` take, where it is known.
    """
    return shlex.join(words_again(result, model=model, data=data)) + _remark(result)


def words_again(result: Result, *, model: str | None = None, data: str | None = None) -> list[str]:
    """:func:`command_again` as words, without the remark on weights."""
    task = TASKS.get(result.task)
    if task is None:  # of another command, which its verifier knows
        return ["zoo", "verify", model or MODEL, "--task", result.task, "--data", data or data_word(result)]
    words = ["evaluate", "--task", result.task, *_task_words(result, task)]
    return [*words, *_model_words(result, model), *data_words(result, data)]


def not_repeatable(result: Result) -> list[str]:
    """Values that a program changed from the preset and that no option of the command repeats."""
    task = TASKS.get(result.task)
    if task is None or isinstance(result.protocol.get("options"), Mapping):
        return []
    names = {option.name for option in task.options}
    return [str(value) for value in result.protocol.get("changed") or () if value not in names]


def _task_words(result: Result, task: Task) -> Iterator[str]:
    asked = result.protocol.get("options")
    protocol = result.protocol
    if isinstance(asked, Mapping):
        values: dict[str, Any] = dict(asked)
        preset = str(values.get("preset", task.default_preset))
    else:
        preset = registered_name(result.preset, task)
        changed = [*(protocol.get("changed") or ()), *(["mode"] if "mode" in protocol else [])]
        values = {name: protocol[name] for name in changed if name in protocol}
    yield from ("--preset", preset)
    yield from option_words(values, [option.name for option in task.options])
    yield from list_words(result)
    yield from image_words(result, values)
    yield from option_words(values, FILE_OPTIONS)


def _model_words(result: Result, model: str | None) -> list[str]:
    kind, spec = result.model.kind, result.model.spec
    if model is not None:
        return ["--model", model]
    if spec is None or kind not in (*_NAMED_KINDS, "python"):
        return ["--model", MODEL]
    if kind != "python":
        return ["--model", spec]
    own, _, weights = spec.partition(" ")
    # `python:folder/nets.py:resnet20`: the folder is of this machine.
    scheme, _, where = own.partition(":")
    return ["--model", f"{scheme}:{where.rpartition('/')[2]}", *(["--weights", weights] if weights else [])]


def _remark(result: Result) -> str:
    if result.model.kind == "python" and " " in (result.model.spec or "") and result.model.file_sha256:
        return f"  # weights of sha256 {result.model.file_sha256}"
    return ""
