"""The process that sends a push: it asks the one that started it before each request that changes a repository, and ends with it.

It reads from standard input a job, and then a line for each permission to send; it writes what happens, a JSON object a line, to standard
output. The process that started it (:mod:`zoo.hub.upload.sending`) may end it at any time: until it was given the permission nothing has
been changed on the Hub. Where that process is gone, standard input ends, and this one ends too.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_session, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils.tqdm import disable_progress_bars

from zoo.errors import UserError
from zoo.hub import failures
from zoo.hub.names import HubName
from zoo.hub.retries import Deadline, DeadlinePassed, retry
from zoo.hub.snapshot import Access, list_files

_CONFLICT, _FORBIDDEN, _MOVED_ON = 409, 403, 412
# The requests that change a repository, by method and path.
CREATE, COMMIT = "create", "commit"
_CHANGES = {CREATE: re.compile(r"/api/repos/create"), COMMIT: re.compile(r"/api/models/.+/commit/[^/]+")}


@dataclass(frozen=True)
class Job:
    """What is to be sent.

    Attributes
    ----------
    folder, files
        A folder, and which of its files go up.
    parent
        The commit to go on top of; None: the repository is made first.
    seconds
        Time that is left for it.
    """

    repository: str
    folder: str
    files: list[str]
    parent: str | None
    private: bool
    create_pr: bool
    message: str
    seconds: float
    progress: bool


class _Line:
    """The line to the process that started this one."""

    def __init__(self, told: TextIO) -> None:
        self._told = told
        self._lock = threading.Lock()
        self._may_go = threading.Event()

    def tell(self, **facts: Any) -> None:
        with self._lock:
            self._told.write(json.dumps(facts) + "\n")
            self._told.flush()

    def ask(self, request: Any) -> None:
        """Hold a request that changes a repository until it may go; it never goes where this process is ended meanwhile."""
        kinds = [kind for kind, path in _CHANGES.items() if path.search(request.url.path)] if request.method == "POST" else []
        if kinds:
            self._may_go.clear()
            self.tell(about=kinds[0])
            self._may_go.wait()

    def listen(self) -> None:
        """Take permissions, until the other process is gone."""
        for _ in sys.stdin:
            self._may_go.set()
        os._exit(1)


def main(job: Job) -> None:
    """Send the job; what comes of it is told."""
    line = _Line(os.fdopen(os.dup(1), "w"))
    # Whatever libraries print is no part of what is told.
    os.dup2(2, 1)
    threading.Thread(target=line.listen, daemon=True).start()
    _have_requests_asked(line)
    if not job.progress:
        disable_progress_bars()
    try:
        _send(job, line)
    except DeadlinePassed as error:
        line.tell(late=str(error))
    except UserError as error:
        line.tell(refused=str(error))
    # Threads of the client that still run must not be waited for.
    os._exit(0)


def _have_requests_asked(line: _Line) -> None:
    first = get_session()

    def client() -> Any:
        hooks = {"request": [*first.event_hooks["request"], line.ask], "response": first.event_hooks["response"]}
        return type(first)(event_hooks=hooks, follow_redirects=first.follow_redirects, timeout=first.timeout)

    set_client_factory(client)


def _send(job: Job, line: _Line) -> None:
    deadline, name = Deadline(job.seconds), HubName(job.repository)
    parent = job.parent
    if parent is None:
        _create(job, name, deadline, line)
        with failures.explained(name):
            parent = list_files(name, Access(deadline)).commit
        line.tell(parent=parent)
    try:
        info = _tried(lambda: _commit(job, parent), f"the push to {name}", deadline, line)
    except UserError:
        raise
    except Exception as error:
        if failures.status_of(failures.cause_of(error)) == _MOVED_ON:
            line.tell(moved=True)
            return
        raise _refused(error, job, name) from error
    line.tell(commit=str(info.oid), page=info.pr_url)


def _create(job: Job, name: HubName, deadline: Deadline, line: _Line) -> None:
    try:
        _tried(lambda: HfApi().create_repo(job.repository, private=job.private), f"the making of {name}", deadline, line)
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, HfHubHTTPError) and failures.status_of(error) == _CONFLICT:
            raise UserError(f"the name '{name}' is taken, and your account may not see by what; choose another") from error
        raise _refused(error, job, name) from error


def _commit(job: Job, parent: str) -> Any:
    # Fresh operations for each attempt: the client marks in them what it has uploaded.
    operations = [CommitOperationAdd(file, Path(job.folder) / file) for file in job.files]
    return HfApi().create_commit(job.repository, operations, commit_message=job.message, parent_commit=parent, create_pr=job.create_pr)


def _tried(call: Any, doing: str, deadline: Deadline, line: _Line) -> Any:
    """``call()``, again after errors that may pass; between two attempts the other process may end this one."""

    def attempt() -> Any:
        try:
            return call()
        except Exception:
            line.tell(failed=True)
            raise

    return retry(attempt, deadline, doing, transient=failures.is_transient, wait_asked=failures.wait_asked, in_thread=False)


def _refused(error: Exception, job: Job, name: HubName) -> UserError:
    cause = failures.cause_of(error)
    if failures.status_of(cause) == _FORBIDDEN and failures.store_of(cause) is None:
        owner = job.repository.partition("/")[0]
        return UserError(
            f"your token may not write to '{owner}' on {constants.ENDPOINT}: it needs write permission, and your account must be "
            f"'{owner}' or a member of it" + ("" if job.create_pr else "; --create-pr proposes the change instead")
        )
    return failures.sentence(cause, name)
