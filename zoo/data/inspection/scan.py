"""Looking at every image of a split once: in several processes, and only at those that are not known from before."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.cores import own_cores
from zoo.data.base import FileImages, Images
from zoo.data.entries import READ_WHOLE
from zoo.data.images.decode import share_gate
from zoo.data.inspection.facts import FactCollector, FactTable
from zoo.data.inspection.files_state import FilesState
from zoo.data.inspection.kept import facts_file, keep, read_kept

# Called with the number of images done and their total.
Progress = Callable[[int, int], None]
# Images per task: few enough for a smooth progress bar and an even share, enough to hide what a task costs.
_CHUNK = 64
# Below this many images, starting processes takes longer than decoding.
_FEW = 48


@dataclass(frozen=True)
class Scan:
    """What a look at a split found.

    Attributes
    ----------
    images
        The split.
    table
        A row for each of its images.
    state
        Of its files; None for images in memory.
    decoded
        How many images were decoded for it; the others were known.
    not_kept
        Why the facts could not be kept for the next time, or None.
    """

    images: Images
    table: FactTable
    state: FilesState | None
    decoded: int
    not_kept: str | None = None


def scan_images(images: Images, progress: Progress | None = None, workers: int | None = None, *, again: bool = False) -> Scan:
    """Look at every image of a split.

    Parameters
    ----------
    images
        A split.
    progress
        Called from this thread with (images done, images in all).
    workers
        Processes that decode; None: one per available core. 1: this one.
    again
        Decode every image, whatever is known of it.
    """
    if not isinstance(images, FileImages):
        return Scan(images, _of_pixels(images, progress), None, 0)
    state = FilesState.of(images)
    if not len(images):
        return Scan(images, FactCollector().table(), state, 0)
    path = facts_file(images, images.reading)
    kept, known = read_kept(path, state)
    missing = np.arange(len(images)) if again else np.flatnonzero(~known)
    if not len(missing):
        return Scan(images, kept, state, 0)
    new = FactTable.join(list(_decoded(images, state, missing, progress, workers)))
    if len(missing) == len(images):
        table = new
    else:
        both = FactTable.join([kept, new])
        places = np.arange(len(images))
        places[missing] = len(images) + np.arange(len(missing))
        table = both.take(places)
    return Scan(images, table, state, len(missing), keep(path, state, table))


def _of_pixels(images: Images, progress: Progress | None) -> FactTable:
    collector = FactCollector()
    for index in range(len(images)):
        collector.pixels(images.pixels[index] if images.pixels is not None else np.asarray(images.read(index)))
        if progress is not None and (index + 1) % _CHUNK == 0:
            progress(index + 1, len(images))
    return collector.table()


def _decoded(
    images: FileImages, state: FilesState, chosen: NDArray[np.int64], progress: Progress | None, workers: int | None
) -> Iterator[FactTable]:
    """The facts of the images at ``chosen``, in their order, a few at a time."""
    chunks = [chosen[start : start + _CHUNK] for start in range(0, len(chosen), _CHUNK)]
    count = min(workers or own_cores(), max(1, len(chosen) // _FEW))
    # Decoding holds Python's lock too much of the time for threads to be of use with small images.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    several = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(images, state.sizes, context.Lock())) if count > 1 else None
    with several or nullcontext():
        tables = several.map(_in_worker, chunks) if several else map(_of_chunk(images, state.sizes), chunks)
        done = 0
        try:
            for chunk, table in zip(chunks, tables, strict=True):
                yield table
                done += len(chunk)
                if progress is not None:
                    progress(len(images) - len(chosen) + done, len(images))
        except BaseException:
            # Who is told to leave need not wait for all that was still to be looked at.
            if several is not None:
                several.shutdown(cancel_futures=True)
            raise


def _of_chunk(images: FileImages, sizes: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], FactTable]:
    def look(chunk: NDArray[np.int64]) -> FactTable:
        collector = FactCollector()
        for index in chunk:
            entry = images.entries[int(index)]
            try:
                if 0 <= sizes[index] <= READ_WHOLE:
                    collector.encoded(entry.open_bytes(), images.reading)
                    continue
                with entry.opened() as source:
                    collector.encoded(source, images.reading)
            except OSError as error:
                collector.unreadable(error.strerror or str(error))
        return collector.table()

    return look


_worker: dict[str, Any] = {}


def _begin(images: FileImages, sizes: NDArray[np.int64], gate: AbstractContextManager[Any]) -> None:
    share_gate(gate)
    # What came with the fork is nobody's garbage; looking through it would copy its memory.
    gc.freeze()
    _worker["look"] = _of_chunk(images, sizes)


def _in_worker(chunk: NDArray[np.int64]) -> FactTable:
    table: FactTable = _worker["look"](chunk)
    return table
