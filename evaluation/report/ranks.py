"""Models ranked by several protocols: which is best on average, where one is first by this and third by that."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from scipy.stats import rankdata

from evaluation.report.groups import Column, Group, Model

# With two models a rank says no more than the table.
_LEAST_MODELS, _LEAST_COLUMNS = 3, 2


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
