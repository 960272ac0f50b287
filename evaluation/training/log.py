"""The log of a training: one JSON object a line, one line per global step."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Any

from zoo.errors import UserError
from zoo.files import replace_text
from zoo.reading.outside import read_bytes, record_of, told

LOG_NAME = "log.jsonl"
_NO_NUMBER = re.compile(rb"(?<=[:\[,])\s*(NaN|-?Infinity)\b")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, each with its ``step``; a last line that a killed process left unfinished is left out.

    Raises UserError for a file that cannot be read, and for any other line that is no row.
    """
    lines = [(number, line) for number, line in enumerate(read_bytes(path).split(b"\n"), start=1) if line.strip()]
    rows = []
    for number, line in lines:
        where = f"{path}, line {number}"
        try:
            row = _row(line, where)
        except UserError as error:
            if number == lines[-1][0]:
                break
            raise UserError(f"{error}; the log was damaged: remove that line, or the whole file, which nothing but curves needs") from error
        if type(row.get("step")) is not int or row["step"] < 0:
            raise UserError(f"{where}: a row of the log has a step, a whole number from 0 on, and this one has {told(row.get('step'))}")
        rows.append(row)
    return rows


def _row(line: bytes, where: str) -> dict[str, Any]:
    # A number may have been none, such as the precision of a class that no image shows.
    plain = _NO_NUMBER.sub(b"null", line)
    row = record_of(plain, where)
    if plain != line:
        row = json.loads(line)
    return row


class Log:
    """Appends rows to ``path``.

    Parameters
    ----------
    path
        The file.
    step
        Steps done before: rows from this global step on, which a killed run wrote after its last checkpoint, are dropped, so that
        every step has one row.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        self.path = path
        kept = [row for row in read_log(path) if row["step"] < step] if path.exists() else []
        replace_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by __exit__)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row, whole or not at all. Raises OSError where the disk does not take it."""
        line = (json.dumps(row) + "\n").encode()
        before = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
        except OSError:
            self._file.truncate(before)
            raise

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
