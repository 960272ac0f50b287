"""One writer for a run folder. Imports no torch."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from zoo.errors import UserError
from zoo.files import PARTIAL_SUFFIX, new_folder, partial_prefix

LOCK_FILE = ".lock"
# Characters that tempfile adds to make a name that is not there yet.
_UNIQUE = 8
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
    with _lock(folder, folder):
        yield


@contextlib.contextmanager
def new_locked_folder(folder: Path, held: contextlib.ExitStack) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends well: whole, and locked as long as ``held`` is open.

    There is no moment at which another process could take the place: a folder that is replaced must be held by the caller, and the new one
    is held before it gets its name.

    Raises
    ------
    UserError
        Another process was faster, or the system refuses to write.
    """
    target = Path(os.path.realpath(folder))
    _remove_left_overs(target)
    replaced = target.exists()
    try:
        with new_folder(target, overwrite=replaced, marker=LOCK_FILE, held=LOCK_FILE) as temporary:
            held.enter_context(_lock(temporary, target))
            yield temporary
    except UserError as error:
        # Where there was nothing, another process that began at the same moment was faster: who it is, is said.
        if not replaced and target.exists():
            raise UserError(f"{folder} {_held_by(target / LOCK_FILE)}; wait for its end, or stop it first") from error
        raise


@contextlib.contextmanager
def _lock(folder: Path, known_as: Path) -> Iterator[None]:
    """Hold ``folder``, which is or will be ``known_as``."""
    path = folder / LOCK_FILE
    name = os.path.realpath(known_as / LOCK_FILE)
    if folder == known_as and name in _held:
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
        if not _is_at(handle, path):
            raise UserError(f"{folder} has just been replaced by another process; wait for its end, or stop it first")
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


def holder_of(folder: Path) -> str | None:
    """Who writes the run folder ``folder`` at this moment, in words; None where nobody does, or it cannot be told."""
    if os.path.realpath(folder / LOCK_FILE) in _held:
        return "this process"
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return _holder(handle)
    except OSError:
        return None
    finally:
        os.close(handle)
    return None


def _held_by(path: Path) -> str:
    """In words, who holds a folder that appeared while this process made it."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return f"is being written by {_holder(handle)}"
        finally:
            os.close(handle)
    return "has just been made by another process"


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``: between opening and locking a folder may be exchanged."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_left_overs(target: Path) -> None:
    """Remove what processes left behind that were killed while they made ``target``; one that is still at it holds its lock."""
    for old in target.parent.glob(f"{glob.escape(partial_prefix(target))}*{PARTIAL_SUFFIX}"):
        # Names that tempfile makes have eight characters; others belong to other folders.
        unique = old.name.removeprefix(partial_prefix(target)).removesuffix(PARTIAL_SUFFIX)
        # The new folder itself, or the old one where it stepped aside.
        for folder in (old, old / target.name):
            if len(unique) == _UNIQUE and (folder / LOCK_FILE).is_file():
                with contextlib.suppress(UserError), run_lock(folder):
                    shutil.rmtree(old, ignore_errors=True)


def _holder(handle: int) -> str:
    try:
        facts = json.loads(os.pread(handle, 4096, 0))
        return f"process {int(facts['pid'])} on {facts['host']} since {facts['start']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
