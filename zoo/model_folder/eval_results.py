"""The Hub's result files, ``.eval_results/*.yaml``: scores that it shows beside a model, linked to the data set's board.

Their form is https://huggingface.co/docs/hub/eval-results (2026): a list of entries with ``dataset: {id, task_id}`` and ``value``, and with
``date``, ``notes``, ``source``, ... where known. The Hub takes results on data sets that are registered as benchmarks, and passes over the
others; its older form, the card's ``model-index``, holds every result. Imports neither torch nor the Hub's client.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from zoo.errors import UserError, first_line
from zoo.files import replace_text, safe_name
from zoo.model_folder.manifest import Manifest
from zoo.model_folder.markdown import plain
from zoo.plain_yaml import parse_yaml
from zoo.reading.outside import read_text
from zoo.results import Result

EVAL_FOLDER = ".eval_results"
# The Hub's data sets by our names. A part of one (imagenet200) is another benchmark, and so is another level of labels.
_DATASETS = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "imagenet": "ILSVRC/imagenet-1k",
}
_LEVEL = "class"
_DATASET_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(T.+)?", re.ASCII)
_TEXTS = ("verifyToken", "date", "evaluation_framework", "notes")
_OF_DATASET, _OF_SOURCE = ("id", "task_id", "revision", "config", "split"), ("url", "name", "user", "org")


@dataclass(frozen=True)
class Entry:
    """One score: the Hub's data set, the task on its board, the number, and what is said of it."""

    dataset: str
    task: str
    value: float
    date: str | None = None
    notes: str | None = None


def eval_files(manifest: Manifest) -> dict[str, str]:
    """Path in the folder -> content: a file for each result on a data set that the Hub has, since it takes one a file and variant."""
    files: dict[str, str] = {}
    for result in manifest.results:
        if result.data.name not in _DATASETS or result.data.level != _LEVEL:
            continue
        stem = safe_name(f"{result.data.name}-{result.task}-{result.preset}".replace("@", "-at-").lower())
        number, name = 1, f"{EVAL_FOLDER}/{stem}.yaml"
        while name in files:
            number, name = number + 1, f"{EVAL_FOLDER}/{stem}-{number + 1}.yaml"
        files[name] = yaml.safe_dump([_entry(result)], sort_keys=False, allow_unicode=True, width=100)
    return files


def _entry(result: Result) -> dict[str, Any]:
    test = result.data.splits.get("test")
    changed = " (changed)" if result.protocol.get("changed") else ""
    notes = [
        f"{result.task} by protocol {result.preset}{changed}, {result.headline.metric}",
        *([] if test is None else [f"{test.images:,} test images"]),
        *(f"{purpose} seed {seed}" for purpose, seed in result.seeds.items() if seed),
        "zoo.json has the whole protocol",
    ]
    return {
        "dataset": {"id": _DATASETS[result.data.name], "task_id": plain(result.task)},
        "value": result.headline.value,
        "date": plain(result.date[:10]),
        "notes": plain("; ".join(notes)),
    }


def write_eval_files(folder: Path, manifest: Manifest, before: Manifest | None = None) -> None:
    """Write the folder's result files; those that ``before`` had and ``manifest`` has no more are removed, others are left alone."""
    files = eval_files(manifest)
    for name in set(eval_files(before)) - set(files) if before is not None else ():
        (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        replace_text(folder / name, text)


def read_eval_file(path: Path) -> list[Entry]:
    """The entries of a result file. Raises UserError that names the first thing in which it is none."""
    try:
        content = parse_yaml(read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is not readable YAML ({first_line(error)})") from error
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} is no result file of the Hub: it is a list of entries, each with a dataset and a value")
    return [_checked(entry, f"{path}, entry {number}") for number, entry in enumerate(content, 1)]


def _checked(entry: Any, where: str) -> Entry:
    for problem in _problems(entry):
        raise UserError(f"{where}: {problem}")
    dataset = entry["dataset"]
    return Entry(dataset["id"], dataset["task_id"], float(entry["value"]), entry.get("date"), entry.get("notes"))


def _problems(entry: Any) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield "it is no mapping"
        return
    unknown = sorted(str(key) for key in set(entry) - {"dataset", "value", "source", *_TEXTS})
    if unknown:
        yield f"'{unknown[0]}' is no key of it"
    dataset = entry.get("dataset")
    if not isinstance(dataset, Mapping):
        yield "'dataset' is a mapping with id and task_id"
        return
    yield from (f"dataset has no key '{key}'" for key in dataset if key not in _OF_DATASET)
    if not isinstance(dataset.get("id"), str) or _DATASET_ID.fullmatch(dataset["id"]) is None:
        yield f"dataset.id is ORG/NAME on the Hub, not {dataset.get('id')!r}"
    if not isinstance(dataset.get("task_id"), str) or not dataset["task_id"]:
        yield f"dataset.task_id is a name, not {dataset.get('task_id')!r}"
    value = entry.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        yield f"value is a number, not {value!r}"
    yield from (f"{name} is text, not {entry[name]!r}" for name in _TEXTS if name in entry and not isinstance(entry[name], str))
    if isinstance(entry.get("date"), str) and _DATE.fullmatch(entry["date"]) is None:
        yield f"date is YYYY-MM-DD, not {entry['date']!r}"
    source = entry.get("source")
    if "source" in entry and (not isinstance(source, Mapping) or not isinstance(source.get("url"), str) or set(source) - {*_OF_SOURCE}):
        yield f"source is a mapping with url, not {source!r}"
