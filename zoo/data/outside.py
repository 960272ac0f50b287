"""The one gate for what comes from outside: files of labels and annotations that people and other programs wrote.

Bytes become typed values here or nowhere. Whatever else may stand in such a file (another type, null, NaN, 1e400, brackets 100,000 deep,
bytes that are no UTF-8, a label of 5,000 digits) ends in one sentence that names the file and the place in it.

msgspec is imported when something is read: steps, kNN and k-means on images that lie in memory do without it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import UserError

T = TypeVar("T")
# Digits of the largest whole number that may be a label, a size or an id.
_MOST_DIGITS = 18
_MOST_FIELD = 1 << 24  # characters in one cell of a table
_SHOWN = 60


def read_bytes(path: str | Path) -> bytes:
    """The content of a file. Raises UserError where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark. Raises UserError where it is none."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank. Raises UserError where the file is no text."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_json(path: str | Path, kind: type[T], form: str = "") -> T:
    """A JSON file as ``kind``.

    Parameters
    ----------
    kind
        A type as msgspec takes it: a Struct, or ``dict[str, list[str]]``.
    form
        What the file must look like, for the message.

    Raises
    ------
    UserError
        The file cannot be read, is no JSON, or something in it is of another type.
    """
    return typed_json(read_bytes(path), kind, str(path), form)


def typed_json(data: bytes | bytearray | memoryview, kind: type[T], where: str, form: str = "") -> T:
    """JSON as ``kind``; ``where`` is its file, and ``form`` what it must look like, for the message. Raises UserError."""
    import msgspec

    must = f"; it must have the form {form}" if form else ""
    if bytes(data[:3]) == b"\xef\xbb\xbf":
        data = memoryview(data)[3:]
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_plain(str(error))}{must}") from error
    except msgspec.DecodeError as error:
        raise UserError(f"{where} is not valid JSON ({error}){must}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not valid JSON (byte {error.start} is not UTF-8){must}") from error
    except RecursionError as error:
        raise UserError(f"{where} is not read: its brackets are nested too deep{must}") from error


def typed(value: Any, kind: type[T], where: str) -> T:
    """A value out of such a file as ``kind``. Raises UserError that begins with ``where``."""
    import msgspec

    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_plain(str(error))}") from error


def whole_number(text: str) -> int | None:
    """A whole number from 0 on of plain digits, or None: no sign, no other script's digits, no more than 18 of them."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None


def shown(text: str) -> str:
    """Text out of a file for a message, cut where it is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


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


def _plain(text: str) -> str:
    """msgspec's message with the place first."""
    what, _, place = text.partition(" - at ")
    return f"at {place}: {what}" if place else what
