"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from zoo.errors import UserError, not_written

PARTIAL_SUFFIX = ".partial"
# Characters of a name that its temporary file has too: with more, the temporary one could be too long for the file system.
_OF_THE_NAME = 40
# What a disk must take for a file to be worth beginning.
_TRIED = b"\0" * 4096


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
        handle, name = tempfile.mkstemp(prefix=partial_prefix(path), suffix=PARTIAL_SUFFIX, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            _open_to_others(temporary, 0o666)
            _flush(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except Exception as error:
        if (reason := not_written(error)) is None:
            raise
        raise UserError(f"{path} cannot be written ({reason}); it is as it was before") from error


def replace_text(path: str | Path, text: str) -> None:
    """:func:`replace_file` with UTF-8 text.

    Of names that are not UTF-8 it holds the codes, such as ``\\udcff``, which JSON reads as what they were.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")

    replace_file(path, write)


def check_can_write(path: str | Path, *, folder: bool = False) -> None:
    """Raise UserError where the file (or folder) ``path`` could not be written later. Called before anything is computed.

    It is tried, with a small file that has no name and is gone again, in the nearest folder that is there; the missing ones between are
    not made. A file that is there already is not touched; it must be an ordinary one, for it will be replaced.
    """
    target = Path(os.path.abspath(path))
    if not folder and os.path.lexists(target) and not target.is_file() and not target.is_symlink():
        kind = "a folder" if target.is_dir() else "no ordinary file"
        raise UserError(f"{path} is {kind}; name a file to write")
    there = target if folder and target.is_dir() else target.parent
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{path} cannot be written ({there} is no folder); choose another place")
    try:
        longest = os.pathconf(there, "PC_NAME_MAX")
        for name in target.relative_to(there).parts:
            if (length := len(os.fsencode(name))) > longest:
                raise UserError(f"{name[:_OF_THE_NAME]}... is too long for a name: {length} bytes, and at most {longest} can be had here")
        if (length := len(os.fsencode(target))) >= os.pathconf(there, "PC_PATH_MAX") - longest:
            raise UserError(f"{str(path)[:_OF_THE_NAME]}... is too long for a path ({length} bytes); choose another place")
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(_TRIED)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); choose another place, or make this one writable") from error


def check_new_folder(target: str | Path, *, overwrite: bool, marker: str) -> None:
    """Raise UserError where ``target`` may not be made: it exists and ``overwrite`` is not given, or it is something else.

    Only a folder that holds the file ``marker``, or nothing, is ever replaced: a mistyped path must not cost a home directory.
    """
    target = Path(target)
    if not os.path.lexists(target):
        check_can_write(target, folder=True)
        return
    if not overwrite:
        raise UserError(f"{target} exists already; choose another --out, or give --overwrite to replace it")
    if target.is_symlink() or not target.is_dir() or (any(target.iterdir()) and not (target / marker).is_file()):
        raise UserError(f"{target} is not a folder with a {marker}, so it is not overwritten; choose another --out")
    # It is replaced by its parent folder's leave.
    check_can_write(target.absolute().parent / f".{PARTIAL_SUFFIX}", folder=True)


@contextlib.contextmanager
def new_folder(target: str | Path, *, overwrite: bool, marker: str, held: str | None = None) -> Iterator[Path]:
    """A temporary folder beside ``target`` that becomes ``target`` when the block ends well, and is removed when it does not.

    Parameters
    ----------
    overwrite, marker
        As in :func:`check_new_folder`. The folder to be replaced stays in place until the new one is complete.
    held
        Name of a file that the caller holds a record lock on: it is not opened here, since closing it would end the lock.

    Raises
    ------
    UserError
        ``target`` may not be replaced, or the system refuses to write.
    """
    target = Path(os.path.abspath(target))
    check_new_folder(target, overwrite=overwrite, marker=marker)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=partial_prefix(target), suffix=PARTIAL_SUFFIX, dir=target.parent))
        try:
            yield temporary
            for path in [*temporary.rglob("*"), temporary]:
                _open_to_others(path, 0o777 if path.is_dir() else 0o666)
                if path.name != held:
                    _flush(path)
            _move(temporary, target, overwrite=overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except Exception as error:
        if (reason := not_written(error)) is None:
            raise
        raise UserError(f"{target} cannot be written ({reason}); nothing of it is left behind") from error


def _move(temporary: Path, target: Path, *, overwrite: bool) -> None:
    # What another process has put there meanwhile is replaced by leave only.
    if not overwrite or not target.exists():
        temporary.rename(target)
        return
    # A folder that is not empty cannot be renamed over: the old one steps aside, and back again if the new one cannot take its place.
    aside = Path(tempfile.mkdtemp(prefix=partial_prefix(target), suffix=PARTIAL_SUFFIX, dir=target.parent))
    try:
        old = target.rename(aside / target.name)
        try:
            temporary.rename(target)
        except BaseException:
            old.rename(target)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def partial_prefix(path: Path) -> str:
    """How the names begin under which ``path`` is written before it is complete; they end in :data:`PARTIAL_SUFFIX`."""
    return f".{path.name[:_OF_THE_NAME]}."


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
