"""The best model of a column beside each of the others, image by image."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.report.groups import Group, Model, metric_label
from evaluation.statistics.comparison import Difference, compare_results


@dataclass(frozen=True)
class Differences:
    """A protocol's best model, and how far it is ahead of each other one, the nearest first."""

    title: str
    best: Model
    others: tuple[tuple[Model, Difference], ...]


def differences(group: Group) -> list[Differences]:
    """For each protocol whose results say which test images were answered rightly; of several results of a model, by the newest."""
    found = []
    for column in group.columns:
        newest = {row: cell.entries[0].result for row in group.rows if (cell := group.cell(row, column)) is not None}
        if len(newest) < 2:
            continue
        try:
            compared = compare_results(list(newest.values()))
        except (AttributeError, KeyError, TypeError, ValueError):  # details can hold anything
            continue
        row_of = {id(result): row for row, result in newest.items()}
        if compared:
            others = tuple((row_of[id(other)], difference) for _, other, difference in compared)
            found.append(Differences(f"{column.label}: {metric_label(column.metric)}", row_of[id(compared[0][0])], others))
    return found
