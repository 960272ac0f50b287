"""The lock file: what was got first under a name, so that a later change is noticed."""

from __future__ import annotations

import errno
import json
import os
import pwd
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from zoo.errors import UserError, first_line
from zoo.files import replace_text
from zoo.home import zoo_home
from zoo.reading.outside import read_record, told

LOCK_FILE = "zoo.lock.json"
LOCK_VARIABLE = "ZOO_LOCK"
SCHEMA = 1


@dataclass(frozen=True)
class FilePin:
    """A file as it was when it was first got: its size in bytes, its sha256."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Pin:
    """What a name stood for when it was first got.

    Attributes
    ----------
    files
        By name.
    commit
        The 40 hex digits that the Hub gave for the revision; None for what does not come from the Hub.
    date
        When it was first got: UTC, ISO 8601.
    """

    files: Mapping[str, FilePin]
    commit: str | None = None
    date: str = ""


class Pins:
    """A lock file.

    Parameters
    ----------
    path
        None: the one that ``$ZOO_LOCK`` names, or else the user's own in :func:`zoo.home.zoo_home`.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path or os.environ.get(LOCK_VARIABLE) or zoo_home() / LOCK_FILE).expanduser()

    def get(self, name: str) -> Pin | None:
        """What is known under a name (``org/name@revision``, or a URL). Raises UserError where the file is damaged."""
        return self._read().get(name)

    def of_commit(self, repository: str, commit: str) -> Pin | None:
        """What is known of a commit of a repository, under whichever revision it was got."""
        for name, pin in self._read().items():
            if pin.commit == commit and name.partition("@")[0] == repository:
                return pin
        return None

    def repositories(self) -> set[str]:
        """The repositories on the Hub of which something is known."""
        return {name.partition("@")[0] for name, pin in self._read().items() if pin.commit is not None}

    def put(self, name: str, files: Mapping[str, FilePin], commit: str | None = None) -> Pin:
        """Remember what a name stands for, in the place of what was known before. Safe beside other processes."""
        pin = Pin(dict(sorted(files.items())), commit, datetime.now(UTC).isoformat(timespec="seconds"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._guard):
                known = self._read()
                known[name] = pin
                content = {"schema": SCHEMA, "pins": {key: asdict(known[key]) for key in sorted(known)}}
                replace_text(self.path, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise self._not_writable(error.filename, error.strerror or str(error)) from error
        return pin

    def check_writable(self) -> None:
        """Raise UserError where :meth:`put` could not write, as beside a file of another user; called before a transfer."""
        for path in (self.path, self._guard):
            if not path.exists():
                continue
            if not path.is_file():
                raise UserError(f"{path} is no ordinary file, and the lock file cannot be written; {LOCK_VARIABLE} names another")
            # A file is replaced by its folder's leave; the guard is opened.
            if not os.access(path if path == self._guard else path.parent, os.W_OK):
                raise self._not_writable(str(path), os.strerror(errno.EACCES))
        there = self.path.parent
        while not os.path.lexists(there):
            there = there.parent
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise self._not_writable(str(there), os.strerror(errno.EACCES if there.is_dir() else errno.ENOTDIR))

    @property
    def _guard(self) -> Path:
        """What is held while the file is written, so that one process does at a time."""
        return self.path.with_name(self.path.name + ".lock")

    def _not_writable(self, path: str | None, why: str) -> UserError:
        what = f"{path or self.path}: {why}{whose(path)}"
        return UserError(f"the lock file {self.path} cannot be written ({what}); {LOCK_VARIABLE} or --lock names another")

    def _read(self) -> dict[str, Pin]:
        if not self.path.exists():
            return {}
        try:
            content = read_record(self.path)
            found = None if content["schema"] != SCHEMA else {name: _pin(value) for name, value in content["pins"].items()}
        except (UserError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"the lock file {self.path} cannot be read ({first_line(error)}); put a good copy back, or remove it to begin again"
            ) from error
        if found is None:
            raise UserError(f"the lock file {self.path} has schema {told(content['schema'])}, and this version reads {SCHEMA}")
        return found


def whose(path: str | Path | None) -> str:
    """``", which belongs to USER"`` where a file is another user's; empty otherwise."""
    if path is None:
        return ""
    try:
        owner = Path(path).stat().st_uid
        return "" if owner == os.getuid() else f", which belongs to {pwd.getpwuid(owner).pw_name}"
    except (OSError, KeyError):
        return ""


def _pin(value: Mapping[str, Any]) -> Pin:
    files = {name: FilePin(int(file["size"]), str(file["sha256"])) for name, file in value["files"].items()}
    return Pin(files, value["commit"], value["date"])
