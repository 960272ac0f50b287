"""Starting the process that sends a push, and ending it when time is up or a signal comes."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from zoo.errors import UserError
from zoo.hub.retries import Deadline
from zoo.hub.upload.cancelling import Cancelling
from zoo.hub.upload.sender import COMMIT, Job

_PROGRAM = (
    "import json, sys; facts = json.loads(sys.stdin.readline()); sys.path[:] = facts.pop('sys.path'); "
    "from zoo.hub.upload.sender import Job, main; main(Job(**facts))"
)
# Seconds for which the answer to a request that has gone out is waited for, after the deadline or a signal.
ANSWER_WAIT = 30.0
# Seconds between two looks at the clock and at signals.
_TICK = 0.1
_READ_BYTES = 1 << 16


@dataclass
class Sent:
    """How far a push came.

    Attributes
    ----------
    parent
        The commit that it goes, or was to go, on top of; None: the repository was not made, or nobody knows.
    commit, page
        What was made: the commit, and the pull request's page.
    moved
        The Hub refused the commit, since its parent is not the newest one any more.
    unanswered
        A request that changes the repository (``"create"``, ``"commit"``) has gone out, and no answer to it has come.
    committing
        A request for a commit has gone out.
    over
        Why it ended before its end, in words; None: it did not.
    """

    parent: str | None = None
    commit: str | None = None
    page: str | None = None
    moved: bool = False
    unanswered: str | None = None
    committing: bool = False
    over: str | None = None


def send(job: Job, deadline: Deadline, signals: Cancelling) -> Sent:
    """Send a job from a process of its own.

    At the deadline, or at a signal, that process is ended. No request that changes the repository goes out after either. The answer to one
    that has gone out before is waited for, ``ANSWER_WAIT`` seconds at most, and until a second signal comes.

    Raises
    ------
    UserError
        The Hub refused it, in a sentence that says why.
    """
    with signals.held(), _process(job) as process:
        return _watch(process, job, deadline, signals)


@contextlib.contextmanager
def _process(job: Job) -> Iterator[subprocess.Popen[bytes]]:
    # In a session of its own, so that a terminal's Ctrl-C reaches this process alone.
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _write(process, json.dumps({**asdict(job), "sys.path": sys.path}))
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        # It may have ended before it read all.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _write(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin is not None
    # Where it has ended, the reading of its answers finds that.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()


def _watch(process: subprocess.Popen[bytes], job: Job, deadline: Deadline, signals: Cancelling) -> Sent:
    sent = Sent(parent=job.parent)
    over_since: float | None = None
    for told in _lines(process):
        for facts in told:
            if "about" in facts:
                if signals.signals or deadline.left <= 0:
                    return _over(sent, deadline, signals)
                sent.unanswered = facts["about"]
                sent.committing = sent.committing or facts["about"] == COMMIT
                _write(process, "go")
            else:
                sent.unanswered = None
            if "parent" in facts:
                sent.parent = facts["parent"]
            elif "commit" in facts:
                sent.commit, sent.page = facts["commit"], facts["page"]
                return sent
            elif "moved" in facts:
                sent.moved = True
                return sent
            elif "late" in facts:
                return _over(sent, deadline, signals)
            elif "refused" in facts:
                raise UserError(facts["refused"])
        if over_since is None and (signals.signals or deadline.left <= 0):
            over_since = time.monotonic()
        waited = over_since is not None and time.monotonic() - over_since > ANSWER_WAIT
        if over_since is not None and (sent.unanswered is None or waited or len(signals.signals) > 1):
            return _over(sent, deadline, signals)
    sent.over = f"the process that sends the push ended (status {process.wait()})"
    return sent


def _over(sent: Sent, deadline: Deadline, signals: Cancelling) -> Sent:
    sent.over = "cancelled" if signals.signals else f"the push was not done within {deadline.seconds:g} seconds"
    return sent


def _lines(process: subprocess.Popen[bytes]) -> Iterator[list[dict[str, Any]]]:
    """What the process told since the last look, which takes a tick at most; ends where the process does."""
    assert process.stdout is not None
    unread = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            told: list[dict[str, Any]] = []
            if selector.select(_TICK):
                new = os.read(process.stdout.fileno(), _READ_BYTES)
                if not new:
                    return
                *whole, unread = (unread + new).split(b"\n")
                told = [json.loads(line) for line in whole]
            yield told
