"""The files of a zoo model at one commit: what the Hub lists, what lies in its client's cache, and whether that is what it must be."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.utils.tqdm import tqdm

from zoo.errors import UserError
from zoo.hashing import file_sha256
from zoo.hub import failures
from zoo.hub.names import HubName
from zoo.hub.pins import FilePin, Pin, Pins
from zoo.hub.retries import Deadline, retry

_CHUNK_BYTES = 1 << 20
# What is not whole, and was written to so lately (in seconds), may still be being written.
STILL_WRITTEN = 3600.0


@dataclass(frozen=True)
class Listed:
    """What the Hub says of a file: its size, and the sha256 of a large or the git hash of a small one."""

    size: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Listing:
    """A commit, its files, whether its repository is private and what licence its card states, as the Hub says."""

    commit: str
    files: Mapping[str, Listed]
    private: bool = False
    licence: str | None = None


@dataclass(frozen=True)
class Access:
    """How the Hub is asked.

    Attributes
    ----------
    token
        None: the user's own; False: none.
    """

    deadline: Deadline
    token: bool | None = None
    progress: bool = False

    def ask(self, call: Any, name: HubName, doing: str) -> Any:
        """``call()`` with retries and the deadline; raises the client's own errors."""
        return retry(call, self.deadline, f"{doing} {name}", transient=failures.is_transient, wait_asked=failures.wait_asked)


def list_files(name: HubName, access: Access) -> Listing:
    """Resolve the revision and list the commit's files, in one request. Raises the client's errors."""

    def call() -> Listing:
        info = HfApi().model_info(name.repository, revision=name.revision, files_metadata=True, token=access.token)
        files = {
            item.rfilename: Listed(int(item.size or 0), item.lfs.sha256 if item.lfs is not None else None, item.blob_id)
            for item in info.siblings or ()
        }
        licence = None if info.card_data is None else info.card_data.get("license")
        return Listing(str(info.sha), files, bool(info.private), licence if isinstance(licence, str) else None)

    listing: Listing = access.ask(call, name, "asking for")
    return listing


def cached_file(repository: str, revision: str, file: str) -> Path | None:
    """A file in the client's cache, without any request; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, revision=revision)
    return Path(found) if isinstance(found, str) else None


def get_file(name: HubName, commit: str, file: str, access: Access, *, afresh: bool = False) -> Path:
    """Download one file into the client's cache, or find it there. Raises the client's errors."""
    bar = _bar(access)

    def call() -> Path:
        path = hf_hub_download(name.repository, file, revision=commit, token=access.token, force_download=afresh, tqdm_class=bar)
        return Path(path)

    path: Path = access.ask(call, name, "the download of")
    return path


def difference(path: Path, listed: Listed | None, pin: FilePin | None) -> tuple[FilePin, str | None]:
    """What a file is, taken from its bytes, and how that differs from what it must be; None: not at all.

    A pin counts before the listing, since it is older; where there is neither, there is nothing to differ from.
    """
    found = FilePin(path.stat().st_size, file_sha256(path))
    if pin is not None:
        wrong = None if found.sha256 == pin.sha256 else f"sha256 {found.sha256}, not {pin.sha256}"
    elif listed is not None and listed.sha256 is not None:
        wrong = None if found.sha256 == listed.sha256 else f"sha256 {found.sha256}, not {listed.sha256}"
    elif listed is not None and listed.git_sha1 is not None:
        git = git_sha1(path)
        wrong = None if git == listed.git_sha1 else f"git hash {git}, not {listed.git_sha1}"
    else:
        wrong = None
    return found, wrong


def checked_file(name: HubName, listing: Listing, file: str, pin: FilePin | None, access: Access) -> tuple[Path, FilePin]:
    """Get a file and compare its bytes; one that differs is downloaded once more, and then refused and removed."""
    wrong: str | None = None
    for afresh in (False, True):
        with failures.explained(name):
            path = get_file(name, listing.commit, file, access, afresh=afresh)
        found, wrong = difference(path, listing.files[file], pin)
        if wrong is None:
            return path, found
    drop(path)
    raise UserError(
        f"{file} of '{name}' at commit {listing.commit} has the wrong bytes ({wrong}), also when it was downloaded a second time; it was "
        "removed from the cache: try again over another network, or tell its authors"
    )


def check_rewritten(name: HubName, file: str, listing: Listing, pin: FilePin | None, pins: Pins) -> None:
    """A commit is its content: if the Hub lists another, somebody between here and there is not to be trusted."""
    listed = listing.files[file].sha256
    if pin is not None and listed is not None and listed != pin.sha256:
        raise UserError(
            f"the Hub lists {file} of '{name}' at commit {listing.commit} with sha256 {listed}, and when it was first pulled it was "
            f"{pin.sha256} ({pins.path}); a commit cannot change, so do not trust it"
        )


def check_moved(name: HubName, pin: Pin | None, listing: Listing, weights: str, pins: Pins, update: bool) -> None:
    """Refuse a revision that has moved to other weights (a file of that name), before they are transferred."""
    if pin is None or pin.commit == listing.commit or update:
        return
    before, now = pin.files[weights].sha256 if weights in pin.files else None, listing.files[weights].sha256
    if now is not None and before is not None and before != now:
        raise moved(name, pin, listing.commit, f"{weights} had sha256 {before} and has {now}", pins)


def moved(name: HubName, pin: Pin | None, commit: str, what: str, pins: Pins) -> UserError:
    assert pin is not None
    return UserError(
        f"'{name}' is another model than when it was first pulled ({pins.path}): it was commit {pin.commit} and is {commit}, {what}; "
        f"--update accepts the new one, {name.repository}@{pin.commit} stays with the old one"
    )


def git_sha1(path: str | Path) -> str:
    """The hash by which git, and so the Hub, knows a small file (git-hash-object: sha1 of ``"blob SIZE\\0"`` and the bytes)."""
    digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def drop(path: Path) -> None:
    """Remove a damaged file from the cache: the link that the snapshot has, and the bytes that it points at."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def incomplete_files(repository: Path, now: float) -> list[Path]:
    """Parts of downloads in a repository's folder of the client's cache that nobody writes to any more; the client never goes on with them.

    ``now`` is in seconds since 1970.
    """
    found = []
    for path in repository.glob("blobs/*.incomplete"):
        with contextlib.suppress(OSError):  # another process finishes it
            if now - path.stat().st_mtime >= STILL_WRITTEN:
                found.append(path)
    return sorted(found)


def _bar(access: Access) -> type[tqdm]:
    """The client's progress bar, which also looks at the clock: a transfer that is given up ends soon."""

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            settings["disable"] = settings.get("disable") or not access.progress
            super().__init__(*arguments, **settings)

        def update(self, n: float | None = 1) -> bool | None:
            access.deadline.check("the transfer")
            shown: bool | None = super().update(n)
            return shown

    return Bar
