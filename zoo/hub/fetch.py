"""Downloading one file from where its authors keep it: resumed where it broke off, checked, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from zoo.errors import UserError, first_line
from zoo.files import PARTIAL_SUFFIX, replace_text
from zoo.hashing import file_sha256
from zoo.home import downloads_home
from zoo.hub.pins import FilePin, Pins, whose
from zoo.hub.retries import DEFAULT_DEADLINE, Deadline, retry
from zoo.hub.surroundings import check_download_settings, check_home
from zoo.lazy import DISTRIBUTION
from zoo.reading.file_head import download_accident, read_head
from zoo.reading.outside import FieldError, read_fields, read_record

_CHUNK_BYTES = 1 << 18
# Seconds without a byte after which a connection counts as dead.
_SILENCE = 30.0
_TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)
# A prefix of a hash counts from so many hex digits on: torchvision puts eight into its file names.
_SHORTEST_HASH = 8
# Beside a partial file lies what the server said of the whole one.
_SIDECAR_SUFFIX = ".json"


@dataclass(frozen=True)
class _Wanted:
    """What the caller knows of the file: hashes, or the first digits of them."""

    sha256: str | None
    md5: str | None

    def differs(self, path: Path, found: str, first: str | None) -> str | None:
        """What is wrong with a file of sha256 ``found`` that had ``first`` when it was first fetched; None: nothing."""
        if self.md5 is not None:
            with path.open("rb") as file:
                md5 = hashlib.file_digest(file, "md5").hexdigest()
            if not md5.startswith(self.md5):
                return f"md5 {md5}, not {self.md5}"
        wanted = self.sha256 or first
        return None if wanted is None or found.startswith(wanted) else f"sha256 {found}, not {wanted}"

    def differs_from_authors(self, wrong: str | None) -> bool:
        return self.sha256 is not None or (wrong or "").startswith("md5")


@dataclass(frozen=True)
class _Partial:
    """What must hold for the rest of a file to belong to the part that is here."""

    total: int | None
    validator: str | None


def fetch(
    url: str,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    folder: str | Path | None = None,
    offline: bool = False,
    deadline: float | Deadline = DEFAULT_DEADLINE,
    pins: Pins | None = None,
    update: bool = False,
    progress: bool = False,
) -> Path:
    """Download a file, or find it where it was downloaded before; either way its sha256 is taken from its bytes and compared.

    Parameters
    ----------
    url
        http or https.
    sha256
        What it must be: 64 hex digits, or the first eight or more of them. None: what it was when this URL was first fetched, which the
        lock file remembers.
    md5
        The same of its MD5, which is all that some authors print.
    folder
        Where to keep it; None: ``downloads`` in :func:`zoo.home.zoo_home`. Several processes may fetch into one folder: one of them
        downloads, the others wait for it.
    offline
        Make no connection; the file must be there.
    deadline
        Seconds for everything, or a running :class:`zoo.hub.retries.Deadline`.
    pins
        The lock file; None: the user's own.
    update
        Accept that the file has changed, and remember what it is now.
    progress
        Show a progress bar where standard error is a terminal.

    Returns
    -------
    The file's path.

    Raises
    ------
    UserError
        It cannot be had, in a sentence that says why; it is a web page; it is not what it must be, after it was downloaded a second time;
        or time is up. A broken download stays as a partial file, and the next call goes on from there.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"'{url}' is not an address to download from; it must begin with http:// or https://")
    limit = deadline if isinstance(deadline, Deadline) else Deadline(deadline)
    pins = Pins() if pins is None else pins
    wanted = _Wanted(_hash("sha256", sha256), _hash("md5", md5))
    if folder is None:
        check_home()
    place = downloads_home() / hashlib.sha256(url.encode()).hexdigest()[:16] if folder is None else Path(folder)
    target = place / _file_name(parts.path, parts.hostname)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _locked(target, limit):
            return _fetch(url, target, wanted, offline, limit, pins, update, progress)
    except OSError as error:
        raise UserError(f"{error.filename or target} cannot be written ({error.strerror or error}){whose(error.filename)}") from error


def _file_name(path: str, host: str) -> str:
    """What the file is called here: as there, without what no file name should have."""
    return re.sub(r"[^\w.+-]", "_", unquote(PurePosixPath(path).name)).lstrip(".") or host


