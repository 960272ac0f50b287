"""Results of several models on one task, side by side in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.tasks import TASKS
from zoo.data.base import CLASS_LEVEL
from zoo.results import Result

# In the order in which the line above a table names them.
_ROLES = {"test": "test", "train": "training"}


def print_results(results: Sequence[Result], console: Console) -> None:
    """A table with one row per model, the headline in bold, and below it what a reader must know."""
    first = results[0]
    columns = TASKS[first.task].columns(first)
    classes = f"{first.data.classes} classes" + (f" of level {first.data.level}" if first.data.level != CLASS_LEVEL else "")
    images = [f"{first.data.splits[role].images:,} {name} images" for role, name in _ROLES.items() if role in first.data.splits]
    line = f"{first.task} {first.preset} on {first.data.name}: {', '.join([*images, classes])}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("model", overflow="fold")
    for metric, heading in columns.items():
        table.add_column(heading, justify="right", style="bold" if metric == first.headline.metric else "")
    for result in results:
        table.add_row(escape(result.model.name), *(f"{result.metrics[metric]:.2f}" for metric in columns))
    console.print(table)
    for note in _notes(first):
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _notes(result: Result) -> list[str]:
    notes = ["top-1 accuracy in percent unless said otherwise; bold: the figure that stands for the preset"]
    if result.protocol.get("changed"):
        notes.append(f"changed from the preset: {', '.join(result.protocol['changed'])}")
    for name, used in result.counts.get("clamped", {}).items():
        notes.append(f"{name} was clamped to {used}, all there are")
    for role, split in result.data.splits.items():
        if split.skipped:
            notes.append(f"{split.skipped} {role} images could not be decoded and were left out")
    return notes
