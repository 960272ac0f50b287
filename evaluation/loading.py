"""A loader whose worker processes end when its user is done with it."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

T_co = TypeVar("T_co", covariant=True)


class ClosableLoader(DataLoader[T_co]):
    """torch's loader, with :meth:`close`; also a context manager that closes it. It is iterated by one user at a time.

    torch leaves workers to the garbage collector. They live for as long as anything refers to their iterator, such as the traceback of an
    error, which a notebook keeps; and where the collector finds them in a cycle of references it waits five seconds for each.
    """

    _running: _BaseDataLoaderIter | None = None

    def __iter__(self) -> _BaseDataLoaderIter:
        self._running = super().__iter__()
        return self._running

    def close(self) -> None:
        """End the workers, wherever they are, and wait for them. The loader can be iterated again, with new ones."""
        running, self._running, self._iterator = self._running, None, None
        if isinstance(running, _MultiProcessingDataLoaderIter):
            # torch has no public name for it.
            running._shutdown_workers()

    def __enter__(self) -> ClosableLoader[T_co]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
