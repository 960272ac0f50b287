"""Trying again: only what may pass, not for ever, and never beyond the deadline."""

from __future__ import annotations

import threading
import time

import pytest

import zoo.hub.retries
from zoo.errors import UserError
from zoo.hub.retries import Deadline, DeadlinePassed, retry


class Flaky:
    """Fails so often with this error, then gives its number of calls."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return self.calls


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(zoo.hub.retries, "WAITS", (0.01, 0.01, 0.01, 0.01))


def is_connection(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


@pytest.mark.parametrize("in_thread", [True, False])
def test_what_may_pass_is_tried_five_times(in_thread):
    call = Flaky(4, ConnectionError("lost"))
    assert retry(call, Deadline(5), "it", transient=is_connection, in_thread=in_thread) == 5
    call = Flaky(5, ConnectionError("lost"))
    with pytest.raises(ConnectionError, match="lost"):
        retry(call, Deadline(5), "it", transient=is_connection, in_thread=in_thread)
    assert call.calls == 5


def test_what_is_final_is_tried_once():
    for error in (PermissionError("no"), UserError("a sentence")):
        call = Flaky(1, error)
        with pytest.raises(type(error)):
            retry(call, Deadline(5), "it", transient=is_connection)
        assert call.calls == 1


def test_a_wait_beyond_the_deadline_is_not_begun():
    call, started = Flaky(1, ConnectionError("lost")), time.monotonic()
    with pytest.raises(ConnectionError):
        retry(call, Deadline(1), "it", transient=is_connection, wait_asked=lambda error: 60.0)
    assert time.monotonic() - started < 0.5
    assert retry(call, Deadline(1), "it", transient=is_connection, wait_asked=lambda error: 0.1) == 2


def test_a_call_that_does_not_end_is_given_up():
    released = threading.Event()
    started = time.monotonic()
    with pytest.raises(DeadlinePassed, match=r"^the transfer was not done within 0\.2 seconds"):
        Deadline(0.2).run(lambda: released.wait(10), "the transfer")
    assert 0.2 <= time.monotonic() - started < 2
    released.set()


def test_a_deadline_that_has_passed_begins_nothing():
    deadline, call = Deadline(0.01), Flaky(0, ConnectionError())
    time.sleep(0.02)
    for in_thread in (True, False):
        with pytest.raises(DeadlinePassed):
            retry(call, deadline, "it", transient=is_connection, in_thread=in_thread)
    assert call.calls == 0


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_deadlines_that_are_none(seconds):
    with pytest.raises(UserError, match="the deadline must be a positive number of seconds"):
        Deadline(seconds)
