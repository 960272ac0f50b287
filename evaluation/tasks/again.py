"""The command that measures a result again, with every option that its number depends on. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from evaluation.tasks.registry import TASKS
from evaluation.tasks.task import Task
from zoo.data.spec import CLASS_LEVEL, WITHOUT_PLACE, is_hub_folder, parse_spec
from zoo.errors import UserError
from zoo.results import Result

# What stands where a path of another machine stood.
MODEL, PLACE = "MODEL", "PLACE"
# Kinds of models whose words name no place.
_NAMED_KINDS = ("timm", "torchvision", "random", "pixels")
# What a protocol's options have beside the preset and the task's own, as `evaluate` writes them.
INPUT_OPTIONS = ("image_size", "mean", "std", "channels", "heads", "key", "prefix", "rename", "drop")


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
        where = ["--data", data or _with_placeholder(result.data.spec)]
        return ["zoo", "verify", model or MODEL, "--task", result.task, *where]
    words = ["evaluate", "--task", result.task, *_task_words(result, task)]
    words += _model_words(result, model)
    words += ["--data", data or _with_placeholder(result.data.spec)]
    if result.data.level != CLASS_LEVEL:
        words += ["--level", result.data.level]
    if (layer := result.protocol.get("layer")) is not None:
        words += ["--features", str(layer)]
    if any(split.skipped for split in result.data.splits.values()):
        words.append("--skip-bad-images")
    if seed := result.seeds.get("evaluation", 0):
        words += ["--seed", str(seed)]
    return words if result.dtype == "float32" else [*words, "--dtype", result.dtype]


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
    for option in task.options:
        value = values.get(option.name)
        if value is not None:
            yield from _flag(option.flag, value)
    # The list is a file of the user's: its name is known, and nothing else.
    origin = protocol.get("labelled_images")
    if isinstance(origin, str) and origin.startswith("the list "):
        yield from ("--labels", origin.removeprefix("the list "))
    side = protocol.get("crop")
    if "@" in result.preset and side is not None and "image_size" not in values:
        yield from ("--image-size", str(side))
    for name in INPUT_OPTIONS:
        if values.get(name) is not None:
            for one in values[name] if name in ("rename", "drop") else [values[name]]:
                yield from _flag("--" + name.replace("_", "-"), one)


def _flag(flag: str, value: object) -> Iterator[str]:
    if value is False:
        return
    yield flag
    if isinstance(value, list | tuple):
        yield ",".join(map(str, value))
    elif value is not True:
        yield str(value)


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


def _with_placeholder(spec: str) -> str:
    try:
        known = parse_spec(spec)
    except UserError:
        return spec
    if known.name in WITHOUT_PLACE or (known.name == "hf" and not is_hub_folder(known.place)):
        return spec  # a name that is the same on every machine
    without = str(known.without_place())
    head, comma, options = without.partition(",")
    return f"{known.name}:{PLACE}{comma}{options}" if head.partition(":")[0] == known.name else without


def _remark(result: Result) -> str:
    if result.model.kind == "python" and " " in (result.model.spec or "") and result.model.file_sha256:
        return f"  # weights of sha256 {result.model.file_sha256}"
    return ""
