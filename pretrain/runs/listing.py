"""The runs below a folder, and how each stands; by their files alone, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.training.log import LOG_NAME, read_log
from zoo.errors import UserError
from zoo.models.run_lock import holder_of
from zoo.models.runs import checkpoints, is_run, read_recipe

_DEPTH = 3


@dataclass(frozen=True)
class RunState:
    """How a run stands.

    Attributes
    ----------
    path
        Its folder.
    state
        ``"running"``, ``"finished"``, ``"stopped"``, or what is wrong with its files.
    step, steps
        Of its log; how many there will be, where the log tells.
    loss, knn, rankme
        The newest of each; kNN in 0 .. 1.
    recipe
        Method and backbone, in words.
    """

    path: Path
    state: str
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    knn: float | None = None
    rankme: float | None = None
    recipe: str = ""


def runs_below(folder: Path) -> Iterator[RunState]:
    """The runs in ``folder``, itself and to a depth of three folders, by name. Raises UserError where there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    yield from _runs(folder, _DEPTH)


def _runs(folder: Path, depth: int) -> Iterator[RunState]:
    if is_run(folder):
        yield state_of(folder)
        return
    if depth == 0:
        return
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and not path.name.startswith("."))
    except OSError:
        return
    for path in inside:
        yield from _runs(path, depth - 1)


def state_of(run: Path) -> RunState:
    """How one run stands."""
    try:
        recipe, rows = read_recipe(run), read_log(run / LOG_NAME) if (run / LOG_NAME).is_file() else []
    except UserError as error:
        return RunState(run, str(error))
    method = recipe.get("method")
    name = method.get("name") if isinstance(method, dict) else None
    words = f"{name or 'a method'} with {recipe.get('backbone')}"
    step = len(rows)
    steps = _all_steps(recipe, rows)
    holder = holder_of(run)
    if holder is not None:
        state = "running"
    elif steps is not None and step >= steps and checkpoints(run):
        state = "finished"
    else:
        state = "stopped"
    return RunState(run, state, step, steps, _newest(rows, "loss"), _newest(rows, "knn_top1"), _newest(rows, "rankme"), words)


def _all_steps(recipe: dict[str, Any], rows: list[dict[str, Any]]) -> int | None:
    """Epochs times the steps of the first one, which is over once there is a second; a single epoch tells by being saved."""
    epochs = recipe.get("epochs")
    if type(epochs) is not int:
        return None
    first = sum(row.get("epoch") == 0 for row in rows)
    return first * epochs if first < len(rows) or (epochs == 1 and rows) else None


def _newest(rows: list[dict[str, Any]], name: str) -> float | None:
    return next((float(row[name]) for row in reversed(rows) if type(row.get(name)) in (int, float)), None)
