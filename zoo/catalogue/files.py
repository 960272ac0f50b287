"""Reading catalogue files: the one that comes with the toolkit, and the user's own."""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from zoo.catalogue.entry import CatalogueEntry, Home, PublishedResult
from zoo.errors import UserError, did_you_mean, first_line
from zoo.normalisation import three_channels
from zoo.reading.outside import MOST_RECORD_BYTES, read_text
from zoo.results import Result, load_result

BUILTIN_FILE = Path(__file__).with_name("catalogue.toml")
FILES_VARIABLE = "ZOO_CATALOGUE"
_USER_FILE = Path("backbone-loop", "catalogue.toml")
_NAME = re.compile(r"[a-z0-9_]+\.[A-Za-z0-9][A-Za-z0-9_-]*")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_HOME_KEYS = {"repository": str, "revision": str, "url": str, "md5_prefix": str, "sha256_prefix": str}
_PROJECT_KEYS = {"source": str, "licence": str, "licence_note": str, "citation": str, "note": str, "data": str, "reader": str}
_MODEL_KEYS = {
    "name": str,
    "arch": str,
    "method": str,
    "encoder": str,
    "epochs": int,
    "batch": int,
    "crops": str,
    "data": str,
    "parameters": int,
    "licence": str,
    "licence_note": str,
    "sha256": str,
    "reader": str,
    "recipe": str,
    "citation": str,
    "note": str,
    "ask": str,
    "image_size": int,
    "interpolation": str,
    "crop_pct": float,
    "confirmed": bool,
}
_OTHER_MODEL_KEYS = {"project": str, "published": list, "own": list, "mean": list, "std": list, **_HOME_KEYS}
_RESULT_KEYS = {"task": str, "metric": str, "value": float, "data": str, "source": str, "note": str}


def user_files() -> tuple[Path, ...]:
    """The user's catalogue files: those that the variable ``ZOO_CATALOGUE`` lists, else the one in the user's configuration folder.

    The latter is ``$XDG_CONFIG_HOME/backbone-loop/catalogue.toml`` (``~/.config`` where the variable is not set) and may be absent.
    """
    listed = os.environ.get(FILES_VARIABLE)
    if listed is not None:
        return tuple(Path(name).expanduser() for name in listed.split(os.pathsep) if name)
    folder = os.environ.get("XDG_CONFIG_HOME")
    path = (Path(folder) if folder else Path.home() / ".config") / _USER_FILE
    return (path,) if path.is_file() else ()


def load_catalogue(files: Iterable[str | Path] | None = None) -> dict[str, CatalogueEntry]:
    """All entries by name, those of the toolkit first; an entry of a later file takes the place of an earlier one of the same name.

    Parameters
    ----------
    files
        The files that are added to the toolkit's own; None: the user's (:func:`user_files`).

    Raises
    ------
    UserError
        A file is missing, is no TOML, or says something that no entry can hold; the file, the entry and the key are named.
    """
    entries = dict(_builtin())
    for path in user_files() if files is None else files:
        entries.update(read_catalogue_file(path))
    return entries


def find_entry(name: str, files: Iterable[str | Path] | None = None) -> CatalogueEntry:
    """The entry called ``name``. Raises UserError, with the nearest names, where there is none."""
    entries = load_catalogue(files)
    if name in entries:
        return entries[name]
    raise UserError(f"the catalogue has no model '{name}'{did_you_mean(name, entries, 3)} (`zoo list` shows them all)")


def matching(entries: Mapping[str, CatalogueEntry], pattern: str | None) -> list[CatalogueEntry]:
    """The entries whose name fits a shell pattern (``*hcsc*``), or holds ``pattern`` where it has no wildcard; case does not count."""
    if pattern is None:
        return list(entries.values())
    pattern = pattern.lower()
    if not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"
    return [entry for name, entry in entries.items() if fnmatch.fnmatchcase(name.lower(), pattern)]


@cache
def _builtin() -> dict[str, CatalogueEntry]:
    return read_catalogue_file(BUILTIN_FILE)


