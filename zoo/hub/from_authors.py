"""A zoo model of weights that lie at their authors' own address: downloaded, checked and imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from zoo.catalogue import CatalogueEntry, Home
from zoo.errors import UserError
from zoo.home import HOME_VARIABLE, models_home
from zoo.hub.fetch import fetch
from zoo.hub.pins import Pins, whose
from zoo.hub.pulled import Pulled
from zoo.hub.retries import Deadline
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import is_zoo_model, read_manifest


def imported_folder(entry: CatalogueEntry) -> Path:
    """Where the imported model is kept."""
    return models_home() / entry.name


def pull_from_authors(
    entry: CatalogueEntry, *, offline: bool, deadline: Deadline, pins: Pins, update: bool, progress: bool, trust_pickle: bool = False
) -> Pulled:
    """Import the weights of an entry of the catalogue, or find what was imported before, checked; the download itself is not kept.

    The parameters are those of :func:`zoo.hub.pull.pull`.

    Raises
    ------
    UserError
        The weights are published nowhere, or in a layout that no reader knows; what :func:`zoo.hub.fetch.fetch` and
        :func:`zoo.model_folder.importing.import_checkpoint` refuse.
    """
    home = entry.home
    if home is None or home.url is None:
        made = f"; `pretrain {entry.recipe}` makes such weights" if entry.recipe else ""
        if entry.ask:
            raise UserError(
                f"the weights of '{entry.name}' are given to those who ask ({entry.ask}); once you have the file: zoo import FILE --name "
                f"{entry.name} --out DIR"
            )
        raise UserError(f"the weights of '{entry.name}' are published nowhere, as far as we know{made}")
    if entry.reader is None:
        why = f" ({entry.note})" if entry.note else ""
        raise UserError(f"no reader of ours fits the weights of '{entry.name}'; they are at {home.url}{why}")
    folder = imported_folder(entry)
    notes: tuple[str, ...] = ()
    with importing_alone(folder):
        if update or not _is_whole(folder, home.url, pins):
            notes = _import(
                entry,
                home,
                folder,
                offline=offline,
                deadline=deadline,
                pins=pins,
                update=update,
                progress=progress,
                trust_pickle=trust_pickle,
            )
        return Pulled(folder, home.url, read_manifest(folder).file_sha256, notes=notes)


def _import(
    entry: CatalogueEntry,
    home: Home,
    folder: Path,
    *,
    offline: bool,
    deadline: Deadline,
    pins: Pins,
    update: bool,
    progress: bool,
    trust_pickle: bool,
) -> tuple[str, ...]:
    """Download and import the file; gives notes for the user."""
    assert home.url is not None
    file = fetch(
        home.url,
        sha256=entry.sha256 or home.sha256_prefix,
        md5=home.md5_prefix,
        offline=offline,
        deadline=deadline,
        pins=pins,
        update=update,
        progress=progress,
    )
    from zoo.model_folder.importing import import_checkpoint  # takes torch, and seconds

    done = import_checkpoint(file, folder, entry=entry, url=home.url, trust_pickle=trust_pickle, overwrite=True)
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


@contextmanager
def importing_alone(folder: Path) -> Iterator[None]:
    """One process at a time imports into the folder; the others wait and find it done."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        lock.acquire()
    except OSError as error:
        where = error.filename or folder.parent
        raise UserError(f"{where} cannot be written ({error.strerror or error}{whose(where)}); {HOME_VARIABLE} moves it") from error
    try:
        yield
    finally:
        lock.release()
