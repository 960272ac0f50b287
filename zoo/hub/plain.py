"""Plain repositories on the Hub, which hold weights and no zoo.json: pinned, checked, and made into a zoo model here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants

from zoo.errors import UserError
from zoo.home import models_home
from zoo.hub.from_authors import importing_alone
from zoo.hub.names import HubName
from zoo.hub.pins import FilePin, Pin, Pins
from zoo.hub.pulled import Pulled
from zoo.hub.snapshot import Access, Listing, cached_file, check_moved, check_rewritten, checked_file, difference, incomplete_files, moved
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import CONFIG_FILE, MANIFEST_FILE, REQUIRED_FILES, WEIGHTS_FILE, Manifest, is_zoo_model, read_manifest

_PREPROCESSOR_FILE = "preprocessor_config.json"
# What timm and transformers write; safetensors first, which holds nothing but tensors.
_WEIGHTS_NAMES = (WEIGHTS_FILE, "pytorch_model.bin")
_WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".tar")


def is_plain(listing: Listing) -> bool:
    """Whether a commit holds no zoo.json."""
    return MANIFEST_FILE not in listing.files


def made_folder(name: HubName, commit: str) -> Path:
    """Where the zoo model that is made of a commit is kept."""
    return models_home() / name.repository.replace("/", "--") / commit


def plain_folder(name: HubName, pin: Pin | None) -> Path | None:
    """The zoo model that was made of a revision that was pulled before; None where there is none."""
    commit = pin.commit if pin is not None else name.revision if name.is_commit else None
    folder = None if commit is None else made_folder(name, commit)
    return folder if folder is not None and is_zoo_model(folder) else None


def pull_plain(
    name: HubName, listing: Listing, pin: Pin | None, pins: Pins, access: Access, *, update: bool, trust_pickle: bool, notes: Sequence[str]
) -> Pulled:
    """Get the files of a plain repository, check their bytes, and make a zoo model of them in ``models`` in :func:`zoo.home.zoo_home`.

    Raises UserError as :func:`zoo.hub.from_hub.pull_from_hub`, and where no reader knows the weights.
    """
    weights = _weights(name, listing)
    check_moved(name, pin, listing, weights, pins, update)
    if pin is None or pin.commit != listing.commit or update:
        pins.check_writable()
    same = pins.of_commit(name.repository, listing.commit)
    found: dict[str, FilePin] = {}
    paths: dict[str, Path] = {}
    for file in [file for file in (CONFIG_FILE, _PREPROCESSOR_FILE, weights) if file in listing.files]:
        known = same.files.get(file) if same is not None else None
        check_rewritten(name, file, listing, known, pins)
        paths[file], found[file] = checked_file(name, listing, file, known, access)
        before = pin.files.get(file) if pin is not None and not update else None
        if before is not None and before.sha256 != found[file].sha256:
            raise moved(name, pin, listing.commit, f"{file} had sha256 {before.sha256} and has {found[file].sha256}", pins)
    for part in incomplete_files(paths[weights].parent.parent.parent, time.time()):
        part.unlink(missing_ok=True)
    folder = made_folder(name, listing.commit)
    told = list(notes)
    with importing_alone(folder):
        if not _is_made_of(folder, found[weights]):
            told += _make(name, listing, paths, weights, found[weights], folder, trust_pickle)
        manifest = read_manifest(folder)
    if pin is None or pin.commit != listing.commit or update:
        pins.put(name.key, found, listing.commit)
    return _pulled(name, folder, listing.commit, manifest, told)


def plain_from_cache(name: HubName, folder: Path, pin: Pin | None) -> Pulled:
    """What was made before, without a request; the files of the repository that are in the cache are compared with the lock file."""
    commit = folder.name
    for file, known in (pin.files if pin is not None else {}).items():
        path = cached_file(name.repository, commit, file)
        wrong = None if path is None else difference(path, None, known)[1]
        if wrong is not None:
            raise UserError(f"{file} of '{name}' is damaged in the cache ({wrong}: {path}); pull it again with network")
    manifest = read_manifest(folder)
    check_weights(folder, manifest)
    return _pulled(name, folder, commit, manifest, ())


def _make(
    name: HubName, listing: Listing, paths: dict[str, Path], weights: str, found: FilePin, folder: Path, trust_pickle: bool
) -> tuple[str, ...]:
    from zoo.model_folder.adopting import Published, adopt  # takes torch, and seconds

    source = {
        "repository": name.repository,
        "revision": listing.commit,
        "url": f"{constants.ENDPOINT}/{name.repository}/tree/{listing.commit}",
        "checkpoint": weights,
        "sha256": found.sha256,
    }
    files = Published(paths[weights], paths.get(CONFIG_FILE), paths.get(_PREPROCESSOR_FILE))
    title = name.repository.partition("/")[2]
    try:
        kind, notes = adopt(files, folder, name=title, source=source, licence=listing.licence, trust_pickle=trust_pickle)
    except UserError as error:
        raise UserError(f"'{name}' is no zoo model, and none can be made of it: {error}") from error
    return (f"'{name}' is no zoo model: one was made here of its weights, which were recognised as {kind}", *notes)


def _is_made_of(folder: Path, weights: FilePin) -> bool:
    """Whether a folder is whole, and was made of these weights."""
    if not is_zoo_model(folder):
        return False
    try:
        manifest = read_manifest(folder)
        check_weights(folder, manifest)
    except UserError:  # damaged: it is made again
        return False
    return manifest.source.get("sha256") == weights.sha256


def _weights(name: HubName, listing: Listing) -> str:
    """The file of a plain repository that holds its weights. Raises UserError where there is none, or more than one that could."""
    for file in _WEIGHTS_NAMES:
        if file in listing.files:
            return file
    others = [file for file in sorted(listing.files) if "/" not in file and file.endswith(_WEIGHTS_SUFFIXES)]
    if len(others) == 1:
        return others[0]
    has = ", ".join(file for file in sorted(listing.files) if not file.startswith(".")) or "nothing"
    if not others:
        missing = ", ".join(file for file in REQUIRED_FILES if file not in listing.files)
        raise UserError(f"'{name}' is no zoo model, and holds no weights: it has {has}, and lacks {missing}")
    page = f"{constants.ENDPOINT}/{name.repository}/resolve/{listing.commit}"
    raise UserError(
        f"'{name}' is no zoo model, and holds several files of weights ({', '.join(others)}); choose one: "
        f"`zoo import {page}/{others[0]} --out DIR`"
    )


def _pulled(name: HubName, folder: Path, commit: str, manifest: Manifest, notes: Sequence[str]) -> Pulled:
    unknown = manifest.source.get("unknown")
    told = [*notes]
    if isinstance(unknown, list) and unknown:
        told.append(f"its zoo.json was made here; not known: {', '.join(map(str, unknown))}")
    return Pulled(folder, f"{name.repository} at commit {commit}", manifest.file_sha256, commit, tuple(told))
