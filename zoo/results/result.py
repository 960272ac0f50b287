"""Results: a number, and everything that somebody else needs to get it again, in a JSON file that ``docs/results-schema.md`` describes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from zoo.errors import UserError
from zoo.files import check_can_write, replace_text
from zoo.ranges import Range
from zoo.reading.outside import FieldError, read_fields, read_record

SCHEMA = "backbone-loop result 1"
_SCHEMA_FAMILY = SCHEMA.rpartition(" ")[0]
_COUNT = Range(0)


class ResultError(ValueError):
    """What is wrong with a JSON object that should be a result."""


@dataclass(frozen=True)
class Headline:
    """The one number to compare: its name in ``metrics``, and its value."""

    metric: str
    value: float


@dataclass(frozen=True)
class ModelFacts:
    """Which weights were evaluated, and how their input was normalised.

    Attributes
    ----------
    name, arch, kind
        As :class:`zoo.models.model.Model` has them.
    tensors_sha256, file_sha256
        Of the backbone's tensors; of the weights' file, where there is one.
    mean, std
        Those used, of pixels in [0, 1], in the order of the channels as they reached the network (RGB unless the protocol says BGR).
    spec
        The text the model was opened by.
    """

    name: str
    arch: str
    kind: str
    tensors_sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    file_sha256: str | None = None
    spec: str | None = None


@dataclass(frozen=True)
class SplitFacts:
    """A split that was used: its name, how many of its images, how many were left out as undecodable, and its fingerprint."""

    split: str
    images: Annotated[int, _COUNT]
    skipped: Annotated[int, _COUNT]
    fingerprint: str


@dataclass(frozen=True)
class DataFacts:
    """Which images and labels: ``NAME[:ROOT]`` as it was given, the label level, the number of its classes, and the splits by role."""

    spec: str
    name: str
    level: str
    classes: Annotated[int, _COUNT]
    splits: dict[str, SplitFacts]


@dataclass(frozen=True)
class Result:
    """One evaluation of one model on one data set.

    Attributes
    ----------
    task
        ``"knn"``, ...
    preset
        The protocol's name; ``"dino@32"`` where images keep a native size of 32 pixels. ``protocol["changed"]`` lists what was not left
        as the preset has it.
    protocol
        Every value of the protocol, by name.
    headline
        The number to compare.
    metrics
        All numbers, by name; accuracies in percent.
    counts
        Whole numbers behind the metrics: correct answers, images, what was clamped.
    model, data
        What was evaluated, on what.
    seeds
        By purpose.
    versions
        Of the software, by name.
    commit
        This toolkit's, where it ran from a checkout.
    device, dtype, processes
        Where and in which precision the network ran; number of processes.
    seconds
        Wall-clock time by phase.
    date
        UTC, ISO 8601.
    details
        Task-specific tables, such as accuracy per class.
    """

    task: str
    preset: str
    protocol: dict[str, Any]
    headline: Headline
    metrics: dict[str, float]
    counts: dict[str, Any]
    model: ModelFacts
    data: DataFacts
    seeds: dict[str, int]
    versions: dict[str, str]
    device: str
    dtype: str
    processes: Annotated[int, Range(1)]
    seconds: dict[str, float]
    date: str
    commit: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of a result file."""
        return {"schema": SCHEMA, **asdict(self)}

    def to_json(self) -> str:
        """The text of a result file; tables of numbers stand on one line each."""
        return _lists_on_one_line(json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)) + "\n"

    @classmethod
    def from_dict(cls, content: object) -> Result:
        """The result of a JSON object.

        Raises
        ------
        ResultError
            The object is not a result of this schema; the text says which part of it is wrong.
        """
        if not isinstance(content, dict) or not str(content.get("schema", "")).startswith(_SCHEMA_FAMILY):
            raise ResultError(f"it has no schema '{SCHEMA}'")
        if content["schema"] != SCHEMA:
            raise ResultError(f"it has the schema '{content['schema']}', and this version reads '{SCHEMA}'")
        try:
            result = read_fields(cls, {name: value for name, value in content.items() if name != "schema"})
        except FieldError as error:
            raise ResultError(str(error)) from error
        if result.metrics.get(result.headline.metric) != result.headline.value:
            raise ResultError(f"its headline {result.headline.metric} is not the value that its metrics have")
        return result


def check_result_path(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise UserError where :func:`save_result` would refuse ``path``. Called before anything is computed."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; a result is a file, such as {path / 'result.json'}")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already; choose another --out, or give --overwrite to replace it")
    check_can_write(path)


def save_result(result: Result, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a result file, whole or not at all.

    Raises
    ------
    UserError
        ``path`` exists and ``overwrite`` is not given, or the system refuses to write.
    """
    check_result_path(path, overwrite=overwrite)
    replace_text(path, result.to_json())


def load_result(path: str | Path) -> Result:
    """Read a result file. Raises UserError where it is none, with the reason."""
    path = Path(path)
    try:
        return Result.from_dict(read_record(path))
    except UserError as error:
        raise UserError(f"{error}; a result is what `evaluate --out FILE` writes") from error
    except ResultError as error:
        raise UserError(f"{path} is not a result: {error}; `evaluate --out FILE` writes one") from error


# An innermost list in indented JSON: its text has no brackets, and a line break in JSON is never part of a string.
_INNERMOST_LIST = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s*\]")
_LINE_BREAK = re.compile(r",\n\s+")


def _lists_on_one_line(text: str) -> str:
    return _INNERMOST_LIST.sub(lambda match: f"[{_LINE_BREAK.sub(', ', match[1])}]", text)
