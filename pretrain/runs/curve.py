"""The picture of a training for its model card: loss, learning rate and, where it was checked, kNN accuracy over the steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation.training.log import LOG_NAME, read_log
from zoo.errors import UserError, drawable
from zoo.reading.outside import shown

_INCHES, _DPI = (7.0, 2.6), 100
# Points of a line; a longer log is drawn as the means of as many equal stretches.
_POINTS = 300
# Of values, so that the numbers along an axis can be computed.
_MOST = 1e100
_LOSS, _RATE, _KNN = "#2f5d8a", "#8a8a8a", "#2a9d4e"


def draw_curve(run: str | Path, *, steps: int, title: str) -> bytes | None:
    """Draw a run's log up to a step.

    Parameters
    ----------
    run
        A run folder.
    steps
        Of the weights that the picture is for; later rows belong to weights that are not.
    title
        What the picture is of.

    Returns
    -------
    The bytes of a PNG file, the same for the same log; None where there is no log, or none of these steps.

    Raises
    ------
    UserError
        The log cannot be read.
    """
    path = Path(run) / LOG_NAME
    if not path.exists():
        return None
    try:
        rows = [row for row in read_log(path) if row["step"] < steps]
        losses, rates, checks = (_points(rows, name) for name in ("loss", "lr", "knn_top1"))
        if len(losses) < len(rows):
            raise UserError(f"{path} has rows without a loss")
    except UserError as error:
        raise UserError(f"{error}; remove the log to export without a training curve") from error
    if not losses:
        return None
    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    axes = figure.subplots(1, 3 if checks else 2)
    _line(axes[0], losses, "loss", _LOSS)
    _line(axes[1], rates, "learning rate", _RATE)
    if checks:
        # The log has shares of the test images.
        axes[2].plot(*(np.array(checks) * (1, 100)).T, color=_KNN, marker=".")
        axes[2].set_title("kNN top-1, percent", fontsize=9)
    for axis in axes:
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    figure.suptitle(drawable(title), fontsize=10)
    picture = io.BytesIO()
    # Without the library's version in it, the same log makes the same file.
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _points(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    """Step and value of the rows that have a number of this name. Raises UserError for a value that is none, or that no axis could show."""
    for row in rows:
        value = row.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MOST or row["step"] > _MOST:
            raise UserError(f"the log's row of step {row['step']} has the {name} {shown(str(value))}")
    return [(row["step"], row[name]) for row in rows if name in row]


def _line(axis: Any, points: Sequence[tuple[int, float]], label: str, colour: str) -> None:
    axis.set_title(label, fontsize=9)
    if points:
        axis.plot(*_thinned(np.array(points, dtype=float)).T, color=colour, linewidth=1)


def _thinned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most ``_POINTS`` points (N, 2): the means of stretches of equal length."""
    if len(points) <= _POINTS:
        return points
    return np.array([stretch.mean(0) for stretch in np.array_split(points, _POINTS)])