def read_catalogue_file(path: str | Path) -> dict[str, CatalogueEntry]:
    """The entries of one file, by name. Raises UserError that names the file, the entry and the key."""
    path = Path(path)
    try:
        if not path.exists():
            raise UserError(f"there is no catalogue file {path}")
        content = tomllib.loads(read_text(path, MOST_RECORD_BYTES))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise UserError(f"the catalogue file {path} cannot be read as TOML ({first_line(error)})") from error
    origin = "built in" if path == BUILTIN_FILE else str(path)
    try:
        _check_keys(content, {"project": dict, "model": list}, "at the top")
        projects = content.get("project", {})
        for key, project in projects.items():
            _check_keys(project, _PROJECT_KEYS, f"in project '{key}'")
        entries: dict[str, CatalogueEntry] = {}
        for number, row in enumerate(content.get("model", []), 1):
            entry = _entry(row, projects, path.parent, origin, f"in model {number}")
            if entry.name in entries:
                raise ValueError(f"the model '{entry.name}' is there twice")
            entries[entry.name] = entry
    except ValueError as error:
        raise UserError(f"the catalogue file {path} is not valid: {error}") from error
    return entries


def _entry(row: Any, projects: Mapping[str, Any], folder: Path, origin: str, where: str) -> CatalogueEntry:
    _check_keys(row, {**_MODEL_KEYS, **_OTHER_MODEL_KEYS}, where)
    where = f"in model '{row.get('name', where.removeprefix('in model '))}'"
    for key in ("name", "method"):
        if key not in row:
            raise ValueError(f"'{key}' is missing {where}")
    if _NAME.fullmatch(row["name"]) is None:
        raise ValueError(f"'{row['name']}' cannot name a model: write ARCHITECTURE.TAG, such as resnet50.hcsc_200ep")
    project = {}
    if "project" in row:
        if row["project"] not in projects:
            raise ValueError(f"there is no project '{row['project']}' {where}")
        project = projects[row["project"]]
    facts = {key: value for key, value in {**project, **row}.items() if key in _MODEL_KEYS}
    facts.setdefault("arch", row["name"].partition(".")[0])
    facts["reader"] = facts.get("reader") or None
    for key in ("mean", "std"):
        if key in row:
            facts[key] = _three(row[key], key, where)
    return CatalogueEntry(
        **facts,
        home=_home(row, where),
        published=tuple(_published(item, project.get("source"), facts.get("data"), where) for item in row.get("published", [])),
        own=tuple(_own(item, folder, where) for item in row.get("own", [])),
        origin=origin,
    )


def _home(row: Mapping[str, Any], where: str) -> Home | None:
    facts = {key: row[key] for key in _HOME_KEYS if key in row}
    if not facts:
        return None
    home = Home(**facts)
    if (home.repository is None) == (home.url is None):
        raise ValueError(f"either 'repository' or 'url' must say where the weights are {where}")
    if home.url is not None and not home.url.startswith(("https://", "http://")):
        raise ValueError(f"'url' must begin with https:// {where}")
    if home.repository is not None and _REPOSITORY.fullmatch(home.repository) is None:
        raise ValueError(f"'repository' must be ORG/NAME {where}")
    if home.revision is not None and (home.repository is None or _COMMIT.fullmatch(home.revision) is None):
        raise ValueError(f"'revision' must be the 40 hex digits of a commit of 'repository' {where}")
    if "sha256" in row and _SHA256.fullmatch(row["sha256"]) is None:
        raise ValueError(f"'sha256' must be 64 hex digits {where}")
    return home


def _published(item: Any, source: str | None, data: str | None, where: str) -> PublishedResult:
    _check_keys(item, _RESULT_KEYS, f"in a published result {where}")
    facts = {"metric": "top1", "source": source, "data": data, **item}
    for key in ("task", "value", "source", "data"):
        if facts.get(key) is None:
            raise ValueError(f"a published result lacks '{key}' {where}")
    return PublishedResult(**{**facts, "value": float(facts["value"])})


def _own(item: Any, folder: Path, where: str) -> Result:
    if not isinstance(item, str):
        raise ValueError(f"'own' lists result files, and {item!r} is none {where}")
    return load_result(folder / item)


def _three(values: Any, key: str, where: str) -> tuple[float, float, float]:
    if len(values) != 3 or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ValueError(f"'{key}' must be three numbers {where}")
    return three_channels(values)


def _check_keys(content: Any, kinds: Mapping[str, type], where: str) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"a table is wanted {where}")
    for key, value in content.items():
        if key not in kinds:
            raise ValueError(f"'{key}' is not known {where}{did_you_mean(key, kinds)}")
        kind = kinds[key]
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"'{key}' is {value!r} {where}")
