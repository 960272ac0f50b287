"""A zoo model from the Hub, or from its client's cache: the right bytes, or a sentence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants

from zoo.errors import UserError
from zoo.hub import failures
from zoo.hub.names import HubName
from zoo.hub.pins import FilePin, Pin, Pins
from zoo.hub.plain import is_plain, plain_folder, plain_from_cache, pull_plain
from zoo.hub.pulled import Pulled
from zoo.hub.retries import Deadline
from zoo.hub.snapshot import (
    Access,
    Listed,
    Listing,
    cached_file,
    check_moved,
    check_rewritten,
    checked_file,
    difference,
    get_file,
    incomplete_files,
    list_files,
    moved,
)
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import CONFIG_FILE, MANIFEST_FILE, MODEL_FILES, REQUIRED_FILES, WEIGHTS_FILE, read_manifest

# The files that decide what a model computes; a moved branch may change the others.
_DECISIVE = (WEIGHTS_FILE, CONFIG_FILE)


def pull_from_hub(
    name: HubName,
    *,
    offline: bool,
    deadline: Deadline,
    pins: Pins,
    sha256: str | None,
    update: bool,
    progress: bool,
    trust_pickle: bool = False,
) -> Pulled:
    """Get a zoo model into the Hub client's cache, and check every file's bytes, also of what is there already.

    Of a repository that holds weights and no zoo.json a zoo model is made (:mod:`zoo.hub.plain`).

    A branch or tag is resolved to a commit, which the lock file remembers. The parameters are those of :func:`zoo.hub.pull.pull`, and

    sha256
        What the weights must have, as the catalogue says; None: what the lock file remembers, else what the Hub lists.

    Raises
    ------
    UserError
        It cannot be had, and which case that is; a file is not what it must be, after it was downloaded a second time; the revision has
        moved to other weights.
    """
    if offline:
        return _from_cache(name, pins, sha256)
    return _from_hub(name, pins, Access(deadline, progress=progress), sha256, update=update, trust_pickle=trust_pickle)


def folder_in_cache(name: HubName, pins: Pins) -> Path | None:
    """The folder of a model that was pulled before, without a request; None where it is not whole.

    Its bytes are for the caller to check, as :func:`zoo.model_folder.folder.load_zoo_model` does.
    """
    pin = _pin_of(name, pins)
    if (made := plain_folder(name, pin)) is not None:
        return made
    commit = pin.commit if pin is not None else name.revision if name.is_commit else None
    if commit is None:
        return None
    paths = [cached_file(name.repository, commit, file) for file in REQUIRED_FILES]
    first = paths[0]
    return None if first is None or None in paths else first.parent


def _pin_of(name: HubName, pins: Pins) -> Pin | None:
    pin = pins.get(name.key)
    return pins.of_commit(name.repository, name.revision) if pin is None and name.is_commit else pin


def _from_hub(name: HubName, pins: Pins, access: Access, sha256: str | None, *, update: bool, trust_pickle: bool) -> Pulled:
    pin = _pin_of(name, pins)
    notes: list[str] = []
    if name.is_commit and pin is not None and folder_in_cache(name, pins) is not None:
        # A commit never changes, and what its files were is remembered: there is nothing to ask.
        listing = Listing(name.revision, {file: Listed(known.size, known.sha256, None) for file, known in pin.files.items()})
    else:
        listing, access = _ask(name, access, notes)
    if is_plain(listing):
        return pull_plain(name, listing, pin, pins, access, update=update, trust_pickle=trust_pickle, notes=notes)
    _check_whole(name, listing)
    same = pins.of_commit(name.repository, listing.commit)
    check_moved(name, pin, listing, WEIGHTS_FILE, pins, update)
    if pin is None or pin.commit != listing.commit or update:
        pins.check_writable()
    _check_catalogue(name, listing.files[WEIGHTS_FILE].sha256, sha256)

    found: dict[str, FilePin] = {}
    folder = Path()
    for file in [file for file in MODEL_FILES if file in listing.files]:
        known = same.files.get(file) if same is not None else None
        check_rewritten(name, file, listing, known, pins)
        path, found[file] = checked_file(name, listing, file, known, access)
        folder = path.parent
        # The weights come last: whatever the small files show is found before the long transfer.
        if file == MANIFEST_FILE:
            _check_catalogue(name, read_manifest(folder).file_sha256, sha256)
        before = pin.files.get(file) if pin is not None and file in _DECISIVE and not update else None
        if before is not None and before.sha256 != found[file].sha256:
            raise moved(name, pin, listing.commit, f"{file} had sha256 {before.sha256} and has {found[file].sha256}", pins)
    check_weights(folder, read_manifest(folder), found=found[WEIGHTS_FILE].sha256)
    _name_in_cache(name, listing.commit, access)
    for part in incomplete_files(folder.parent.parent, time.time()):
        part.unlink(missing_ok=True)
    if pin is None or pin.commit != listing.commit or update:
        pins.put(name.key, found, listing.commit)
    if pin is not None and pin.commit != listing.commit:
        before = pin.files.get(WEIGHTS_FILE)
        what = "the weights are the same" if before is not None and before.sha256 == found[WEIGHTS_FILE].sha256 else "with other weights"
        notes.append(f"'{name}' has moved from commit {pin.commit} to {listing.commit}; {what}")
    return _pulled(name, folder, listing.commit, found, notes)


def _ask(name: HubName, access: Access, notes: list[str]) -> tuple[Listing, Access]:
    """The listing, and how to go on asking: an unknown token spoils requests for public models too, so they are then tried without it."""
    try:
        return list_files(name, access), access
    except UserError:
        raise
    except Exception as error:
        if not failures.is_bad_token(error):
            raise failures.sentence(error, name) from error
        refused = failures.sentence(error, name)
    without = Access(access.deadline, token=False, progress=access.progress)
    try:
        listing = list_files(name, without)
    except Exception as error:
        raise refused from error
    notes.append(f"{refused}; '{name}' is public and was got without it")
    return listing, without


def _name_in_cache(name: HubName, commit: str, access: Access) -> None:
    """Have the client's cache know the branch or tag, so that others who use it (timm, without network) find the model by that name too."""
    if name.is_commit or cached_file(name.repository, name.revision, CONFIG_FILE) == cached_file(name.repository, commit, CONFIG_FILE):
        return
    with failures.explained(name):
        get_file(name, name.revision, CONFIG_FILE, access)


