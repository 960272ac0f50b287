"""Curves that results and runs hold: accuracy by k, by epoch, by C; the log of a training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evaluation.report.at_hand import Missing, run_folder
from evaluation.report.charts import Series, line_chart
from evaluation.report.details import numbers, table
from evaluation.report.entries import Entry
from evaluation.report.groups import Group, Model, column_of, metric_label
from evaluation.training.log import LOG_NAME, read_log
from zoo.errors import UserError
from zoo.models.runs import CHECKPOINT_FOLDER, checkpoint_step, is_run
from zoo.results import Result

# Measures whose course over k, or over the number of clusters K, is drawn.
_BY_K = re.compile(r"((?:top1|top5|ami|nmi|low_shot))_k(\d+)((?:_(?!std).*)?)")
# Points of a training's log that a chart shows; each is the mean of the steps in between.
_LOG_POINTS = 200


@dataclass(frozen=True)
class Curve:
    """Points of one model, and which chart they belong to."""

    title: str
    x_label: str
    y_label: str
    x_log: bool
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Chart:
    """A drawn chart."""

    title: str
    svg: Markup
    models: tuple[Model, ...]


def curve_charts(group: Group) -> list[Chart]:
    """The curves of a table's results, one chart for each kind with all models that have it."""
    found = (
        (row, curve)
        for (row, column), entries in group.results.items()
        for curve in curves_of(entries[-1].result, column_of(entries[-1].result).label)
    )
    return _charts(found)


def curves_of(result: Result, label: str) -> Iterator[Curve]:
    """All curves that a result holds; ``label`` names its protocol."""
    yield from _by_k(result, label)
    for part in ("epochs", "epochs_plain"):
        for name, values in table(result, part).items():
            accuracies = numbers(values)
            if accuracies is not None and len(accuracies) > 1:
                title = f"{label}: {metric_label(name)}{' before pseudo-labels' if part == 'epochs_plain' else ''}"
                yield Curve(title, "epoch", "%", False, tuple(enumerate(accuracies, start=1)))
    yield from _linear(result, label)
    yield from _sweep(result, label)


def log_charts(entries: Sequence[Entry], models: dict[int, Model]) -> tuple[list[Chart], list[tuple[str, Missing]]]:
    """Loss, kNN checks and memory of the runs at hand that results are of; and the runs that are not at hand."""
    found: list[tuple[Model, Curve]] = []
    absent: list[tuple[str, Missing]] = []
    seen = set()
    for entry in entries:
        folder = run_folder(entry.result)
        if folder is None or folder in seen:
            continue
        seen.add(folder)
        try:
            rows = read_log(folder / LOG_NAME) if is_run(folder) else []
        except UserError:
            rows = []
        if rows:
            found += [(models[entry.number], curve) for curve in _log_curves(rows)]
        else:
            how = "make the report where the path leads to the run, such as from the folder in which it was evaluated"
            absent.append((entry.result.model.name, Missing(f"there is no run with a log at {folder}", how)))
    return _charts(found), absent


def checkpoint_charts(entries: Sequence[Entry], models: dict[int, Model]) -> list[Chart]:
    """The headline of each protocol over a run's checkpoints, where results of two or more of them are given."""
    courses: dict[tuple[str, str], dict[float, float]] = {}
    first: dict[str, Model] = {}
    for entry in entries:
        path = Path(entry.result.model.spec or "")
        if entry.result.model.kind != "run" or path.parent.name != CHECKPOINT_FOLDER:
            continue
        try:
            step = checkpoint_step(path)
        except UserError:
            continue
        run, label = str(path.parent.parent), column_of(entry.result).label
        first.setdefault(run, replace(models[entry.number], label=path.parent.parent.name))
        for metric in {entry.result.headline.metric, *(entry.result.metrics if entry.result.task == "quality" else ())}:
            courses.setdefault((run, f"{label}: {metric_label(metric)} by checkpoint"), {})[step] = entry.result.metrics[metric]
    curves = [
        (first[run], Curve(title, "step", "", False, tuple(sorted(points.items()))))
        for (run, title), points in courses.items()
        if len(points) > 1
    ]
    return _charts(curves)


def _by_k(result: Result, label: str) -> Iterator[Curve]:
    stems: dict[str, dict[int, float]] = {}
    for metric, value in result.metrics.items():
        match = _BY_K.fullmatch(metric)
        if match is not None:
            stems.setdefault(match[1] + match[3], {})[int(match[2])] = value
    x_label = "number of clusters" if result.task == "cluster" else "labelled images of each class" if result.task == "voc07" else "k"
    for stem, values in stems.items():
        if len(values) > 1:
            yield Curve(f"{_without_k(label)}: {metric_label(stem)} by {x_label}", x_label, "%", True, tuple(sorted(values.items())))


