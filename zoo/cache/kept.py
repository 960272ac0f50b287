"""What is kept on the disk, by kind: where, how large and how old; and removing it, but never from under another process."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from zoo.files import PARTIAL_SUFFIX
from zoo.home import downloads_home, features_home, inspection_home, label_lists_home, models_home
from zoo.hub.pins import Pins

_LOCK_SUFFIX = ".lock"
# Beside a feature file; used features have it touched (:mod:`evaluation.extraction.cache`).
_FEATURES_ENTRY = "entry.json"


@dataclass(frozen=True)
class Kind:
    """A kind of what is kept.

    Attributes
    ----------
    name, about
        The word of ``zoo cache --kind``, and what it is.
    place
        The folder.
    """

    name: str
    about: str
    place: Path


@dataclass(frozen=True)
class Item:
    """One thing that can be removed by itself.

    Attributes
    ----------
    kind
        Name of its kind.
    name
        For people.
    bytes
        On the disk.
    time
        When it was written (features: used) last, in seconds since 1970.
    paths
        Its files and folders.
    lock
        A file that is locked while another process is at it; None: there is none.
    revisions
        Of the Hub client's cache: the commits, which that client removes.
    """

    kind: str
    name: str
    bytes: int
    time: float
    paths: tuple[Path, ...] = ()
    lock: Path | None = None
    revisions: tuple[str, ...] = ()

    def age(self, now: float) -> float:
        """In days."""
        return max(0.0, (now - self.time) / 86400)


KIND_NAMES = ("downloads", "models", "hub", "features", "looks", "interrupted")


def kinds() -> dict[str, Kind]:
    """All kinds, by name."""
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE)
    found = (
        Kind("downloads", "files from authors' servers, lists of labelled images", downloads_home()),
        Kind("models", "zoo models that were made of such files, or of plain repositories on the Hub", models_home()),
        Kind("hub", "models that were pulled from the Hub, in its client's cache", hub),
        Kind("features", "features that `evaluate` computed", features_home()),
        Kind("looks", "findings of `zoo data`, and the facts about images behind them", inspection_home()),
        Kind("interrupted", "parts of downloads and of files that were never finished", downloads_home()),
    )
    return {kind.name: kind for kind in found}


def items(now: float | None = None) -> list[Item]:
    """Everything that is kept, the largest of each kind first."""
    now = time.time() if now is None else now
    found = [*_downloads(), *_models(), *_from_hub(), *_features(), *_looks(), *_interrupted(now)]
    return sorted(found, key=lambda item: (KIND_NAMES.index(item.kind), -item.bytes, item.name))


def remove(wanted: Iterable[Item]) -> tuple[int, list[str]]:
    """Remove items.

    Returns
    -------
    How many bytes that freed, and a sentence for each item that stays.
    """
    freed, stay = 0, []
    for item in wanted:
        try:
            with _alone(item):
                if item.revisions:
                    _remove_from_hub(item)
                for path in item.paths:
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
        except Timeout:
            stay.append(f"{item.name} stays: another process is at it")
            continue
        except OSError as error:
            stay.append(f"{item.name} stays: {error.filename or item.name} cannot be removed ({error.strerror or error})")
            continue
        freed += item.bytes
        _tidy(item)
    return freed, stay


@contextlib.contextmanager
def _alone(item: Item) -> Iterator[None]:
    if item.lock is None or not item.lock.exists():
        yield
        return
    with FileLock(item.lock, timeout=0):
        yield


def _tidy(item: Item) -> None:
    """Remove a download's own folder, once nothing but locks is in it."""
    for folder in {path.parent for path in item.paths if path.parent.parent == downloads_home()}:
        with contextlib.suppress(OSError):
            if all(path.suffix == _LOCK_SUFFIX for path in folder.iterdir()):
                shutil.rmtree(folder)


def _downloads() -> Iterator[Item]:
    for folder in _inside(downloads_home()):
        for path in _inside(folder):
            if path.is_file() and not path.name.startswith("."):
                yield _item("downloads", path.name, [path], lock=folder / f".{path.name}{_LOCK_SUFFIX}")
    for path in _inside(label_lists_home()):
        if path.is_file() and not path.name.startswith("."):
            yield _item("downloads", path.name, [path], lock=path.with_name(f".{path.name}{_LOCK_SUFFIX}"))


def _models() -> Iterator[Item]:
    for path in _inside(models_home()):
        if path.is_dir() and not path.name.startswith("."):
            yield _item("models", path.name, [path], lock=path.with_name(f".{path.name}{_LOCK_SUFFIX}"))


def _features() -> Iterator[Item]:
    for folder in _inside(features_home()):
        for path in _inside(folder):
            if (path / _FEATURES_ENTRY).is_file():
                yield _item("features", f"{path.name[:12]}...", [path], timed=path / _FEATURES_ENTRY)


def _looks() -> Iterator[Item]:
    for path in _inside(inspection_home()):
        if path.suffix in (".json", ".npz") and not path.name.startswith("."):
            yield _item("looks", path.name, [path])


def _from_hub() -> Iterator[Item]:
    """Models of the client's cache that were pulled by this toolkit: those that the lock file knows."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    pulled = Pins().repositories()
    if not pulled:
        return
    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return
    for repo in cache.repos:
        if repo.repo_type == "model" and repo.repo_id in pulled:
            revisions = tuple(sorted(revision.commit_hash for revision in repo.revisions))
            yield Item("hub", repo.repo_id, repo.size_on_disk, repo.last_modified, revisions=revisions)


def _remove_from_hub(item: Item) -> None:
    from huggingface_hub import scan_cache_dir

    scan_cache_dir().delete_revisions(*item.revisions).execute()


def _interrupted(now: float) -> Iterator[Item]:
    from huggingface_hub import constants

    from zoo.hub.snapshot import STILL_WRITTEN, incomplete_files

    for folder in [*_inside(downloads_home()), label_lists_home()]:
        for path in _inside(folder):
            if path.is_file() and path.name.startswith(".") and path.suffix == PARTIAL_SUFFIX:
                name = path.name[1 : -len(PARTIAL_SUFFIX)]
                beside = path.with_name(f"{path.name}.json")
                paths = [path, beside] if beside.exists() else [path]
                yield _item("interrupted", name, paths, lock=path.with_name(f".{name}{_LOCK_SUFFIX}"))
    # Written under another name until they are whole (:mod:`zoo.files`); those who wrote them may be at it still.
    folders = [models_home(), inspection_home(), *_inside(features_home())]
    unfinished = [path for folder in folders for path in _inside(folder) if path.name.startswith(".") and path.suffix == PARTIAL_SUFFIX]
    for path in unfinished:
        item = _item("interrupted", path.name, [path])
        if now - item.time >= STILL_WRITTEN:
            yield item
    for repository in _inside(Path(constants.HF_HUB_CACHE)):
        yield from (_item("interrupted", path.name, [path]) for path in incomplete_files(repository, now))


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _item(kind: str, name: str, paths: list[Path], *, lock: Path | None = None, timed: Path | None = None) -> Item:
    sizes, times = [0], [0.0]
    for file in [file for path in paths for file in _files(path)]:
        with contextlib.suppress(OSError):  # another process removes it
            state = file.lstat()
            sizes.append(state.st_size)
            if timed is None or file == timed:
                times.append(state.st_mtime)
    return Item(kind, name, sum(sizes), max(times), tuple(paths), lock)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir() or path.is_symlink():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder) / name for name in names)


def size_text(count: int) -> str:
    """A number of bytes for people, in powers of 1000."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
