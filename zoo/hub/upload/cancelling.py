"""Ctrl-C and SIGTERM during a push: they stop it, and what stands on the Hub is said."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

# What a terminal's Ctrl-C sends, and what `kill`, a scheduler or a container's end sends.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Cancelled(KeyboardInterrupt):
    """A push was cancelled by a signal; the text says what stands on the Hub, as far as it is known.

    Attributes
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(text)
        self.number = number


class Cancelling:
    """In the ``with`` block the signals raise :class:`Cancelled`, or are only counted while they are held back.

    Signals reach Python's main thread alone; in another thread the block changes nothing.

    Attributes
    ----------
    signals
        Those that came.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._held = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Cancelling:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """In the block nothing is raised: whoever holds the signals back looks at :attr:`signals`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        if not self._held:
            raise Cancelled(number)
