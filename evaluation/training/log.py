"""The log of a training: one JSON object a line, one line per global step."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from zoo.files import replace_text

LOG_NAME = "log.jsonl"


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that a killed process left unfinished is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


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
