"""``pretrain watch RUN``: how a run goes, in the terminal, from its log alone. Without torch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from evaluation.training.log import LOG_NAME, read_log
from pretrain.runs.listing import RunState, state_of
from zoo.errors import UserError
from zoo.models.runs import is_run, read_recipe

# Eighths of a character's height.
_BLOCKS = " ▁▂▃▄▅▆▇█"
_HEIGHT, _WIDEST = 4, 100
# Steps whose pace tells the time that is left.
_PACE = 50
_RUNNING = "running"


@dataclass(frozen=True)
class Curve:
    """A column of the log that is drawn where it is there: its name, what it is called, what it is multiplied with, and digits."""

    column: str
    name: str
    scale: float = 1.0
    digits: int = 2


CURVES = (
    Curve("loss", "loss", digits=3),
    Curve("knn_top1", "kNN top-1, %", 100, 1),
    Curve("rankme", "RankMe", digits=0),
    Curve("spread", "spread of the features, 1 fills the space"),
    Curve("prototypes/0/ami_before", "finest clusters: AMI with the survey before"),
    Curve("boxes/full", "boxes that are the whole image, %", 100, 1),
    Curve("neighbours/similarity", "cosine of the neighbours"),
)


def watch(run: Path, show: Callable[[str], None], *, width: int, every: float | None, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show a picture of the run, and, where ``every`` (seconds) is given, another each time that the log has grown, until the run ends.

    Raises UserError where ``run`` is no run, or its files cannot be read.
    """
    for picture in _pictures(run, width, every, sleep):
        show(picture)


def _pictures(run: Path, width: int, every: float | None, sleep: Callable[[float], None]) -> Iterator[str]:
    if not is_run(run):
        raise UserError(f"{run} is no run: it has no recipe.yaml and checkpoints/; `pretrain runs` lists those there are")
    seen = -1
    while True:
        state = state_of(run)
        path = run / LOG_NAME
        rows = read_log(path) if path.is_file() else []
        if len(rows) != seen or state.state != _RUNNING:
            yield picture_of(state, rows, read_recipe(run), width)
        seen = len(rows)
        if every is None or state.state != _RUNNING:
            return
        sleep(every)


def picture_of(state: RunState, rows: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any], width: int) -> str:
    """Lines of at most ``width`` characters: where the run is, how fast, how long it takes still, and a curve of each number there is."""
    place = str(state.path)
    # Of a long path the end tells more.
    place = place if len(place) <= width else f"...{place[3 - width :]}"
    lines = [place, f"{state.recipe}, {state.state}", *_progress(state, rows, recipe)]
    if not rows:
        lines.append("its log has no line yet")
    for curve in CURVES:
        points = [(row["step"], curve.scale * row[curve.column]) for row in rows if _is_number(row.get(curve.column))]
        if points:
            lines += ["", *_curve(curve, points, min(width, _WIDEST))]
    return "\n".join(line[:width] for line in lines)


def _progress(state: RunState, rows: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any]) -> list[str]:
    if not rows:
        return []
    epochs = recipe.get("epochs")
    words = [f"step {state.step:,}" + (f" of {state.steps:,}" if state.steps else ""), f"epoch {rows[-1].get('epoch', 0) + 1} of {epochs}"]
    seconds = [row["seconds"] for row in rows[-_PACE:] if _is_number(row.get("seconds")) and row["seconds"] > 0]
    if seconds:
        # The median: a step that a check or a survey belongs to is no pace.
        pace = median(seconds)
        if type(recipe.get("batch")) is int:
            words.append(f"{recipe['batch'] / pace:,.0f} images/s")
        if state.steps and state.state == _RUNNING:
            words.append(f"{_duration(pace * (state.steps - state.step))} left")
    return [", ".join(words)]


def _curve(curve: Curve, points: Sequence[tuple[int, float]], width: int) -> list[str]:
    values = [value for _, value in points]
    low, high = min(values), max(values)
    labels = [f"{value:.{curve.digits}f}" for value in (high, low)]
    margin = max(map(len, labels)) + 1
    columns = _columns(points, max(1, width - margin - 1))
    title = f"{curve.name}: {values[-1]:.{curve.digits}f}, at step {points[-1][0] + 1:,}"
    drawn = []
    for line in range(_HEIGHT):
        row = ""
        for value in columns:
            # A value at the lowest is seen too: one eighth of the first line.
            eighths = 0 if value is None else 1 if high == low else 1 + round((value - low) / (high - low) * (_HEIGHT * 8 - 1))
            row += _BLOCKS[min(8, max(0, eighths - 8 * (_HEIGHT - 1 - line)))]
        label = labels[0] if line == 0 else labels[1] if line == _HEIGHT - 1 else ""
        drawn.append(f"{label:>{margin - 1}} {row}".rstrip())
    return [title, *drawn]


def _columns(points: Sequence[tuple[int, float]], count: int) -> list[float | None]:
    """Means of the points by stretches of steps from 0 to the last; None where a stretch has none."""
    last = points[-1][0] + 1
    count = min(count, last)
    sums: list[list[float]] = [[] for _ in range(count)]
    for step, value in points:
        sums[step * count // last].append(value)
    return [sum(stretch) / len(stretch) if stretch else None for stretch in sums]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
