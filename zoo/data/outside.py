"""The gate for files of labels and annotations: lines, tables and whole numbers. Text and JSON pass :mod:`zoo.reading.outside`.

Whatever else may stand in such a file (bytes that are no UTF-8, a label of 5,000 digits) ends in one sentence that names the file and the
place in it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.reading.outside import read_text, shown

# Digits of the largest whole number that may be a label, a size or an id.
_MOST_DIGITS = 18
_MOST_FIELD = 1 << 24  # characters in one cell of a table


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank. Raises UserError where the file is no text."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def whole_number(text: str) -> int | None:
    """A whole number from 0 on of plain digits, or None: no sign, no other script's digits, no more than 18 of them."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None


def read_table(path: str | Path, separator: str | None = None) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """A table in text: the columns of its head line, and the number and cells of each line after it.

    Parameters
    ----------
    separator
        Between cells; None: a tab where the head line has one, else a semicolon where it has no comma, else a comma.

    Raises
    ------
    UserError
        No text, no head line, a column that is named twice; while iterating, a line with another number of cells than the head.
    """
    text = read_text(path)
    head = text.partition("\n")[0]
    if separator is None:
        separator = "\t" if "\t" in head else ";" if ";" in head and "," not in head else ","
    csv.field_size_limit(_MOST_FIELD)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator)
    columns = [column.strip() for column in _next(path, reader) or []]
    if not any(columns):
        raise UserError(f"{path} is empty; its first line must name the columns")
    twice = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
    if twice:
        raise UserError(f"{path}, line 1: the column '{shown(twice[0])}' is named twice")
    return columns, _rows(path, reader, columns)


def _rows(path: str | Path, reader: Any, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    while (row := _next(path, reader)) is not None:
        if not row or not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            raise UserError(f"{path}, line {reader.line_num}: {len(row)} cells, where the head line names {len(columns)} columns")
        yield reader.line_num, [cell.strip() for cell in row]


def _next(path: str | Path, reader: Any) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: no line of a table ({error})") from error
