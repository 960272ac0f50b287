"""Facts that are kept between runs, so that an image that has not changed is not decoded again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import FileImages
from zoo.data.images import Reading
from zoo.data.inspection.facts import FORMAT, ROW, WORD_COLUMNS, FactTable
from zoo.data.inspection.files_state import FilesState
from zoo.data.spec import parse_spec
from zoo.errors import UserError
from zoo.files import replace_file
from zoo.home import inspection_home
from zoo.reading.arrays import read_arrays
from zoo.reading.outside import file_names

LOOK_SCHEMA = "backbone-loop look 1"
# Paths that tell where a split lies: enough that one more file rarely makes it another place.
_PATHS_ASKED = 64


def kept_folder() -> Path:
    """Where facts and looks are kept."""
    return inspection_home()


def look_file(spec: str) -> Path:
    """The file of the last look at a data set."""
    parsed = parse_spec(spec)
    told = json.dumps([LOOK_SCHEMA, FORMAT, parsed.name, str(Path(parsed.place).expanduser().absolute()), dict(parsed.options)])
    return kept_folder() / f"{hashlib.sha256(told.encode(errors='surrogateescape')).hexdigest()[:24]}.json"


def facts_file(images: FileImages, reading: Reading) -> Path:
    """The file of a split's facts: named by the folder that its images lie in, the split's name and how images are read."""
    asked = np.unique(np.linspace(0, len(images) - 1, min(len(images), _PATHS_ASKED)).round().astype(np.int64))
    place = os.path.commonpath([os.path.abspath(images.entries[int(index)].path) for index in asked])
    told = json.dumps([FORMAT, place, images.name, images.split, repr(reading)])
    return kept_folder() / f"{hashlib.sha256(told.encode(errors='surrogateescape')).hexdigest()[:24]}.npz"


def read_kept(path: Path, state: FilesState) -> tuple[FactTable, NDArray[np.bool_]]:
    """What is kept of the files of ``state``.

    Returns
    -------
    A table of as many rows as there are files, and a bool array that says which of its rows are known: those whose file has the same
    name, size and time as when its facts were kept. A file of facts that is damaged, or of another version, is as good as none.
    """
    unknown = FactTable(np.zeros(len(state.names), ROW)), np.zeros(len(state.names), dtype=np.bool_)
    try:
        rows, sizes, times, text, packed = read_arrays(path, "rows", "sizes", "times", "names", "words")
        words = file_names(packed.tobytes())
    except (OSError, KeyError, ValueError):
        return unknown
    if not (rows.dtype == ROW and sizes.dtype == times.dtype == np.int64 and rows.shape == sizes.shape == times.shape == (len(rows),)):
        return unknown
    # Words are asked for by their positions.
    if not words or any(len(rows) and int(rows[column].max()) >= len(words) for column in WORD_COLUMNS):
        return unknown
    names = text.tobytes().decode(errors="surrogateescape").split("\0")
    if len(names) != len(rows):
        return unknown
    if names == state.names:
        found = np.arange(len(rows))
    else:
        places = {name: index for index, name in enumerate(names)}
        found = np.array([places.get(name, -1) for name in state.names], dtype=np.int64)
    # Position -1 is the last row's, which is then not taken for known.
    known = (found >= 0) & (sizes[found] == state.sizes) & (times[found] == state.times) & (state.sizes >= 0)
    taken = rows[found]
    taken[~known] = np.zeros((), ROW)
    return FactTable(taken, words), known


def keep(path: Path, state: FilesState, table: FactTable) -> str | None:
    """Write facts; returns why they could not be kept, or None. Nothing depends on it but time."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(
                file,
                rows=table.rows,
                sizes=state.sizes,
                times=state.times,
                names=np.frombuffer(state.text(), np.uint8),
                words=np.frombuffer(json.dumps(table.words).encode(), np.uint8),
            )

    try:
        replace_file(path, write)
    except UserError as error:
        return str(error)
    return None
