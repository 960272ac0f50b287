"""Pictures of what a network finds similar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation.extraction.labelled import LabelledData
from zoo.data import Images
from zoo.errors import drawable
from zoo.files import replace_file
from zoo.results import Result

_CELL_INCHES = 0.85
_TITLE_INCHES = 0.7
_SAME, _OTHER = "#2a9d4e", "#c8382f"


def draw_result(path: str | Path, result: Result, data: LabelledData) -> None:
    """The sheet of a kNN result: the test images that it lists, with their neighbours. Parameters and errors as :func:`draw_neighbours`."""
    shown = result.details["neighbours"]
    headline = f"{result.headline.metric} {result.headline.value:.2f} %"
    draw_neighbours(
        path,
        data.test,
        data.train,
        np.array(shown["test"]),
        np.array(shown["train"]),
        level=data.level,
        title=f"{result.model.name} on {data.data.spec}: {result.task} {result.preset}, {headline}",
    )


def draw_neighbours(
    path: str | Path,
    test: Images,
    train: Images,
    queries: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    *,
    level: str,
    title: str,
) -> None:
    """A sheet with a row per test image: the image, then its nearest training images, framed by whether they share its label.

    Parameters
    ----------
    path
        The PNG file to write; it is there whole or not at all.
    test, train
        The splits.
    queries
        int64 (Q,): positions in ``test``.
    neighbours
        int64 (Q, k): positions in ``train``, the nearest first.
    level
        The label level that frames and captions refer to.
    title
        Above the sheet.

    Raises
    ------
    UserError
        A split lacks the level, or the file cannot be written.
    """
    asked, known = test.level(level), train.level(level)
    rows, columns = neighbours.shape
    height = rows * _CELL_INCHES * 1.18 + _TITLE_INCHES
    figure = Figure(figsize=((columns + 2.1) * _CELL_INCHES, height), dpi=130)
    grid = figure.add_gridspec(
        rows,
        columns + 1,
        width_ratios=[1.3, *[1] * columns],
        left=0.13,
        right=0.99,
        bottom=0.01,
        top=1 - _TITLE_INCHES / height,
        hspace=0.12,
        wspace=0.06,
    )
    for row, query in enumerate(queries):
        name = asked.classes[asked.labels[query]]
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(np.asarray(test.read(int(query))), interpolation="nearest")
        axes.set_ylabel(drawable(name), rotation=0, ha="right", va="center", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        for column, neighbour in enumerate(neighbours[row]):
            axes = figure.add_subplot(grid[row, column + 1])
            axes.imshow(np.asarray(train.read(int(neighbour))), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            same = known.classes[known.labels[neighbour]] == name
            for spine in axes.spines.values():
                spine.set_color(_SAME if same else _OTHER)
                spine.set_linewidth(2.5)
    figure.suptitle(drawable(title), fontsize=9, y=1 - 0.22 / height)
    figure.text(0.01, 1 - 0.5 / height, "test image", fontsize=8)
    figure.text(0.3, 1 - 0.5 / height, "nearest training images: green frame, same class; red, another", fontsize=8)
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))
