"""One writer for a run folder. Imports no torch."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from zoo.errors import UserError

LOCK_FILE = ".lock"
# A process's own locks never refuse it; so what it holds is kept here.
_held: set[str] = set()


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run folder ``folder``, which must exist, in the block.

    The system's lock on a file in it decides, which ends with the process, however that ends: what a killed one leaves behind is no lock.
    It is a record lock, which loader processes do not inherit and which network file systems pass on to other machines. The file says who
    holds it: host, process and start.

    Raises
    ------
    UserError
        Another process, or another training of this one, holds the folder.
    """
    path = folder / LOCK_FILE
    name = os.path.realpath(path)
    if name in _held:
        raise UserError(f"{folder} is being written by another training of this process; wait for its end")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"{folder} cannot be locked ({error.strerror}); is it writable?") from error
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise UserError(f"{folder} is being written by {_holder(handle)}; wait for its end, or stop it first") from error
        except OSError:
            pass  # a file system without locks: then there is nothing to go by
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "start": datetime.now(UTC).isoformat(timespec="seconds")}
        # On a full disk nobody can be told who holds it; it is held all the same.
        with contextlib.suppress(OSError):
            os.truncate(handle, 0)
            os.pwrite(handle, json.dumps(facts).encode(), 0)
        _held.add(name)
        try:
            yield
        finally:
            _held.discard(name)
            with contextlib.suppress(OSError):
                os.truncate(handle, 0)
    finally:
        os.close(handle)


def check_unlocked(folder: Path) -> None:
    """Raise UserError where another process writes ``folder``; one that does not exist, or was never locked, is free."""
    if (folder / LOCK_FILE).exists():
        with run_lock(folder):
            pass


def _holder(handle: int) -> str:
    try:
        facts = json.loads(os.pread(handle, 4096, 0))
        return f"process {int(facts['pid'])} on {facts['host']} since {facts['start']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
