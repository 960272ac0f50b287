"""Which case a failure of the Hub's client is, in one sentence; the client itself mixes them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from zoo.errors import UserError, first_line
from zoo.hub.fetch import seconds_asked
from zoo.hub.names import HubName
from zoo.hub.pins import whose

_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)
_BAD_TOKEN = "Invalid credentials in Authorization header"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error; None where there is none."""
    response: Any = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def cause_of(error: BaseException) -> BaseException:
    """The error that a wrapper of the client hides: "not found in the cache" often means that the Hub refused."""
    while (inner := error.__cause__) is not None and not isinstance(error, HfHubHTTPError):
        # "Error while uploading" is a RuntimeError, as are hf-xet's own.
        about_request = isinstance(error, RuntimeError) and (isinstance(inner, HfHubHTTPError) or is_transport_error(inner))
        if not about_request and not isinstance(error, LocalEntryNotFoundError | ValueError):
            break
        error = inner
    return error


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may go well: broken connections, a busy or failing server; never a refusal."""
    error = cause_of(error)
    if isinstance(error, HfHubHTTPError):
        return status_of(error) in _TRANSIENT_STATUS
    if isinstance(error, OfflineModeIsEnabled | FileMetadataError | LocalEntryNotFoundError):
        return False
    if is_transport_error(error):
        return True
    if isinstance(error, OSError):
        # "Consistency check failed" (a body of the wrong length) has no number; a full disk has one.
        return error.errno is None or isinstance(error, ConnectionError | TimeoutError)
    return isinstance(error, RuntimeError)  # hf-xet's


def is_transport_error(error: BaseException) -> bool:
    """Whether the client's HTTP library lost the connection. It is asked by name: the library is another one from release to release."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def is_bad_token(error: BaseException) -> bool:
    """Whether the Hub does not know the token, which spoils requests for public models too."""
    error = cause_of(error)
    return isinstance(error, HfHubHTTPError) and status_of(error) == 401 and _header(error, "X-Error-Message") == _BAD_TOKEN


def wait_asked(error: BaseException) -> float | None:
    """Seconds that the Hub asked to wait."""
    return seconds_asked(_header(cause_of(error), "Retry-After"))


