"""What a long walk over images says: nothing while it is short, then a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

# A walk that ends within this says nothing.
SECONDS_BETWEEN_LINES = 15.0


def counted_lines(what: str, say: Callable[[str], None], seconds: float = SECONDS_BETWEEN_LINES) -> Callable[[int, int], None]:
    """A function to be called with how many are done and how many there are, which says so at most once in ``seconds``."""
    began = last = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds and done:
            last = now
            left = (now - began) / done * (total - done)
            say(f"{what}: {done:,} of {total:,}, about {left:.0f} s left")

    return told
