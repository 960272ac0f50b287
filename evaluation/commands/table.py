"""Results of several models on one task, side by side in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.tasks.registry import TASKS
from zoo.console.tables import table
from zoo.data.spec import CLASS_LEVEL
from zoo.errors import printable
from zoo.results import Result
from zoo.results.labels import model_labels

Names = Mapping[int, str]

# Letters of a model's name that a column has at least, before a table becomes blocks.
_SHORTEST_NAME = 12
_ANY_WIDTH = 10_000
# In the order in which the line above a table names them.
_ROLES = {"test": "test", "train": "training"}


def print_results(results: Sequence[Result], *, quiet: bool = False) -> None:
    """A table with one row per model, the headline in bold, and below it what a reader must know.

    On a terminal too narrow for its columns, a block of lines for each model. ``quiet``: the rows alone; warnings go to standard error.
    """
    first = results[0]
    columns = TASKS[first.task].columns(first)
    # By identity: results of two runs of one name may be equal in all else.
    names = dict(zip(map(id, results), map(printable, model_labels([result.model for result in results])), strict=True))
    rows = [[names[id(result)], *(f"{result.metrics[metric]:.2f}" for metric in columns)] for result in results]
    if quiet:
        typer.echo(table(["model", *columns.values()], rows, quiet=True))
        for warning in _warnings(results, names):
            typer.echo(printable(warning), err=True)
        return
    classes = f"{first.data.classes} classes" if first.data.classes else "no labels"
    if first.data.classes and first.data.level != CLASS_LEVEL:
        classes += f" of level {first.data.level}"
    images = [f"{first.data.splits[role].images:,} {name} images" for role, name in _ROLES.items() if role in first.data.splits]
    console = Console()
    line = f"{first.task} {first.preset} on {first.data.name}: {', '.join([*images, classes])}"
    console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    drawn = _drawn(rows, columns, first.headline.metric)
    # Measured where there is room for anything: rich cuts what it measures to the width that there is.
    if console.measure(drawn, options=console.options.update(width=_ANY_WIDTH)).minimum <= console.width:
        console.print(drawn)
    else:
        console.print(table(["model", *columns.values()], rows, width=console.width), markup=False, highlight=False, soft_wrap=True)
    for note in [*_notes(first), *_intervals(results, names), *_differences(results, names), *_warnings(results, names)]:
        console.print(printable(note), markup=False, highlight=False, soft_wrap=True)


def _drawn(rows: Sequence[Sequence[str]], columns: Mapping[str, str], headline: str) -> Table:
    drawn = Table()
    drawn.add_column("model", overflow="fold", min_width=min(_SHORTEST_NAME, max(len(row[0]) for row in rows)))
    for metric, heading in columns.items():
        # Numbers and words are never cut; headings go on in the next line.
        numbers = [row[1 + list(columns).index(metric)] for row in rows]
        width = max(map(len, [*numbers, *heading.split()]))
        drawn.add_column(heading, justify="right", style="bold" if metric == headline else "", min_width=width)
    for name, *values in rows:
        drawn.add_row(escape(name), *values)
    return drawn


def _notes(result: Result) -> list[str]:
    notes = [f"{TASKS[result.task].note}; bold: the headline"]
    if result.protocol.get("changed"):
        notes.append(f"changed from the preset: {', '.join(result.protocol['changed'])}")
    for name, used in result.counts.get("clamped", {}).items():
        notes.append(f"{name} was clamped to {used}")
    for role, split in result.data.splits.items():
        if split.skipped:
            notes.append(f"{split.skipped} {role} images could not be decoded and were left out")
    return notes


def _intervals(results: Sequence[Result], names: Names) -> list[str]:
    found = [(names[id(result)], result.details.get("intervals", {}).get(result.headline.metric)) for result in results]
    texts = [f"{name} {limits[0]:.2f} to {limits[1]:.2f}" for name, limits in found if limits is not None]
    return [f"95 % interval, of the chance of the test images alone: {'; '.join(texts)}"] if texts else []


def _warnings(results: Sequence[Result], names: Names) -> list[str]:
    return [f"warning: {names[id(result)]}: {text}" for result in results for text in result.details.get("warnings", [])]


def _differences(results: Sequence[Result], names: Names) -> list[str]:
    """Who is ahead of whom, and whether that is more than chance."""
    if len(results) < 2:
        return []
    from evaluation.statistics.comparison import compare_results  # SciPy's statistics take a second to import

    return [
        f"{names[id(best)]} - {names[id(other)]}: {found.percent:+.2f} points (95 %: {found.low:+.2f} to {found.high:+.2f}), "
        f"p = {found.p:.2g} (McNemar, {found.only_first} against {found.only_second} images)"
        + ("" if found.significant else ": not significant")
        for best, other, found in compare_results(results)
    ]