@contextlib.contextmanager
def explained(name: HubName) -> Iterator[None]:
    """Turn what the client raises in a request for ``name`` into a UserError of one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise sentence(error, name) from error


def sentence(error: BaseException, name: HubName) -> UserError:
    """What a failed request for ``name`` means."""
    error = cause_of(error)
    if isinstance(error, UserError):
        return error
    hub, status = constants.ENDPOINT, status_of(error)
    if (host := store_of(error)) is not None:
        return _of_store(error, name, host, status)
    if is_bad_token(error):
        return UserError(f"{hub} does not know your token, it is wrong or expired; make a new one and set HF_TOKEN or run `hf auth login`")
    if isinstance(error, GatedRepoError):
        if get_token() is None:
            return UserError(
                f"'{name}' is gated: accept its terms at {hub}/{name.repository}, then give your token by HF_TOKEN or `hf auth login`"
            )
        return UserError(f"'{name}' is gated and your account has not been let in; ask for access at {hub}/{name.repository}")
    if isinstance(error, DisabledRepoError):
        return UserError(f"'{name}' was disabled by the Hub; {hub}/{name.repository} says why")
    if isinstance(error, RevisionNotFoundError):
        return UserError(
            f"'{name.repository}' has no revision '{name.revision}'; {hub}/{name.repository}/tree/main lists branches and tags"
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return UserError(f"'{name}' lacks a file that its listing has ({first_line(error)}); try again later")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        if get_token() is None:
            return UserError(
                f"{hub} has no public model '{name.repository}': it does not exist, or it is private and needs a token (HF_TOKEN or "
                "`hf auth login`)"
            )
        return UserError(f"{hub} shows your account no model '{name.repository}': it does not exist, or it is private and not yours to see")
    if isinstance(error, OfflineModeIsEnabled):
        return UserError(f"'{name}' cannot be had without network: HF_HUB_OFFLINE is set")
    if isinstance(error, FileMetadataError):
        return UserError(f"{hub} does not answer like a Hub ({first_line(error)}); check HF_ENDPOINT and any proxy")
    return _of_status(error, name, status) or _of_connection(error, name)


def store_of(error: BaseException) -> str | None:
    """The host that refused, where that is not the Hub itself but a store that it sends clients to for large files; else None."""
    response: Any = getattr(error, "response", None)
    # A mirror may send on to another Hub, which says what is wrong in this header.
    if response is None or _header(error, "X-Error-Code") is not None:
        return None
    try:
        host = urlsplit(str(response.url)).netloc
    except RuntimeError:  # a response that belongs to no request
        return None
    return host if host not in ("", urlsplit(constants.ENDPOINT).netloc) else None


def _of_store(error: BaseException, name: HubName, host: str, status: int | None) -> UserError:
    """A link to a store speaks for itself: whoever follows it needs no token, and its refusal says nothing about the repository."""
    if status is not None and status in _TRANSIENT_STATUS:
        why = "it has trouble"
    elif status == 404:
        why = "it does not have the file"
    else:
        why = "the link has run out, or something on the way (a proxy, a firewall) keeps it from you"
    return UserError(
        f"'{name}' is there, but {host}, where {constants.ENDPOINT} keeps its large files, refused one (HTTP status {status}): {why}; try "
        "again later, or over another network"
    )


def _of_status(error: BaseException, name: HubName, status: int | None) -> UserError | None:
    hub = constants.ENDPOINT
    if status == 401:
        return UserError(f"{hub} wants a token for this; set HF_TOKEN or run `hf auth login`")
    if status == 403:
        return UserError(
            f"{hub} forbids your token to do this with '{name.repository}' ({_header(error, 'X-Error-Message') or 'no reason given'})"
        )
    if status == 429:
        wait = wait_asked(error)
        when = "later" if wait is None else f"in {wait:.0f} seconds"
        return UserError(f"{hub} has had too many requests from here; try again {when}, or with a token (HF_TOKEN), which allows more")
    if status is not None and status >= 500:
        return UserError(f"{hub} has trouble (HTTP status {status}); try again later")
    if status is not None:
        return UserError(
            f"{hub} refused a request for '{name.repository}' (HTTP status {status}: "
            f"{_header(error, 'X-Error-Message') or first_line(error)})"
        )
    return None


def _of_connection(error: BaseException, name: HubName) -> UserError:
    hub = constants.ENDPOINT
    if isinstance(error, LocalEntryNotFoundError):
        return UserError(
            f"'{name}' is not whole in the cache ({constants.HF_HUB_CACHE}), and no network may be used; pull it once with network"
        )
    if is_transport_error(error):
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & {"ConnectError", "ConnectTimeout", "ProxyError"}:
            return UserError(f"{hub} cannot be reached ({first_line(error)}); without network, --offline takes what was pulled before")
        return UserError(f"the connection to {hub} broke off again and again ({first_line(error)}); try again later")
    if isinstance(error, OSError) and error.errno in _FULL:
        return UserError(f"the disk is full: '{name}' does not fit into {constants.HF_HUB_CACHE} (HF_HOME moves it)")
    if isinstance(error, OSError) and error.errno is not None:
        where = error.filename or constants.HF_HUB_CACHE
        return UserError(f"{where} cannot be used ({error.strerror}{whose(where)}); HF_HOME moves the cache")
    return UserError(f"'{name}' could not be transferred ({first_line(error)}); if it is hf-xet that fails, set HF_HUB_DISABLE_XET=1")


def _header(error: BaseException, header: str) -> str | None:
    response: Any = getattr(error, "response", None)
    value = None if response is None else response.headers.get(header)
    return None if value is None else str(value)
