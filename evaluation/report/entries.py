"""The results that a report is made of: read from files, folders and zoo models, each once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.model_folder.manifest import is_zoo_model, read_manifest
from zoo.reading.outside import MOST_RECORD_BYTES, read_bytes, typed_json
from zoo.results import SCHEMA, Result, load_result

_SUFFIX = ".json"
_FAMILY = SCHEMA.rpartition(" ")[0]


@dataclass(frozen=True)
class Entry:
    """A result in a report.

    Attributes
    ----------
    number
        From 1, in the order in which the results were given.
    result
        The result.
    source
        The file it was read from; for one of a zoo model, the folder.
    """

    number: int
    result: Result
    source: Path

    @property
    def anchor(self) -> str:
        """Where the page says everything about the result."""
        return f"result-{self.number}"


@dataclass(frozen=True)
class Entries:
    """The results of a report, and sentences about what was left out."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...]


def read_entries(paths: Sequence[str | Path]) -> Entries:
    """Results of files, of folders (their ``.json`` files) and of zoo models.

    A result that is given twice, whole and equal, counts once. In a folder, JSON files of another kind are left out.

    Raises
    ------
    UserError
        A file that is no result, a folder without any, a path that does not exist, none at all.
    """
    if not paths:
        raise UserError("name at least one result: a file that `evaluate --out` wrote, or a folder of such files")
    entries: list[Entry] = []
    notes: list[str] = []
    for path in map(Path, paths):
        found = 0
        for source, result in _results_of(path, notes):
            found += 1
            known = next((entry for entry in entries if entry.result == result), None)
            if known is None:
                entries.append(Entry(len(entries) + 1, result, source))
            else:
                same = "is given twice" if source == known.source else f"is the same result as {known.source}"
                notes.append(f"{source} {same}; it counts once")
        if not found:
            raise UserError(f"there is no result in {path}; `evaluate --out` writes results, and `zoo add-result` adds them to a zoo model")
    return Entries(tuple(entries), tuple(notes))


def _results_of(path: Path, notes: list[str]) -> Iterator[tuple[Path, Result]]:
    if is_zoo_model(path):
        for result in read_manifest(path).results:
            yield path, result
    elif path.is_dir():
        for file in sorted(path.glob(f"*{_SUFFIX}")):
            if _is_of_another_kind(file):
                notes.append(f"{file} is no result and was left out")
            else:
                yield file, load_result(file)
    else:
        yield path, load_result(path)


def _is_of_another_kind(file: Path) -> bool:
    """Whether a file is JSON that does not claim to be a result. A damaged file may have been one, so it does not count as such."""
    try:
        content = typed_json(read_bytes(file, MOST_RECORD_BYTES), Any, str(file))
    except UserError:
        return False
    return not isinstance(content, dict) or not str(content.get("schema", "")).startswith(_FAMILY)
