"""Which model is better: the best of a column beside each of the others, image by image, and ranks over several columns."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from scipy.stats import rankdata

from evaluation.report.groups import Column, Group, Model, metric_label
from evaluation.statistics.comparison import Difference, compare_results

# With two models a rank says no more than the table.
_LEAST_MODELS, _LEAST_COLUMNS = 3, 2


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


@dataclass(frozen=True)
class Ranking:
    """A model's ranks, from 1 for the best by each of the columns; equal values share the mean of their ranks."""

    model: Model
    ranks: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.ranks)


def rankings(group: Group) -> tuple[list[Column], list[Ranking]]:
    """The columns that all ranked models have, and the models by their mean rank; nothing where there are too few of either.

    Models that lack a column of the most of them are left out, since their mean would be of something else.
    """
    known = {row: {column for column in group.columns if group.cell(row, column) is not None} for row in group.rows}
    columns = [column for column in group.columns if sum(column in have for have in known.values()) >= max(_LEAST_MODELS, len(known) / 2)]
    models = [row for row, have in known.items() if have.issuperset(columns)]
    if len(columns) < _LEAST_COLUMNS or len(models) < _LEAST_MODELS:
        return [], []
    by_column = []
    for column in columns:
        values = [cell.value for cell in (group.cell(row, column) for row in models) if cell is not None]
        by_column.append(rankdata([-value for value in values]))
    ranked = [Ranking(model, tuple(float(ranks[place]) for ranks in by_column)) for place, model in enumerate(models)]
    return columns, sorted(ranked, key=lambda one: one.mean)