def _linear(result: Result, label: str) -> Iterator[Curve]:
    """Of a training with several learning rates: the course of the chosen one."""
    curves = table(result, "curves")
    rates = numbers(curves.get("lr"))
    chosen = table(result, "chosen", "selected") or table(result, "chosen", "last")
    if rates is None or chosen.get("lr") not in rates:
        return
    rate = rates.index(chosen["lr"])
    test = result.data.splits.get("test")
    totals = {"test": test.images if test is not None else None, "held_out": result.details.get("held_out")}
    for name, total in totals.items():
        courses = curves.get(f"{name}_correct")
        column = _column(courses, rate)
        if column is not None and isinstance(total, int) and total > 0 and len(column) > 1:
            title = f"{label}: {metric_label(name)} top-1, at the chosen rate"
            yield Curve(title, "epoch", "%", False, tuple((epoch, 100 * right / total) for epoch, right in enumerate(column, 1)))
    losses = _column(curves.get("loss"), rate)
    if losses is not None and len(losses) > 1:
        yield Curve(f"{label}: training loss, at the chosen rate", "epoch", "loss", False, tuple(enumerate(losses, start=1)))


def _sweep(result: Result, label: str) -> Iterator[Curve]:
    """Of logistic regression: accuracy by C."""
    sweep = table(result, "sweep")
    costs = numbers(sweep.get("c"))
    test = result.data.splits.get("test")
    totals = {"held_out": result.details.get("held_out"), "test": test.images if test is not None else None}
    if costs is None or len(costs) < 2 or min(costs) <= 0:
        return
    for name, total in totals.items():
        right = numbers(sweep.get(f"{name}_correct"), len(costs))
        if right is not None and isinstance(total, int) and total > 0:
            points = tuple((cost, 100 * count / total) for cost, count in zip(costs, right, strict=True))
            yield Curve(f"{label}: {metric_label(name)} top-1 by C", "C", "%", True, points)


def _log_curves(rows: Sequence[dict[str, Any]]) -> Iterator[Curve]:
    for name, title, y_label, factor in (
        ("loss", "Training loss", "loss", 1.0),
        ("knn_top1", "kNN check during training", "%", 100.0),
        ("rankme", "RankMe during training", "effective rank", 1.0),
        ("spread", "Spread of features during training", "1 = sphere", 1.0),
        ("device_memory", "Peak memory of the GPU during training", "GiB", 2.0**-30),
    ):
        points = [
            (float(row["step"]), factor * float(row[name]))
            for row in rows
            if isinstance(row, dict) and numbers([row.get("step"), row.get(name)]) is not None
        ]
        if len(points) > 1:
            yield Curve(title, "step", y_label, False, tuple(_thinned(points)))


def _thinned(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """At most ``_LOG_POINTS`` points: means of as many steps each."""
    size = -(-len(points) // _LOG_POINTS)
    for start in range(0, len(points), size):
        part = points[start : start + size]
        yield sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)


def _charts(found: Iterable[tuple[Model, Curve]]) -> list[Chart]:
    by_title: dict[str, list[tuple[Model, Curve]]] = {}
    for row, curve in found:
        by_title.setdefault(curve.title, []).append((row, curve))
    charts = []
    for title, curves in by_title.items():
        first = curves[0][1]
        series = [Series(row.label, row.colour, curve.points) for row, curve in curves]
        label = f"{title}. {'; '.join(_spoken(one) for one in series)}"
        svg = line_chart(series, label=label, x_label=first.x_label, y_label=first.y_label, x_log=first.x_log)
        charts.append(Chart(title, svg, tuple(row for row, _ in curves)))
    return charts


def _spoken(series: Series) -> str:
    (first, start), (last, end) = series.points[0], series.points[-1]
    return f"{series.name}: from {start:.4g} at {first:.4g} to {end:.4g} at {last:.4g}"


def _column(rows: Any, column: int) -> list[float] | None:
    """A column of a table of rows; None where one of its values is no number."""
    if not isinstance(rows, list) or not all(isinstance(row, list) and column < len(row) for row in rows):
        return None
    return numbers([row[column] for row in rows])


def _without_k(label: str) -> str:
    """A protocol's name without its list of k, which is the chart's axis, so that models with other lists share a chart."""
    return re.sub(r", k \[[^\]]*\]", "", label)
