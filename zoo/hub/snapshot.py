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
from zoo.hub.pins import FilePin
from zoo.hub.retries import Deadline, retry
from zoo.model_folder.manifest import CONFIG_FILE, REQUIRED_FILES, WEIGHTS_FILE

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
    """A commit, its files, and whether its repository is private, as the Hub says."""

    commit: str
    files: Mapping[str, Listed]
    private: bool = False


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
        return Listing(str(info.sha), files, bool(info.private))

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


def check_whole(name: HubName, listing: Listing) -> None:
    """Raise UserError where the commit is no zoo model."""
    missing = [file for file in REQUIRED_FILES if file not in listing.files]
    if not missing:
        return
    has = ", ".join(file for file in sorted(listing.files) if not file.startswith(".")) or "nothing"
    advice = ""
    if CONFIG_FILE in listing.files and (WEIGHTS_FILE in listing.files or "pytorch_model.bin" in listing.files):
        advice = f"; if it is one of timm's, --model timm:{name.repository.partition('/')[2]} opens it"
    raise UserError(f"'{name}' is no zoo model: it has {has}, and lacks {', '.join(missing)}{advice}")


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
