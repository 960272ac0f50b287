"""Predictions as a CSV file that spreadsheets and pandas read alike.

UTF-8 with a byte-order mark, by which Excel knows it, commas, quotes where needed, lines that end in CR LF (RFC 4180). A cell that a
spreadsheet would take for a formula is none: a path that begins so has ``./`` before it, which is the same file, and the name of a class
an apostrophe.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from evaluation.classifiers.predict import Predictions
from zoo.files import replace_text

_MARK = "\ufeff"
# How formulas begin, in any spreadsheet (OWASP, CSV injection), the wide forms of East Asian keyboards included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_DIGITS = 6


def write_table(path: str | Path, predictions: Predictions) -> None:
    """Write the table, whole or not at all: ``image``, then ``class_1``, ``probability_1``, ``class_2``, ... A name that is not UTF-8 has
    ``\\udc..`` codes for its bytes. Raises UserError where the system refuses.
    """
    replace_text(path, table_text(predictions))


def table_text(predictions: Predictions) -> str:
    """The table's text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    count = predictions.top.shape[1]
    writer.writerow(["image", *(f"{what}_{rank}" for rank in range(1, count + 1) for what in ("class", "probability"))])
    names = [harmless(name, "'") for name in predictions.classes]
    for row in range(len(predictions.top)):
        cells = [harmless(predictions.name(row), "./")]
        for number, chance in zip(predictions.top[row], predictions.probabilities[row], strict=True):
            cells += [names[number], f"{chance:.{_DIGITS}f}"]
        writer.writerow(cells)
    return _MARK + text.getvalue()


def predictions_of(predictions: Predictions, row: int) -> dict[str, Any]:
    """One image's row as JSON: its path, and its classes with their probabilities, the likeliest first."""
    pairs = zip(predictions.top[row], predictions.probabilities[row], strict=True)
    likeliest = [{"class": predictions.classes[number], "probability": round(float(chance), _DIGITS)} for number, chance in pairs]
    return {"image": predictions.name(row), "classes": likeliest}


def harmless(text: str, before: str) -> str:
    """``text``, with ``before`` before it where it begins as a formula does."""
    return before + text if text.startswith(_FORMULA) else text