def _fetch(url: str, target: Path, wanted: _Wanted, offline: bool, deadline: Deadline, pins: Pins, update: bool, progress: bool) -> Path:
    pin = None if update else pins.get(url)
    remembered = None if pin is None else pin.files.get(target.name)
    first = None if remembered is None else remembered.sha256
    if first is not None and wanted.sha256 is not None and not first.startswith(wanted.sha256):
        raise UserError(
            f"{url} should have sha256 {wanted.sha256}, but when it was first fetched it had {first} ({pins.path}); give --update once you "
            "know which is right"
        )
    if target.exists() and not (update and not offline):
        found = file_sha256(target)
        wrong = wanted.differs(target, found, first)
        if wrong is None:
            if remembered is None:
                pins.put(url, {target.name: FilePin(target.stat().st_size, found)})
            return target
        if offline:
            raise UserError(f"{target} is damaged ({wrong}); fetch it again with network")
    elif offline:
        raise UserError(f"{url} was not downloaded before, and no network may be used; run this once without --offline")
    check_download_settings(str(urlsplit(url).hostname))
    if remembered is None or update:
        pins.check_writable()
    # A file that is not what it must be is downloaded once more from its first byte: a resumed or a proxied one may be a patchwork.
    for afresh in (target.exists(), True):
        _download(url, target, deadline, progress, afresh=afresh)
        found = file_sha256(target)
        wrong = wanted.differs(target, found, first)
        if wrong is None:
            pins.put(url, {target.name: FilePin(target.stat().st_size, found)})
            return target
    target.unlink()
    if wanted.differs_from_authors(wrong):
        raise UserError(f"{url} is not the file that its authors describe ({wrong}, also when it was downloaded a second time)")
    raise UserError(
        f"{url} is not the file that it was when it was first fetched ({wrong}, also when it was downloaded a second time; {pins.path} "
        "remembers): its authors changed it, or something on the way alters it; --update accepts it as it is now"
    )


def _download(url: str, target: Path, deadline: Deadline, progress: bool, *, afresh: bool) -> None:
    """Download to ``target``. A part that is there already is continued unless ``afresh``."""
    partial = target.with_name(f".{target.name}{PARTIAL_SUFFIX}")
    sidecar = partial.with_name(partial.name + _SIDECAR_SUFFIX)
    if afresh:
        partial.unlink(missing_ok=True)
    doing = f"the download of {url}"
    try:
        retry(
            lambda: _continue(url, partial, sidecar, deadline, progress),
            deadline,
            doing,
            transient=_is_transient,
            wait_asked=_wait_asked,
            # It looks at the clock itself, and a thread that was given up must not go on writing.
            in_thread=False,
        )
    except (HTTPError, URLError, http.client.HTTPException, OSError) as error:
        raise _sentence(url, error) from error
    if accident := download_accident(read_head(partial)):
        partial.unlink()
        sidecar.unlink(missing_ok=True)
        raise UserError(
            f"{url} does not give a file: {accident}; a log-in, a notice of the network or a wrong address may be behind it: open it in a "
            "browser"
        )
    os.replace(partial, target)
    sidecar.unlink(missing_ok=True)


