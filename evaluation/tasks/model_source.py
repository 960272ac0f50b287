"""Which models a command is asked to open, and how. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.tasks.task import numbers
from zoo.errors import UserError
from zoo.models.runs import CHECKPOINT_FOLDER, checkpoints, is_run
from zoo.models.selection import Hints, Selection
from zoo.ranges import POSITIVE, Range

PYTHON_SCHEME = "python:"


@dataclass(frozen=True)
class ModelSource:
    """A model to open: what results call it, and the arguments of :func:`zoo.model_spec.open_model`."""

    name: str
    arguments: dict[str, Any]


def model_sources(
    models: Sequence[str],
    weights: Sequence[Path],
    layer: str | None,
    mean: str | None,
    std: str | None,
    channels: str | None,
    *,
    hints: Hints = Hints(),
    selection: Selection | None = None,
) -> list[ModelSource]:
    """The models that ``--model`` names, with what other options say of them. Raises UserError for options that do not fit."""
    models = [one for spec in models for one in _each_checkpoint(spec)]
    own = [spec for spec in models if spec.startswith(PYTHON_SCHEME)]
    if weights and len(weights) != len(own):
        raise UserError(f"--weights is given {len(weights)} times for {len(own)} models of the form {PYTHON_SCHEME}...; give one for each")
    if channels not in (None, "rgb", "bgr"):
        raise UserError(f"--channels is rgb or bgr, not '{channels}'")
    shared: dict[str, Any] = {"layer": layer, "mean": _three("--mean", mean), "std": _three("--std", std), "channels": channels}
    shared |= {**asdict(hints), "selection": selection} if hints or selection else {}
    files = iter(weights)
    sources = []
    for spec in models:
        file = next(files, None) if spec in own else None
        name = spec if file is None else f"{spec} {file.name}"
        sources.append(ModelSource(name, {"spec": spec, "weights": file, **shared}))
    return sources


def _each_checkpoint(spec: str) -> list[str]:
    """The checkpoints of a run where its folder of checkpoints is named (``RUN/checkpoints``), the oldest first; any other as it is."""
    folder = Path(spec)
    if folder.name != CHECKPOINT_FOLDER or not is_run(folder.parent):
        return [spec]
    found = [str(path) for path in checkpoints(folder.parent)]
    if not found:
        raise UserError(f"{folder} holds no checkpoint")
    return found


def _three(flag: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    values = tuple(numbers(flag)(text))
    if len(values) == 3:
        (POSITIVE if flag == "--std" else Range()).check(flag, values)
    else:
        raise UserError(f"{flag} takes three numbers, for channels of pixels in [0, 1], such as {flag} 0.485,0.456,0.406, not '{text}'")
    return values
