"""When to save and stop before the end: a signal, or the time that the job was given. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from zoo.errors import UserError

if TYPE_CHECKING:
    import torch

# SIGUSR1 is what `sbatch --signal=USR1@120` sends before the time limit; SIGTERM what preemption sends; SIGINT is Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def parse_duration(text: str | float | int) -> float:
    """Seconds of ``"90s"``, ``"45m"``, ``"3h"``, ``"1h30m"``, ``"1:30:00"``; a bare number is minutes.

    Raises UserError for anything else, also for ``"1:30"``, which could mean two things.
    """
    clock = re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d)", str(text).strip())
    if clock:
        hours, minutes, seconds = map(int, clock.groups())
        return hours * 3600.0 + minutes * 60 + seconds
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", str(text).strip())
    if match and any(match.groups()):
        return sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True))
    try:
        minutes_alone = float(text)
        if not 0 < minutes_alone < float("inf"):
            raise ValueError
    except ValueError:
        raise UserError(f"max_time '{text}' is not a duration; write for example 45m, 3h, 1h30m or 1:30:00") from None
    return minutes_alone * 60


class TrainingStopped(Exception):
    """A training was stopped before its end, after its checkpoint was written; the text says by what, and how to go on."""


class StoppedAtOnce(BaseException):
    """A signal came while there was nothing to save. No Exception: libraries take those for failures of their own."""


class StopRequest:
    """Turns signals and a time limit into a question asked between two steps.

    A second signal of the same kind ends the process at once.

    Parameters
    ----------
    max_seconds
        Time after which to stop, from now; None for no limit.

    Attributes
    ----------
    reason
        What asks to stop; None: nothing does.
    """

    def __init__(self, max_seconds: float | None = None) -> None:
        self.reason: str | None = None
        self.limit(max_seconds)
        self._previous: dict[int, object] = {}
        self._at_once = False

    def limit(self, max_seconds: float | None) -> None:
        """Set the time after which to stop, from now; None for no limit."""
        self._max_seconds = max_seconds
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds

    def __enter__(self) -> StopRequest:
        # Only the main thread may set handlers; a training started in another one (a notebook's, a test's) goes without.
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise :class:`StoppedAtOnce` where a signal comes in the block, or came before it; also in place of an error that it caused."""
        self._at_once = True
        try:
            if self.reason is not None:
                raise StoppedAtOnce
            yield
        except Exception as error:
            # A signal to the whole group of processes also ends those that this one works with, which is an error here.
            if self.reason is not None:
                raise StoppedAtOnce from error
            raise
        finally:
            self._at_once = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # A forked process has the handler too. Whoever started it ends it.
        if os.getpid() != self._process:
            return
        self.reason = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)
        if self._at_once:
            raise StoppedAtOnce

    def asked(self, device: torch.device, *, by_signal: bool = False) -> bool:
        """Whether to stop now. With several processes all get the same answer: yes as soon as one has a reason.

        With ``by_signal`` the time limit is no reason.
        """
        import torch

        if self.reason is None and not by_signal and self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = f"max_time of {self._max_seconds:.0f} s"
        if not torch.distributed.is_initialized():
            return self.reason is not None
        flag = torch.tensor([float(self.reason is not None)], device=device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        if flag.item() > 0 and self.reason is None:
            self.reason = "a stop of another process"
        return self.reason is not None
