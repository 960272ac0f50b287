"""Every image of an annotated set decoded once, before anything is computed from it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from zoo.data.boxes.annotations import Record
from zoo.data.boxes.detection_data import DetectionData
from zoo.data.entries import FileEntry
from zoo.data.images import BadImageError, Reading
from zoo.errors import first_line

_THREADS = 8


def undecodable_images(data: DetectionData, each: Callable[[int, int], None] | None = None) -> dict[str, str]:
    """The files of both splits that cannot be decoded, or whose picture has another size than their header says, and why.

    A header is read when a set is opened; a file that is cut short, or damaged further on, is found only here.

    Parameters
    ----------
    each
        Is called after each image with how many are done, and how many there are.
    """
    images = {image["file_name"]: (image, split.reading) for split in (data.train, data.test) for image in split.images}
    found: dict[str, str] = {}
    pool = ThreadPoolExecutor(_THREADS)
    try:
        tasks = {pool.submit(_reason, image, reading): name for name, (image, reading) in images.items()}
        for done, task in enumerate(as_completed(tasks), start=1):
            if (reason := task.result()) is not None:
                found[tasks[task]] = reason
            if each is not None:
                each(done, len(images))
    finally:
        # A signal to stop does not wait for the images that nobody has begun.
        pool.shutdown(cancel_futures=True)
    return {name: found[name] for name in images if name in found}


def _reason(image: Record, reading: Reading) -> str | None:
    try:
        with FileEntry(image["file_name"]).decoded(reading) as made:
            size = made.image.size
    except OSError as error:
        return error.strerror or first_line(error)
    except (BadImageError, ValueError, MemoryError) as error:
        return first_line(error)
    wanted = (image["width"], image["height"])
    return None if size == wanted else f"{size[0]} x {size[1]} when decoded, not {wanted[0]} x {wanted[1]}"