def _check_whole(name: HubName, listing: Listing) -> None:
    """Raise UserError where the commit is a zoo model in part."""
    missing = [file for file in REQUIRED_FILES if file not in listing.files]
    if missing:
        has = ", ".join(file for file in sorted(listing.files) if not file.startswith("."))
        raise UserError(f"'{name}' is no whole zoo model: it has {has}, and lacks {', '.join(missing)}")


def _check_catalogue(name: HubName, listed: str | None, wanted: str | None) -> None:
    if wanted is not None and listed is not None and listed != wanted:
        raise UserError(f"'{name}' holds other weights than the catalogue says: sha256 {listed}, not {wanted}")


def _from_cache(name: HubName, pins: Pins, sha256: str | None) -> Pulled:
    """What was pulled before, without a request."""
    pin = _pin_of(name, pins)
    if (made := plain_folder(name, pin)) is not None:
        return plain_from_cache(name, made, pin)
    commit = pin.commit if pin is not None and pin.commit is not None else name.revision
    found: dict[str, FilePin] = {}
    folder = Path()
    for file in MODEL_FILES:
        path = cached_file(name.repository, commit, file)
        if path is None and file not in REQUIRED_FILES:
            continue
        if path is None:
            raise UserError(
                f"'{name}' was not pulled before, or not wholly ({file} is not in {constants.HF_HUB_CACHE}), and no network may be used; "
                "pull it once with network"
            )
        found[file], wrong = difference(path, None, pin.files.get(file) if pin is not None else None)
        if wrong is not None:
            raise UserError(f"{file} of '{name}' is damaged in the cache ({wrong}: {path}); pull it again with network")
        folder = path.parent
    manifest = read_manifest(folder)
    _check_catalogue(name, manifest.file_sha256, sha256)
    check_weights(folder, manifest, found=found[WEIGHTS_FILE].sha256)
    if pin is None:
        # In the client's cache a snapshot's folder is named by its commit.
        pins.put(name.key, found, folder.name)
    return _pulled(name, folder, folder.name, found)


def _pulled(name: HubName, folder: Path, commit: str, found: dict[str, FilePin], notes: Sequence[str] = ()) -> Pulled:
    return Pulled(folder, f"{name.repository} at commit {commit}", found[WEIGHTS_FILE].sha256, commit, tuple(notes))
