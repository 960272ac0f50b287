"""Label levels that a user gives: ``hierarchy.json``, or a table ``classes.tsv``, in a data set's root folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zoo.data.base import CLASS_LEVEL
from zoo.data.levels import Grouping, name_some
from zoo.errors import UserError

HIERARCHY_FILE = "hierarchy.json"
TABLE_FILE = "classes.tsv"
_CLASS_COLUMNS = ("wnid", "class")
# Columns of a table that describe a class but group nothing.
_PLAIN_COLUMNS = ("name", "index")
_ID_SUFFIX = "_id"

# Level name -> group name -> the classes in it.
_Hierarchy = dict[str, dict[str, list[str]]]


def read_groupings(
    root: Path, classes: Sequence[str], keys: Sequence[str] | None = None, built_in: Sequence[Grouping] = ()
) -> tuple[Grouping, ...]:
    """The label levels above the classes: those that the set has by itself, and those of its root folder.

    ``hierarchy.json`` maps level name -> group name -> list of class names. Without one, ``classes.tsv`` is read: a
    tab-separated table with a head line, a column ``wnid`` or ``class`` that names the class, and one column per level; the
    columns ``name``, ``index`` and those that end in ``_id`` are left alone. Groups are numbered in the order of their sorted names.

    Parameters
    ----------
    root
        The data set's folder.
    classes
        The C class names.
    keys
        A second name of each class that the files may use, such as its wnid.
    built_in
        Levels that the set has by itself; a file cannot define these again.

    Raises
    ------
    UserError
        A file that does not have this form, a class that the set lacks, or one that a level lacks or names twice.
    """
    path = root / HIERARCHY_FILE
    if path.is_file():
        hierarchy = _read_json(path)
    else:
        path = root / TABLE_FILE
        if not path.is_file():
            return tuple(built_in)
        hierarchy = _read_table(path)
    index = {name: number for number, name in enumerate(classes)}
    index.update({key: number for number, key in enumerate(keys or ())})
    taken = {CLASS_LEVEL, *(grouping.name for grouping in built_in)}
    for level in hierarchy:
        if level in taken:
            raise UserError(f"{path}: the level '{level}' exists already in this data set; give yours another name")
    return (*built_in, *(_grouping(path, level, groups, classes, index) for level, groups in hierarchy.items()))


def grouping_from_names(name: str, groups: Mapping[str, Sequence[str]], classes: Sequence[str]) -> Grouping:
    """A grouping from group name -> class names, which must be a partition of ``classes``."""
    group_of = {member: number for number, group in enumerate(sorted(groups)) for member in groups[group]}
    return Grouping(name, tuple(sorted(groups)), np.array([group_of[member] for member in classes], dtype=np.int64))


def _grouping(path: Path, level: str, groups: Mapping[str, list[str]], classes: Sequence[str], index: Mapping[str, int]) -> Grouping:
    """Check one level of a user's file and turn it into a grouping."""
    of_class = np.full(len(classes), -1, dtype=np.int64)
    names = sorted(groups)
    for number, group in enumerate(names):
        for member in groups[group]:
            if member not in index:
                raise UserError(f"{path}: level '{level}' names the class '{member}', which the data set does not have")
            position = index[member]
            if of_class[position] >= 0:
                twice = f"in '{names[of_class[position]]}' and in '{group}'"
                raise UserError(f"{path}: level '{level}' names the class '{member}' twice ({twice})")
            of_class[position] = number
    missing = [classes[position] for position in np.flatnonzero(of_class < 0).tolist()]
    if missing:
        raise UserError(f"{path}: level '{level}' lacks the class {name_some(missing)}; each class must be in one group of each level")
    return Grouping(level, tuple(names), of_class)


def _read_json(path: Path) -> _Hierarchy:
    def without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result: dict[str, object] = {}
        for key, value in pairs:
            if key in result:
                raise UserError(f"{path}: '{key}' stands there twice")
            result[key] = value
        return result

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=without_repetition)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error})") from error
    form = '{"LEVEL": {"GROUP": ["CLASS", ...], ...}, ...}'
    if not isinstance(content, dict):
        raise UserError(f"{path} must have the form {form}")
    for level, groups in content.items():
        if not isinstance(groups, dict) or not groups:
            raise UserError(f"{path}: level '{level}' must map group names to lists of classes, in the form {form}")
        for group, members in groups.items():
            if not isinstance(members, list) or not members or not all(isinstance(member, str) for member in members):
                raise UserError(f"{path}: group '{group}' of level '{level}' must be a list of class names")
    return content


def _read_table(path: Path) -> _Hierarchy:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restkey=""))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a tab-separated table ({error})") from error
    columns = list(rows[0]) if rows else []
    class_column = next((column for column in _CLASS_COLUMNS if column in columns), None)
    if class_column is None:
        raise UserError(
            f"{path} must be a tab-separated table whose head line has a column 'wnid' or 'class'; "
            "rename it if it is no table of label levels"
        )
    plain = (class_column, *_PLAIN_COLUMNS)
    hierarchy: _Hierarchy = {}
    for column in columns:
        if column in plain or column.endswith(_ID_SUFFIX):
            continue
        groups = hierarchy.setdefault(column, {})
        for line, row in enumerate(rows, start=2):
            if not row.get(column) or not row.get(class_column):
                raise UserError(f"{path}, line {line}: no value in the column '{column}' or '{class_column}'")
            groups.setdefault(row[column], []).append(row[class_column])
    return hierarchy
