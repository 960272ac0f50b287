"""Several models fine-tuned alike, side by side: the table of every paper on self-supervised learning."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transfer.detection.run_folder import RESULT_FILE, RUN_FILE, read_facts
from zoo.errors import UserError, printable
from zoo.results import Result, load_result

SHOWN = ("box_AP", "box_AP50", "box_AP75", "mask_AP", "mask_AP50", "mask_AP75")
# What must be equal in all results of a table; what else a protocol holds follows from it.
_SAME = ("preset", "protocol", "dtype", "processes")


@dataclass(frozen=True)
class Spread:
    """A metric over seeds: mean, sample standard deviation (None for one seed), and the values in the order of the seeds."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, tuple(values))


@dataclass(frozen=True)
class Row:
    """One model of the comparison.

    Attributes
    ----------
    model
        As it was given.
    results
        By seed.
    """

    model: str
    results: dict[int, Result]

    def spread(self, metric: str) -> Spread | None:
        """None where the results do not have the metric."""
        values = [result.metrics[metric] for _, result in sorted(self.results.items()) if metric in result.metrics]
        if len(values) != len(self.results) or not values:
            return None
        return Spread.of(values)

    def difference(self, other: Row, metric: str) -> Spread | None:
        """Of this model to another, seed by seed: the seeds that both have."""
        seeds = sorted(self.results.keys() & other.results.keys())
        values = [
            self.results[seed].metrics.get(metric, float("nan")) - other.results[seed].metrics.get(metric, float("nan")) for seed in seeds
        ]
        if not values or any(value != value for value in values):
            return None
        return Spread.of(values)


def run_path(out: Path, model: str, seed: int) -> Path:
    """Where a comparison keeps one of its runs."""
    return out / (re.sub(r"[^A-Za-z0-9_.-]+", "-", model).strip("-.") or "model") / f"seed{seed}"


def compare(out: Path, models: Sequence[str], seeds: Sequence[int], run: Callable[[str, int, Path], Any] | None) -> list[Row]:
    """Run what is missing and collect what is there.

    Parameters
    ----------
    out
        Folder of the runs.
    models, seeds
        Every model is trained once with every seed, seed by seed, so that a stopped comparison has equally many of each.
    run
        Trains one model with one seed into a folder, or goes on with it; None: nothing is run, and what is missing is left out.

    Raises
    ------
    UserError
        Two models would have one folder, nothing is there to collect, or results were not made by one protocol on the same data.
    """
    folders = [run_path(out, model, 0) for model in models]
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        raise UserError(f"two of the models would be trained in {twice.parent}; name them by other paths")
    found: dict[str, dict[int, Result]] = {model: {} for model in models}
    for seed in seeds:
        for model in models:
            folder = run_path(out, model, seed)
            if not (folder / RESULT_FILE).exists():
                if run is None:
                    continue
                run(model, seed, folder)
            if (folder / RESULT_FILE).exists():
                _check_source(folder, model, seed)
                found[model][seed] = load_result(folder / RESULT_FILE)
    rows = [Row(model, results) for model, results in found.items() if results]
    if not rows:
        raise UserError(f"{out} has no finished runs of {', '.join(models)}")
    _check_same([result for row in rows for result in row.results.values()])
    return rows


def _check_source(folder: Path, model: str, seed: int) -> None:
    facts = read_facts(folder)
    if (facts.model["spec"], facts.seed) != (model, seed):
        raise UserError(f"{folder / RUN_FILE} is of '{facts.model['spec']}' with seed {facts.seed}, not of '{model}' with seed {seed}")


def _check_same(results: Sequence[Result]) -> None:
    """Raise UserError where results answer different questions."""
    first = results[0]
    for other in results[1:]:
        for name in _SAME:
            if getattr(other, name) != getattr(first, name):
                raise UserError(
                    f"'{other.model.name}' and '{first.model.name}' were not trained alike: they differ in {_where(first, other, name)}"
                )
        if other.data.splits != first.data.splits:
            raise UserError(f"'{other.model.name}' and '{first.model.name}' were trained or tested on different images or annotations")


def _where(first: Result, other: Result, name: str) -> str:
    ours, theirs = getattr(first, name), getattr(other, name)
    if isinstance(ours, dict):
        key = next(key for key in [*ours, *theirs] if ours.get(key) != theirs.get(key))
        return f"{key}: {theirs.get(key)} and {ours.get(key)}"
    return f"{name}: {theirs} and {ours}"


def print_table(rows: Sequence[Row], console: Console) -> None:
    """Mean and standard deviation of each metric, and the difference of the headline to the last row, seed by seed."""
    first = next(iter(rows[0].results.values()))
    train, test = first.data.splits["train"], first.data.splits["test"]
    line = f"{first.preset} on {first.data.spec}: {train.images:,} training images, {test.images:,} test images, {first.protocol['metric']}"
    console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    metrics = [metric for metric in SHOWN if rows[0].spread(metric) is not None]
    table = Table()
    table.add_column("model", overflow="fold")
    table.add_column("seeds", justify="right")
    for metric in metrics:
        table.add_column(metric.replace("_", " "), justify="right", style="bold" if metric == first.headline.metric else "")
    last = rows[-1]
    if len(rows) > 1:
        table.add_column(f"to {escape(printable(last.model))}", justify="right")
    for row in rows:
        cells = [_text(row.spread(metric)) for metric in metrics]
        if len(rows) > 1:
            cells.append("" if row is last else _text(row.difference(last, first.headline.metric), sign=True))
        table.add_row(escape(printable(row.model)), str(len(row.results)), *cells)
    console.print(table)
    note = "percent; mean ± standard deviation over seeds; the last column is the difference of box AP, seed by seed"
    console.print(note, markup=False, highlight=False, soft_wrap=True)


def _text(spread: Spread | None, *, sign: bool = False) -> str:
    if spread is None:
        return "-"
    mean = f"{spread.mean:+.2f}" if sign else f"{spread.mean:.2f}"
    return mean if spread.deviation is None else f"{mean} ± {spread.deviation:.2f}"
