"""Trying again within a time limit, for what the network spoils."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from zoo.errors import UserError

Value = TypeVar("Value")

# Overall limit of a pull or push, in seconds, where the caller names none: enough for some 100 MB over a slow line.
DEFAULT_DEADLINE = 3600.0
# Seconds to wait before each further attempt.
WAITS = (1.0, 2.0, 4.0, 8.0)


class DeadlinePassed(UserError):
    """The overall time limit of a transfer has passed."""


class Deadline:
    """A point in time that everything must be done by.

    Parameters
    ----------
    seconds
        From now on; must be positive.

    Raises
    ------
    UserError
        ``seconds`` is not positive.
    """

    def __init__(self, seconds: float = DEFAULT_DEADLINE) -> None:
        if not 0 < seconds < float("inf"):
            raise UserError(f"the deadline must be a positive number of seconds, not {seconds:g}")
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; negative once it has passed."""
        return self._end - time.monotonic()

    def check(self, doing: str) -> None:
        """Raise :class:`DeadlinePassed` where it has passed."""
        if self.left <= 0:
            raise DeadlinePassed(
                f"{doing} was not done within {self.seconds:g} seconds, so it was given up; give a longer --deadline, or try again later"
            )

    def run(self, call: Callable[[], Value], doing: str) -> Value:
        """``call()``, given up when the deadline passes, whatever it waits for.

        The call runs in a thread of its own, since a client's sleep cannot be interrupted; one that was given up ends with the process.
        """
        self.check(doing)
        outcome: list[Value] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                outcome.append(call())
            except BaseException as error:
                failure.append(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(max(self.left, 0))
        if failure:
            raise failure[0]
        if not outcome:
            self.check(doing)
        return outcome[0]


def retry(
    call: Callable[[], Value],
    deadline: Deadline,
    doing: str,
    *,
    transient: Callable[[BaseException], bool],
    wait_asked: Callable[[BaseException], float | None] = lambda error: None,
    in_thread: bool = True,
) -> Value:
    """``call()``, again after errors that may pass.

    Parameters
    ----------
    call
        What to do.
    doing
        What it does, for the sentence when time is up.
    transient
        Whether an error may pass.
    wait_asked
        Seconds that the other side asked to wait, if it did. A wait that would outlast the deadline is not begun: the error is raised.

    in_thread
        Cut it off at the deadline (:meth:`Deadline.run`); otherwise it must look at the clock itself.

    Raises
    ------
    DeadlinePassed
        Time is up.
    Exception
        The last error of ``call``.
    """
    for wait in (*WAITS, None):
        try:
            if in_thread:
                return deadline.run(call, doing)
            deadline.check(doing)
            return call()
        except Exception as error:
            if isinstance(error, UserError) or not transient(error):
                raise
            deadline.check(doing)
            if wait is None:
                raise
            pause = max(wait, wait_asked(error) or 0.0)
            if pause >= deadline.left:
                raise
        time.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")
