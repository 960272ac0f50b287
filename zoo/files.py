"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from zoo.errors import UserError

PARTIAL_SUFFIX = ".partial"


def safe_name(text: str, otherwise: str = "model") -> str:
    """``text`` as the name of a file: what file systems or shells treat specially becomes ``-``; ``otherwise`` where nothing is left."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or otherwise


def replace_file(path: str | Path, write: Callable[[Path], None]) -> None:
    """Make or replace the file ``path`` by what ``write`` writes under the temporary name that it is given.

    The temporary file lies in the same folder and is renamed when it is complete and on the disk; whatever goes wrong, it is removed and
    ``path`` is as it was.

    Raises
    ------
    UserError
        The system refuses (no space, no permission); other errors of ``write`` pass through.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL_SUFFIX, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            _open_to_others(temporary, 0o666)
            _flush(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); it is as it was before") from error


def replace_text(path: str | Path, text: str) -> None:
    """:func:`replace_file` with UTF-8 text."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    replace_file(path, write)


def check_new_folder(target: str | Path, *, overwrite: bool, marker: str) -> None:
    """Raise UserError where ``target`` may not be made: it exists and ``overwrite`` is not given, or it is something else.

    Only a folder that holds the file ``marker``, or nothing, is ever replaced: a mistyped path must not cost a home directory.
    """
    target = Path(target)
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise UserError(f"{target} exists already; choose another --out, or give --overwrite to replace it")
    if target.is_symlink() or not target.is_dir() or (any(target.iterdir()) and not (target / marker).is_file()):
        raise UserError(f"{target} is not a folder with a {marker}, so it is not overwritten; choose another --out")


@contextlib.contextmanager
def new_folder(target: str | Path, *, overwrite: bool, marker: str) -> Iterator[Path]:
    """A temporary folder beside ``target`` that becomes ``target`` when the block ends well, and is removed when it does not.

    Parameters
    ----------
    overwrite, marker
        As in :func:`check_new_folder`. The folder to be replaced stays in place until the new one is complete.

    Raises
    ------
    UserError
        ``target`` may not be replaced, or the system refuses to write.
    """
    target = Path(os.path.abspath(target))
    check_new_folder(target, overwrite=overwrite, marker=marker)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL_SUFFIX, dir=target.parent))
        try:
            yield temporary
            for path in [*temporary.rglob("*"), temporary]:
                _open_to_others(path, 0o777 if path.is_dir() else 0o666)
                _flush(path)
            _move(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror or error}); nothing of it is left behind") from error


def _move(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    # A folder that is not empty cannot be renamed over: the old one steps aside, and back again if the new one cannot take its place.
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PARTIAL_SUFFIX, dir=target.parent))
    try:
        old = target.rename(aside / target.name)
        try:
            temporary.rename(target)
        except BaseException:
            old.rename(target)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the system put what it holds of ``path`` on the disk, so that a name never survives a power cut without its content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open_to_others(path: Path, mode: int) -> None:
    """Give ``path`` the permissions of an ordinary new file or folder; temporary ones are made for their owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)
