"""Images that cannot be decoded: finding them, refusing them, leaving them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from zoo.cores import available_cores
from zoo.data.base import FileImages, Images
from zoo.data.images import BadImageError
from zoo.data.inspection.scan import Progress, Scan, scan_images
from zoo.errors import UserError

OnBad = Literal["refuse", "skip"]
# Images per task of the thread pool: few enough for a smooth progress bar, enough to hide the pool's overhead.
_CHUNK = 64
# Beyond this many threads, Python's lock rather than decoding sets the pace.
_MAX_WORKERS = 16


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be decoded: its index, the name to find it by, and what is wrong with it."""

    index: int
    where: str
    reason: str


def find_bad_images(images: Images, progress: Progress | None = None, workers: int | None = None) -> list[BadImage]:
    """Decode every image once and list those that fail.

    Parameters
    ----------
    images
        A split. Images in memory were decoded when the split was loaded, so there nothing is read and none is bad.
    progress
        Called from this thread with (images done, images in all).
    workers
        Decoding processes; by default one per available core.

    Returns
    -------
    The bad images by index: truncated or empty files, files that are no image, that cannot be read or do not exist, and images
    larger than Pillow's limit for decompression bombs. What is found of a file is kept by its path, size and time
    (:mod:`zoo.data.inspection.kept`), so that a second look at the same files decodes none.
    """
    return bad_images(scan_images(images, progress, workers)) if isinstance(images, FileImages) else []


def bad_images(scan: Scan) -> list[BadImage]:
    """The bad images that a scan found; what it says of single images becomes their split's ``notes``."""
    images, table = scan.images, scan.table
    images.notes = tuple(f"{images.where(int(row))}: {table.word('note', int(row))}" for row in np.flatnonzero(table.rows["note"]))
    return [BadImage(int(row), images.where(int(row)), table.word("reason", int(row))) for row in np.flatnonzero(table.bad)]


def without_bad_images(images: Images, bad: Sequence[BadImage]) -> Images:
    """``images`` without those in ``bad``, in the same order; their names are added to ``skipped``, the reasons beside them."""
    if not bad:
        return images
    kept = images.subset(np.delete(np.arange(len(images)), [one.index for one in bad]))
    kept.skipped = (*images.skipped, *(one.where for one in bad))
    kept.skipped_reasons = (*images.skipped_reasons, *(one.reason for one in bad))
    return kept


def check_images(images: Images, on_bad: OnBad = "refuse", progress: Progress | None = None, workers: int | None = None) -> Images:
    """Decode every image once; refuse a split with bad images, or leave these out.

    Parameters
    ----------
    images, progress, workers
        As in :func:`find_bad_images`.
    on_bad
        ``"refuse"``: raise UserError if there are any. ``"skip"``: leave them out and list them in ``skipped``.

    Raises
    ------
    UserError
        Bad images that are refused; or no good image at all.
    """
    return apply_verdict(images, find_bad_images(images, progress, workers), on_bad)


def apply_verdict(images: Images, bad: Sequence[BadImage], on_bad: OnBad) -> Images:
    """``images`` without ``bad`` if that is wanted and leaves any, else UserError."""
    if bad and (on_bad == "refuse" or len(bad) == len(images)):
        advice = "mend or remove them, or leave them out with --skip-bad-images (in Python: on_bad='skip')"
        if len(bad) == len(images):
            advice = "there is nothing to work with"
        count = f"{len(bad)} of {len(images)} images of {images.name} ({images.split}) cannot be decoded"
        raise UserError(f"{count}, first {bad[0].where} ({bad[0].reason}); {advice}")
    return without_bad_images(images, bad)


def decode_all(
    images: FileImages,
    use: Callable[[int, Image.Image], None],
    progress: Progress | None = None,
    workers: int | None = None,
) -> list[BadImage]:
    """Decode every image in a thread pool, hand each good one to ``use(index, image)``, and list the bad ones.

    ``use`` runs on the pool's threads; an exception from it ends the work and reaches the caller. What is to be known of single images
    becomes ``images.notes``.
    """
    notes: list[tuple[int, str]] = []

    def decode_chunk(start: int) -> list[BadImage]:
        bad = []
        for index in range(start, min(start + _CHUNK, len(images))):
            try:
                # The block also bounds the memory: a large image is gone before the next is decoded.
                with images.decoded(index) as made:
                    if made.note:
                        notes.append((index, made.note))
                    use(index, made.image)
                    del made
            except BadImageError as error:
                bad.append(BadImage(index, images.where(index), str(error)))
        return bad

    found: list[BadImage] = []
    with ThreadPoolExecutor(workers or min(available_cores(), _MAX_WORKERS)) as pool:
        for number, bad in enumerate(pool.map(decode_chunk, range(0, len(images), _CHUNK)), start=1):
            found.extend(bad)
            if progress is not None:
                progress(min(number * _CHUNK, len(images)), len(images))
    images.notes = tuple(f"{images.where(index)}: {note}" for index, note in sorted(notes))
    return found
