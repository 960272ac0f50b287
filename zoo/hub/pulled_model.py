"""Getting a model by one name: a row of the catalogue, or a repository on the Hub."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from zoo.catalogue import CatalogueEntry, find_entry
from zoo.errors import UserError
from zoo.files import check_new_folder, new_folder
from zoo.home import zoo_home
from zoo.hub.attempts import DEFAULT_DEADLINE, Deadline
from zoo.hub.names import HubName, is_hub_name, parse_hub_name
from zoo.hub.pins import Pins
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import MANIFEST_FILE, is_zoo_model, read_manifest

# What ``--model`` has before a name on the Hub.
HUB_SCHEME = "hub"


@dataclass(frozen=True)
class PulledModel:
    """A zoo model that is here.

    Attributes
    ----------
    folder
        A zoo model folder. Without ``out`` it lies in a cache and must not be changed.
    origin
        Where it is from, in words.
    sha256
        Of ``model.safetensors``, taken from its bytes in this call.
    notes
        What the user should know: each a sentence.
    """

    folder: Path
    origin: str
    sha256: str
    notes: tuple[str, ...] = ()


def pull_model(
    name: str,
    *,
    out: str | Path | None = None,
    offline: bool = False,
    deadline: float = DEFAULT_DEADLINE,
    pins: Pins | None = None,
    update: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> PulledModel:
    """Get a model by its name in the catalogue, or by ``org/name[@revision]`` on the Hub.

    The arguments are those of :func:`zoo.hub.pull.pull`. Weights that lie at their authors' are downloaded (:func:`zoo.hub.fetch.fetch`)
    and imported (:func:`zoo.model_folder.importing.import_checkpoint`) into ``models`` in :func:`zoo.home.zoo_home`; the download itself is
    not kept.

    Raises
    ------
    UserError
        No such name; its weights are published nowhere, or in a layout that no reader knows; whatever :func:`zoo.hub.pull.pull`,
        :func:`zoo.hub.fetch.fetch` and the import refuse.
    """
    from zoo.hub.pull import pull

    sha256: str | None = None
    if _is_hub_name(name):
        hub_name = parse_hub_name(name)
    else:
        entry = find_entry(name)
        if entry.home is None or entry.home.repository is None:
            pins = Pins() if pins is None else pins
            return _from_authors(entry, out, offline or _told_offline(), Deadline(deadline), pins, update, overwrite, progress)
        hub_name, sha256 = _hub_home(entry), entry.sha256
    pulled = pull(
        hub_name,
        out=out,
        offline=offline,
        deadline=deadline,
        pins=pins,
        sha256=sha256,
        update=update,
        overwrite=overwrite,
        progress=progress,
    )
    return PulledModel(pulled.folder, f"{hub_name.repository} at commit {pulled.commit}", pulled.sha256, pulled.notes)


def open_name(name: str) -> Path:
    """The folder of a model that was pulled before, without a request; it is pulled now where it was not.

    Parameters
    ----------
    name
        As :func:`pull_model` takes it.

    Raises
    ------
    UserError
        As :func:`pull_model`.
    """
    from zoo.hub.pull import pulled_folder

    if _is_hub_name(name):
        is_here = pulled_folder(parse_hub_name(name)) is not None
    else:
        entry = find_entry(name)
        if entry.home is not None and entry.home.repository is not None:
            is_here = pulled_folder(_hub_home(entry)) is not None
        else:
            is_here = is_zoo_model(_imported_folder(entry))
    return pull_model(name, offline=is_here, progress=sys.stderr.isatty()).folder


def _from_authors(
    entry: CatalogueEntry,
    out: str | Path | None,
    offline: bool,
    deadline: Deadline,
    pins: Pins,
    update: bool,
    overwrite: bool,
    progress: bool,
) -> PulledModel:
    """Weights at their authors' own address, imported."""
    home = entry.home
    if home is None or home.url is None:
        made = f"; `pretrain {entry.recipe}` makes such weights" if entry.recipe else ""
        raise UserError(f"the weights of '{entry.name}' are published nowhere, as far as we know{made}")
    if entry.reader is None:
        why = f" ({entry.note})" if entry.note else ""
        raise UserError(f"no reader of ours fits the weights of '{entry.name}'; they are at {home.url}{why}")
    if out is not None:
        check_new_folder(out, overwrite=overwrite, marker=MANIFEST_FILE)
    folder = _imported_folder(entry)
    notes: tuple[str, ...] = ()
    with _alone(folder):
        if update or not _is_whole(folder, home.url, pins):
            notes = _import(entry, home.url, folder, offline, deadline, pins, update, progress)
        sha256 = read_manifest(folder).file_sha256
        if out is not None:
            with new_folder(out, overwrite=overwrite, marker=MANIFEST_FILE) as temporary:
                shutil.copytree(folder, temporary, dirs_exist_ok=True)
                check_weights(temporary, read_manifest(temporary))
    return PulledModel(folder if out is None else Path(out), home.url, sha256, notes)


def _import(
    entry: CatalogueEntry, url: str, folder: Path, offline: bool, deadline: Deadline, pins: Pins, update: bool, progress: bool
) -> tuple[str, ...]:
    from zoo.hub.fetch import fetch

    home = entry.home
    file = fetch(
        url,
        sha256=entry.sha256 or (home.sha256_prefix if home else None),
        md5=home.md5_prefix if home else None,
        offline=offline,
        deadline=deadline,
        pins=pins,
        update=update,
        progress=progress,
    )
    from zoo.model_folder.importing import import_checkpoint  # takes torch, and seconds

    done = import_checkpoint(file, folder, entry=entry, url=url, overwrite=True)
    # The zoo model holds what is of use in it, and the lock file its hash.
    file.unlink()
    notes = [f"assumed, since nobody says otherwise: {what}" for what in done.assumed]
    if not (done.reading.reader.confirmed or entry.confirmed):
        notes.append(
            f"the layout '{done.reading.reader.name}' was not confirmed by a real file yet: every tensor was matched, but compare an "
            "accuracy with a published one before you rely on it"
        )
    return tuple(notes)


def _is_whole(folder: Path, url: str, pins: Pins) -> bool:
    """Whether a folder is what was imported from the file that the lock file remembers, as its bytes say."""
    if not is_zoo_model(folder):
        return False
    pin = pins.get(url)
    try:
        manifest = read_manifest(folder)
        check_weights(folder, manifest)
    except UserError:  # damaged: import it again
        return False
    return pin is None or manifest.source.get("sha256") in {file.sha256 for file in pin.files.values()}


def _imported_folder(entry: CatalogueEntry) -> Path:
    return zoo_home() / "models" / entry.name


def _hub_home(entry: CatalogueEntry) -> HubName:
    assert entry.home is not None
    assert entry.home.repository is not None
    return HubName(entry.home.repository, entry.home.revision) if entry.home.revision else HubName(entry.home.repository)


def _is_hub_name(name: str) -> bool:
    if "/" in name and not is_hub_name(name):
        parse_hub_name(name)  # says what is wrong with it
    return is_hub_name(name)


def _told_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time imports into the folder; the others wait and find it done."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise UserError(f"{folder.parent} cannot be written ({error.strerror or error}); ZOO_HOME moves it") from error
    try:
        yield
    finally:
        lock.release()
