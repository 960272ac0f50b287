"""Label levels that a user gives: ``hierarchy.json``, or a table ``classes.tsv``, in a data set's root folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.base import CLASS_LEVEL
from zoo.data.files import composed
from zoo.data.levels import Grouping, name_some
from zoo.data.outside import read_table
from zoo.errors import UserError
from zoo.reading.outside import read_record, typed

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
    index = {composed(name): number for number, name in enumerate(classes)}
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
        for member in map(composed, groups[group]):
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
    form = '{"LEVEL": {"GROUP": ["CLASS", ...], ...}, ...}'
    content = read_record(path, form)
    hierarchy: _Hierarchy = {}
    for level, found in content.items():
        groups = typed(found, dict[str, Any], f"{path}: level '{level}'")
        if not groups:
            raise UserError(f"{path}: level '{level}' has no groups; it must have the form {form}")
        hierarchy[level] = {
            group: typed(members, list[str], f"{path}: group '{group}' of level '{level}'") for group, members in groups.items()
        }
        empty = next((group for group, members in hierarchy[level].items() if not members), None)
        if empty is not None:
            raise UserError(f"{path}: group '{empty}' of level '{level}' has no classes")
    return hierarchy


def _read_table(path: Path) -> _Hierarchy:
    columns, lines = read_table(path, "\t")
    class_column = next((columns.index(column) for column in _CLASS_COLUMNS if column in columns), None)
    if class_column is None:
        raise UserError(
            f"{path} must be a tab-separated table whose head line has a column 'wnid' or 'class'; "
            "rename it if it is no table of label levels"
        )
    levels = {
        number: column
        for number, column in enumerate(columns)
        if number != class_column and column not in _PLAIN_COLUMNS and not column.endswith(_ID_SUFFIX)
    }
    hierarchy: _Hierarchy = {column: {} for column in levels.values()}
    for line, cells in lines:
        for number, column in levels.items():
            if not cells[number] or not cells[class_column]:
                raise UserError(f"{path}, line {line}: no value in the column '{column}' or '{columns[class_column]}'")
            hierarchy[column].setdefault(cells[number], []).append(cells[class_column])
    return hierarchy