def _continue(url: str, partial: Path, sidecar: Path, deadline: Deadline, progress: bool) -> None:
    """One attempt: get what is missing of the file."""
    known = _read_sidecar(sidecar) if partial.exists() else None
    have = partial.stat().st_size if known is not None else 0
    if known is not None and known.total == have:
        return
    headers = {"User-Agent": DISTRIBUTION, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known is not None and known.validator is not None:
            headers["If-Range"] = known.validator
    try:
        response = urlopen(Request(url, headers=headers), timeout=min(_SILENCE, max(deadline.left, 0.1)))
    except HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            # What is here is not the beginning of what is there.
            partial.unlink(missing_ok=True)
            raise ConnectionError("the server does not have the rest of the file") from error
        raise
    with response:
        total = _total(response.headers, response.status)
        if have and (response.status != http.client.PARTIAL_CONTENT or not _fits(response.headers, have, known)):
            if response.status == http.client.PARTIAL_CONTENT:
                partial.unlink()
                raise ConnectionError("the server's file is another one than that which was begun")
            have = 0
        replace_text(sidecar, json.dumps(asdict(_Partial(total, _validator(response.headers)))))
        with partial.open("ab" if have else "wb") as file, _bar(partial.name, total, have, progress) as advance:
            while chunk := response.read1(_CHUNK_BYTES):
                file.write(chunk)
                advance(len(chunk))
                deadline.check(f"the download of {url}")
        size = partial.stat().st_size
    if total is not None and size < total:
        raise ConnectionError(f"the connection ended after {size:,} of {total:,} bytes")
    if total is not None and size > total:
        partial.unlink()
        raise ConnectionError(f"the server sent {size:,} bytes and had announced {total:,}")


def _total(headers: Message, status: int) -> int | None:
    """Size of the whole file in bytes, where the server says it."""
    text = (
        headers.get("Content-Range", "").rpartition("/")[2] if status == http.client.PARTIAL_CONTENT else headers.get("Content-Length", "")
    )
    return int(text) if text.isdecimal() else None


def _fits(headers: Message, have: int, known: _Partial | None) -> bool:
    """Whether a partial answer is the rest of the file that was begun."""
    if not headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        return False
    # Not every server minds If-Range.
    if known is not None and known.validator is not None and known.validator != _validator(headers):
        return False
    return known is None or known.total in (None, _total(headers, http.client.PARTIAL_CONTENT))


def _validator(headers: Message) -> str | None:
    """What names this very version of the file: a strong ETag, or its date."""
    etag = headers.get("ETag")
    if etag is not None and not etag.startswith("W/"):
        return str(etag)
    date = headers.get("Last-Modified")
    return None if date is None else str(date)


def _read_sidecar(path: Path) -> _Partial | None:
    try:
        return read_fields(_Partial, read_record(path))
    except (UserError, FieldError):
        return None


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, HTTPError):
        return error.code in _TRANSIENT_STATUS
    if isinstance(error, URLError):
        return not isinstance(error.reason, ssl.SSLCertVerificationError)
    if isinstance(error, OSError):
        return isinstance(error, ConnectionError | TimeoutError) or error.errno in (errno.ENETRESET, errno.EHOSTUNREACH, errno.ENETUNREACH)
    return isinstance(error, http.client.HTTPException)


def _wait_asked(error: BaseException) -> float | None:
    return seconds_asked(error.headers.get("Retry-After")) if isinstance(error, HTTPError) else None


def seconds_asked(text: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, which is a number of them or a date; None where it is neither."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None


def _sentence(url: str, error: Exception) -> UserError:
    host = urlsplit(url).hostname
    if isinstance(error, HTTPError):
        why = {
            401: "it wants a log-in",
            403: "it is forbidden",
            404: "there is no such file",
            410: "it was taken away",
            429: "too many requests came from here; try again later",
        }.get(error.code, "the server has trouble; try again later" if error.code in _TRANSIENT_STATUS else "it was refused")
        return UserError(f"{url} cannot be downloaded: {why} (HTTP status {error.code})")
    if isinstance(error, URLError):
        reason: Any = error.reason
        if isinstance(reason, ssl.SSLError):
            return UserError(f"{host} cannot be trusted ({first_line(reason)}); behind a proxy that inspects traffic, set SSL_CERT_FILE")
        return UserError(
            f"{host} cannot be reached ({getattr(reason, 'strerror', None) or reason}); is there network, and HTTPS_PROXY where it is "
            "needed?"
        )
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError) and error.errno is not None:
        return UserError(f"the download of {url} cannot be written ({error.strerror or error})")
    return UserError(f"the download of {url} broke off ({first_line(error)}); the next call goes on from there")


def _hash(kind: str, text: str | None) -> str | None:
    if text is None:
        return None
    digits, length = text.lower(), hashlib.new(kind).digest_size * 2
    if not _SHORTEST_HASH <= len(digits) <= length or any(digit not in "0123456789abcdef" for digit in digits):
        raise UserError(f"'{text}' is no {kind}: it has {length} hex digits, of which at least the first {_SHORTEST_HASH} must be given")
    return digits


@contextlib.contextmanager
def _locked(target: Path, deadline: Deadline) -> Iterator[None]:
    """One process at a time; the others wait for it."""
    try:
        with FileLock(target.with_name(f".{target.name}.lock"), timeout=max(deadline.left, 0)):
            yield
    except Timeout as error:
        deadline.check(f"the download of {target.name} by another process")
        raise UserError(f"another process holds {error.lock_file}") from error


@contextlib.contextmanager
def _bar(label: str, total: int | None, have: int, show: bool) -> Iterator[Callable[[int], None]]:
    if not show:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label.strip(".").removesuffix(PARTIAL_SUFFIX), total=total, completed=have)
        yield lambda count: bar.advance(task, count)
