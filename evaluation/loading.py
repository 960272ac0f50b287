"""A loader whose worker processes end when its user is done with it, and not before."""

from __future__ import annotations

import atexit
import functools
import signal
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

from evaluation.stopping import SIGNALS

T_co = TypeVar("T_co", covariant=True)


class ClosableLoader(DataLoader[T_co]):
    """torch's loader, with :meth:`close`; also a context manager that closes it. It is iterated by one user at a time.

    torch leaves workers to the garbage collector. They live for as long as anything refers to their iterator, such as the traceback of an
    error, which a notebook keeps; and where the collector finds them in a cycle of references it waits five seconds for each.

    Workers pass over the signals that ask a training to stop. Those mostly go to all processes of a job, and a training whose workers are
    gone could not end its step and save. So a program that ends with a loader open must not leave them to Python, which would send them
    such a signal and wait: what is open at the end is closed.
    """

    _running: _BaseDataLoaderIter | None = None

    def __init__(self, dataset: Dataset[T_co], *, worker_init_fn: Callable[[int], None] | None = None, **settings: Any) -> None:
        super().__init__(dataset, worker_init_fn=functools.partial(_begin_worker, worker_init_fn), **settings)

    def __iter__(self) -> _BaseDataLoaderIter:
        # A worker begins with the signals of the thread that starts it: none reaches it before it passes over them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        _open.add(self)
        try:
            self._running = super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self._running

    def close(self) -> None:
        """End the workers, wherever they are, and wait for them. The loader can be iterated again, with new ones."""
        running, self._running, self._iterator = self._running, None, None
        if isinstance(running, _MultiProcessingDataLoaderIter):
            # torch has no public name for it. It asks first, and then sends a signal that workers pass over.
            running._shutdown_workers()
            for worker in running._workers:
                if worker.is_alive():
                    worker.kill()

    def __enter__(self) -> ClosableLoader[T_co]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


# Handlers of the end run in the opposite order of their registering: torch is imported, so that this one is before multiprocessing's.
_open: weakref.WeakSet[ClosableLoader[Any]] = weakref.WeakSet()


@atexit.register
def _close_what_is_open() -> None:
    for loader in list(_open):
        loader.close()


def _begin_worker(begin: Callable[[int], None] | None, number: int) -> None:
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if begin is not None:
        begin(number)
