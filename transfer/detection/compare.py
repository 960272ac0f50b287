"""Several models fine-tuned alike, side by side: the table of every paper on self-supervised learning."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from transfer.detection.run_folder import RESULT_FILE, RUN_FILE, read_facts
from zoo.console.tables import table
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


    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: every seed's metrics in percent, and of each metric that all seeds have, mean and standard deviation."""
        names = next(iter(self.results.values())).metrics
        spreads = {name: spread for name in names if (spread := self.spread(name)) is not None}
        return {
            "model": self.model,
            "seeds": {str(seed): dict(result.metrics) for seed, result in sorted(self.results.items())},
            "mean": {name: spread.mean for name, spread in spreads.items()},
            "deviation": {name: spread.deviation for name, spread in spreads.items()},
        }


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


def print_table(rows: Sequence[Row], *, quiet: bool = False) -> None:
    """Mean and standard deviation of each metric, and the difference of the headline to the last row, seed by seed.

    On a terminal too narrow for its columns, a block of lines for each model. ``quiet``: the rows alone.
    """
    first = next(iter(rows[0].results.values()))
    train, test = first.data.splits["train"], first.data.splits["test"]
    metrics = [metric for metric in SHOWN if rows[0].spread(metric) is not None]
    last = rows[-1]
    heading = ["model", "seeds", *(metric.replace("_", " ") for metric in metrics)]
    heading += [f"to {printable(last.model)}"] if len(rows) > 1 else []
    cells = []
    for row in rows:
        values = [_text(row.spread(metric)) for metric in metrics]
        if len(rows) > 1:
            values.append("" if row is last else _text(row.difference(last, first.headline.metric), sign=True))
        cells.append([printable(row.model), str(len(row.results)), *values])
    if not quiet:
        what = f"{first.preset} on {first.data.spec}: {train.images:,} training images, {test.images:,} test images"
        typer.echo(printable(f"{what}, {first.protocol['metric']}"))
    typer.echo(table(heading, cells, quiet=quiet))
    if not quiet:
        typer.echo("percent; mean ± standard deviation over seeds; the last column is the difference of box AP, seed by seed")


def _text(spread: Spread | None, *, sign: bool = False) -> str:
    if spread is None:
        return "-"
    mean = f"{spread.mean:+.2f}" if sign else f"{spread.mean:.2f}"
    return mean if spread.deviation is None else f"{mean} ± {spread.deviation:.2f}"
