"""``csv:FILE,root=DIR,image=COLUMN,label=COLUMN[,split=COLUMN]``: a table of labels, as CSV, TSV or Parquet."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.base import Data, FileImages, MultiLabel
from zoo.data.entries import FileEntry
from zoo.data.files import composed
from zoo.data.hierarchy import read_groupings
from zoo.data.images import Reading, reading_of
from zoo.data.images.endings import read_endings
from zoo.data.levels import Grouping, make_levels
from zoo.data.outside import read_table
from zoo.data.own.assemble import ALL, Parts, assemble
from zoo.data.own.split_names import NAMES, TEST_SPLITS, TRAIN, split_of
from zoo.data.scan import OnBad
from zoo.data.spec import DataSpec, unknown_option
from zoo.errors import UserError, first_line
from zoo.reading.outside import shown

NAME = "csv"
PARQUET = (".parquet", ".pq")
# Between several labels in one cell.
SEPARATORS = ("|", ";")
# Images looked for before anything else, so that a wrong root is one sentence and not a list of bad images.
_LOOKED_FOR = 100

# A row's line (from 1, the head line included), image, labels (None: there is no such column), and split.
_Row = tuple[int, str, "list[str] | None", "str | None"]


def open_table(spec: DataSpec, on_bad: OnBad = "refuse") -> Data:
    """Images by a table: one row an image.

    The image is a path, relative to ``root=`` (by default the table's folder). A label is text; where cells hold several, separated by
    ``|`` (or ``;``) or as a list in Parquet, images have several labels each (:class:`~zoo.data.base.MultiLabel`), and an empty cell none.
    Without ``label=`` images have no labels. The column that ``split=`` names holds a split's name; without it, ``holdout=`` parts the
    rows. Images are in the order of the rows, classes in the order of their names.

    Raises
    ------
    UserError
        No such file or column, a row without image or (single) label, a split's name that is none, one image with two labels in two rows,
        images that are not where the table says; and what :func:`zoo.data.own.assemble.assemble` raises.
    """
    path = _file(spec)
    columns, rows = _rows(spec, path)
    if not rows:
        raise UserError(f"{path} has no rows, only the head line {', '.join(columns)}")
    root = Path(spec.options.get("root", str(path.parent))).expanduser()
    paths, decisions = _paths(path, root, rows)
    several = any(labels is not None and len(labels) != 1 for _, _, labels, _ in rows) and _holds_lists(rows)
    if not several:
        _check_single(path, rows)
    by_split: dict[str, list[int]] = {}
    for number, (_, _, _, split) in enumerate(rows):
        by_split.setdefault(ALL if split is None else split, []).append(number)
    first = TRAIN if TRAIN in by_split else next(iter(by_split))
    if first not in (TRAIN, ALL):
        raise UserError(f"{path}: its column '{spec.options['split']}' names no row '{TRAIN}'; labelled data needs images to learn from")
    classes = tuple(sorted({label for row in by_split[first] for label in rows[row][2] or ()}))
    groupings = read_groupings(path.parent, classes) if classes and not several else ()
    reading = reading_of(spec)

    def listing(split: str) -> FileImages:
        chosen = by_split[split]
        _check_known(path, [rows[row] for row in chosen], classes, split)
        labels = [rows[row][2] or [] for row in chosen] if classes else None
        entries = [FileEntry(paths[row]) for row in chosen]
        return labelled_entries(split, entries, labels, classes, groupings, several=several, reading=reading)

    splits: dict[str, Callable[[], FileImages]] = {}
    for split in (first, *TEST_SPLITS):
        if split in by_split:
            splits[split] = lambda split=split: listing(split)  # type: ignore[misc]
    if several:
        decisions.append("cells hold several labels: an image may show several classes")
    advice = "name a column of splits (split=COLUMN), or add holdout=0.2" if first == ALL and classes else "name the labels (label=COLUMN)"
    return assemble(spec, NAME, Parts(splits, tuple(decisions), advice), root=root, on_bad=on_bad)


def labelled_entries(
    split: str,
    entries: Iterable[FileEntry],
    labels: Sequence[Sequence[str]] | None,
    classes: tuple[str, ...],
    groupings: tuple[Grouping, ...] = (),
    *,
    several: bool,
    reading: Reading,
    name: str = NAME,
) -> FileImages:
    """Images with their labels by name: one each, or several."""
    if labels is None:
        return FileImages(name, split, entries, {}, reading=reading)
    number = {label: index for index, label in enumerate(classes)}
    if not several:
        numbers = np.array([number[one[0]] for one in labels], dtype=np.int64)
        return FileImages(name, split, entries, make_levels(numbers, classes, groupings), reading=reading)
    values = np.full((len(labels), len(classes)), -1, dtype=np.int8)
    for row, given in enumerate(labels):
        values[row, [number[label] for label in given]] = 1
    return FileImages(name, split, entries, {}, multilabel=MultiLabel(values, classes), reading=reading)


def _file(spec: DataSpec) -> Path:
    if not spec.place:
        raise UserError(f"data '{spec}' needs its table: csv:FILE,root=DIR,image=COLUMN,label=COLUMN")
    path = Path(spec.place).expanduser()
    if not path.is_file():
        hint = unknown_option(spec)
        raise UserError(f"data '{spec}': {path} is {'no file' if path.exists() else 'missing'}{f'; {hint}' if hint else ''}")
    return path


def _rows(spec: DataSpec, path: Path) -> tuple[list[str], list[_Row]]:
    """The columns, and what the rows say; every row has an image."""
    is_parquet = path.suffix.lower() in PARQUET
    columns, lines = _parquet(path) if is_parquet else read_table(path, "\t" if path.suffix.lower() in (".tsv", ".tab") else None)
    place = {role: _column(spec, path, columns, role) for role in ("image", "label", "split")}
    image, label, split = place["image"], place["label"], place["split"]
    if image is None:
        raise UserError(f"data '{spec}' must say which column names the images (image=COLUMN); {path} has {', '.join(map(shown, columns))}")
    raw = list(lines)
    separator = _separator(cells[label] for _, cells in raw) if label is not None else None
    rows: list[_Row] = []
    for line, cells in raw:
        if not isinstance(cells[image], str) or not cells[image] or "\0" in cells[image]:
            raise UserError(f"{path}, line {line}: no path of an image in the column '{columns[image]}'")
        labels = None if label is None else _labels(path, line, cells[label], separator)
        rows.append((line, cells[image], labels, None if split is None else _split(path, line, columns[split], cells[split])))
    return columns, rows


def _column(spec: DataSpec, path: Path, columns: list[str], role: str) -> int | None:
    wanted = spec.options.get(role)
    if wanted is None:
        return None
    if wanted not in columns:
        near = get_close_matches(wanted, columns, 1)
        hint = f", did you mean '{near[0]}'" if near else ""
        raise UserError(f"{path} has no column '{wanted}'{hint}; it has {', '.join(map(shown, columns))}")
    return columns.index(wanted)


def _parquet(path: Path) -> tuple[list[str], Iterator[tuple[int, list[Any]]]]:
    if find_spec("pyarrow") is None:
        raise UserError(f"{path} is a Parquet table, which is read with an extra: pip install 'backbone-loop[parquet]'")
    from pyarrow import ArrowException, parquet  # only such tables need it

    try:
        table = parquet.read_table(path)
        columns = [str(name) for name in table.column_names]
        values = [table.column(index).to_pylist() for index in range(len(columns))]
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is no readable Parquet table ({first_line(error)})") from error
    # Counted from 1, as there is no head line.
    return columns, ((line, list(cells)) for line, cells in enumerate(zip(*values, strict=True), start=1))


def _separator(cells: Iterator[Any]) -> str | None:
    found = {sign for cell in cells if isinstance(cell, str) for sign in SEPARATORS if sign in cell}
    return next((sign for sign in SEPARATORS if sign in found), None)


def _labels(path: Path, line: int, cell: Any, separator: str | None) -> list[str]:
    if isinstance(cell, str):
        parts = cell.split(separator) if separator else [cell]
    elif isinstance(cell, list):
        parts = cell
    else:
        parts = [] if cell is None else [cell]
    labels = []
    for part in parts:
        if isinstance(part, float) or not isinstance(part, str | int):
            raise UserError(f"{path}, line {line}: a label is text or a whole number, not {shown(repr(part))}")
        if text := composed(str(part).strip()):
            labels.append(text)
    return list(dict.fromkeys(labels))


def _split(path: Path, line: int, column: str, cell: Any) -> str:
    split = split_of(cell.strip()) if isinstance(cell, str) else None
    if split is None:
        raise UserError(f"{path}, line {line}: '{shown(str(cell))}' in the column '{column}' is no split's name ({NAMES})")
    return split


def _holds_lists(rows: Sequence[_Row]) -> bool:
    """Whether some cell holds more than one label; where none does, an empty cell is a mistake."""
    return any(labels is not None and len(labels) > 1 for _, _, labels, _ in rows)


def _check_single(path: Path, rows: Sequence[_Row]) -> None:
    known: dict[tuple[str, str | None], tuple[int, str]] = {}
    for line, image, labels, split in rows:
        if labels is None:
            continue
        if not labels:
            raise UserError(f"{path}, line {line}: '{shown(image)}' has no label; give it one, or leave the row out")
        before, label = known.setdefault((image, split), (line, labels[0]))
        if label != labels[0]:
            raise UserError(
                f"{path}: '{shown(image)}' is '{shown(label)}' in line {before} and '{shown(labels[0])}' in line {line}; "
                "several labels of an image belong into one cell, with | between them"
            )


def _check_known(path: Path, rows: Sequence[_Row], classes: tuple[str, ...], split: str) -> None:
    known = set(classes)
    for line, _, labels, _ in rows:
        unknown = [label for label in labels or () if label not in known]
        if unknown and classes:
            raise UserError(f"{path}, line {line}: the {split} split has the class '{shown(unknown[0])}', which the training split lacks")


def _paths(path: Path, root: Path, rows: Sequence[_Row]) -> tuple[list[str], list[str]]:
    """Where the images lie, and what was decided for that. Raises UserError where none of the first is there."""
    if not root.is_dir():
        raise UserError(f"the folder of the images, {root}, is {'no folder' if root.exists() else 'missing'}; give root=DIR")
    named = [image for _, image, _, _ in rows]
    decisions = []
    if any("\\" in image for image in named) and not _is_there(root, named[:_LOOKED_FOR]):
        named = [image.replace("\\", "/") for image in named]
    ending = ""
    if not _is_there(root, named[:_LOOKED_FOR]):
        ending = next((one for one in read_endings() if _is_there(root, [image + one for image in named[:_LOOKED_FOR]])), "")
        if not ending:
            looked = min(_LOOKED_FOR, len(named))
            raise UserError(f"none of the first {looked} images of {path} is there, such as {root / named[0]}; give root=DIR")
        decisions.append(f"images are named without their ending, {ending}")
    return [_written(os.path.join(root, image + ending)) for image in named], decisions


def _is_there(root: Path, images: Sequence[str]) -> bool:
    return any(os.path.isfile(_written(os.path.join(root, image))) for image in images)


def _written(path: str) -> str:
    """The path as the file system writes it, where that is in another of Unicode's forms."""
    if path.isascii() or os.path.exists(path):
        return path
    return next((form for name in ("NFC", "NFD") if os.path.exists(form := unicodedata.normalize(name, path))), path)
