"""What a call leaves running: worker processes and threads that it began and did not end."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

import psutil
import pytest

# A queue's thread is told to end and not waited for.
_PATIENCE = 2.0


@contextmanager
def everything_ends(workers: int) -> Iterator[None]:
    """A block that begins at least so many worker processes, and at whose end none of them lives, nor a thread that began in it.

    The garbage collector is off meanwhile: nothing is to be left to it. What the block raises goes on, with its traceback.
    """
    begun: list[BaseProcess] = []
    start = BaseProcess.start

    def counted(process: BaseProcess) -> None:
        begun.append(process)
        start(process)

    gc.collect()
    gc.disable()
    before = _running()
    failure: BaseException | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseProcess, "start", counted)
        try:
            yield
        except BaseException as error:
            failure = error
    gc.enable()
    deadline = time.monotonic() + _PATIENCE
    while (left := _running() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"left running: {left}"
    assert len(begun) >= workers, f"only {len(begun)} workers began; raised: {failure!r}"
    if failure is not None:
        raise failure


def _running() -> set[object]:
    return {*psutil.Process().children(recursive=True), *threading.enumerate()}
