"""Which images a training began with: names, sizes, order and content, so that a resumed run can say what is different.

It is not the fingerprint of results (:meth:`zoo.data.base.Images.fingerprint`), which covers labels and depends on no name: a result may be
measured again on a copy of the data, while a run goes on with the very images that it began with, since their positions are the keys of
every random choice and the rows of every survey table.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import FileImages, Images
from zoo.data.images import BadImageError
from zoo.data.inspection.facts import DIGEST_BYTES
from zoo.data.inspection.files_state import FilesState
from zoo.data.inspection.scan import Scan
from zoo.data.levels import name_some
from zoo.errors import UserError
from zoo.files import replace_file
from zoo.reading.arrays import ArrayFileError, read_arrays
from zoo.reading.outside import typed_json

# Images whose decoded pixels are compared, evenly spread: a decoder of another version gives other pixels of the same file.
SAMPLED = 64
# Files of another time and the same size whose bytes are read again; of more, so many, evenly spread.
READ_AGAIN = 10_000


@dataclass(frozen=True)
class Identity:
    """The identity of N images in their order.

    Attributes
    ----------
    names
        Below the data's folder where they lie in it.
    sizes, times
        int64 (N,): bytes of each file and time of its last change; -1 for images in memory.
    contents
        uint8 (N, 16): hashes of the encoded bytes; of images in memory, of their pixels.
    pixels
        uint8 (M, 16): hashes of the decoded pixels of the images at ``np.linspace(0, N - 1, M)``.
    """

    names: list[str]
    sizes: NDArray[np.int64]
    times: NDArray[np.int64]
    contents: NDArray[np.uint8]
    pixels: NDArray[np.uint8]

    def digest(self) -> str:
        """sha256 (hex) over all of it but the times, which a copy changes."""
        digest = hashlib.sha256("\0".join(self.names).encode(errors="surrogateescape"))
        for values in (self.sizes.astype("<i8"), self.contents, self.pixels):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write it. Raises UserError where the system refuses."""

        def write(temporary: Path) -> None:
            names = np.frombuffer(json.dumps(self.names).encode(), np.uint8)
            with open(temporary, "wb") as file:
                np.savez_compressed(file, names=names, sizes=self.sizes, times=self.times, contents=self.contents, pixels=self.pixels)

        replace_file(path, write)

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read what :meth:`save` wrote. Raises UserError for a file that is damaged."""
        try:
            text, sizes, times, contents, pixels = read_arrays(path, "names", "sizes", "times", "contents", "pixels")
            names = typed_json(text.tobytes(), list[str], str(path))
            if not (sizes.dtype == times.dtype == np.int64 and sizes.shape == times.shape == (len(names),)):
                raise ArrayFileError("not a size and a time for each name")
            if contents.dtype != np.uint8 or contents.shape != (len(names), DIGEST_BYTES) or pixels.dtype != np.uint8:
                raise ArrayFileError("not a digest for each name")
            return cls(names, sizes, times, contents, pixels)
        except (OSError, KeyError, ArrayFileError, UserError) as error:
            raise UserError(f"{path}, which names the images of the run, is damaged; remove it to go on without comparing them") from error


def identify(images: Images, scan: Scan | None, root: Path | None) -> Identity:
    """The identity of good images.

    Parameters
    ----------
    images
        N images, none of them bad.
    scan
        A look at these images and perhaps bad ones among them (:func:`zoo.data.inspection.scan.scan_images`), which read them all; None for
        images in memory.
    root
        The folder that the data lie in.

    Raises
    ------
    ValueError
        The scan is not of these images.
    """
    names = _names(images, root)
    if scan is None or scan.state is None:
        missing = np.full(len(images), -1, dtype=np.int64)
        contents = np.frombuffer(b"".join(_pixel_contents(images)), np.uint8).reshape(-1, DIGEST_BYTES)
        return Identity(names, missing, missing, contents, _sampled_pixels(images))
    good = np.flatnonzero(~scan.table.bad)
    if len(good) != len(images):
        raise ValueError(f"the scan has {len(good)} good images, and there are {len(images)}")
    digests = scan.table.rows["digest"][good]
    return Identity(names, scan.state.sizes[good], scan.state.times[good], digests, _sampled_pixels(images))


def difference(then: Identity, images: Images, root: Path | None) -> str | None:
    """What is different about ``images`` now, as part of a sentence that names some of them; None where nothing is.

    Parameters
    ----------
    then
        The identity that a run began with.
    images, root
        As :func:`identify` takes them.
    """
    names = _names(images, root)
    if names != then.names:
        return _names_difference(then.names, names)
    if isinstance(images, FileImages):
        state = FilesState.of(images)
        other = np.flatnonzero(state.sizes != then.sizes)
        touched = np.flatnonzero((state.times != then.times) & (state.sizes == then.sizes))
        if len(touched) > READ_AGAIN:
            touched = touched[np.linspace(0, len(touched) - 1, READ_AGAIN).round().astype(np.int64)]
        other = np.sort(np.concatenate([other, [row for row in touched if _content(images, int(row)) != then.contents[row].tobytes()]]))
    else:
        other = np.array([row for row, now in enumerate(_pixel_contents(images)) if now != then.contents[row].tobytes()], dtype=np.int64)
    if len(other):
        changed = [names[int(row)] for row in other]
        return f"{len(changed):,} image{'s have' if len(changed) > 1 else ' has'} other content: {name_some(changed)}"
    rows = _sampled(len(images))
    pairs = zip(rows, _sampled_pixels(images), then.pixels, strict=True)
    decoded = [names[row] for row, now, before in pairs if not np.array_equal(now, before)]
    if decoded:
        return f"{name_some(decoded)} decode to other pixels, though the files are the same: another version of Pillow or of its libraries"
    return None


def _names_difference(then: Sequence[str], now: Sequence[str]) -> str:
    gone, new = Counter(then) - Counter(now), Counter(now) - Counter(then)
    parts = []
    if gone:
        parts.append(f"{gone.total():,} {'is' if gone.total() == 1 else 'are'} gone: {name_some(list(gone))}")
    if new:
        parts.append(f"{new.total():,} {'is' if new.total() == 1 else 'are'} new: {name_some(list(new))}")
    if not parts:
        first = next(row for row, (one, other) in enumerate(zip(then, now, strict=True)) if one != other)
        parts.append(f"they are in another order: image {first} was '{then[first]}' and is '{now[first]}'")
    return "; ".join(parts)


def _names(images: Images, root: Path | None) -> list[str]:
    if not isinstance(images, FileImages):
        names = [images.where(index) for index in range(len(images))]
    else:
        names = [f"{path}:{member}" if member else path for path, member in images.entries.names()]
    start = f"{root}/" if root is not None else ""
    return [name.removeprefix(start) for name in names]


def _content(images: FileImages, index: int) -> bytes:
    try:
        return hashlib.sha256(images.encoded(index)).digest()[:DIGEST_BYTES]
    except BadImageError:
        return b""


def _pixel_contents(images: Images) -> list[bytes]:
    """Hashes of the pixels of images in memory."""
    read = images.pixels if images.pixels is not None else (np.asarray(images.read(row)) for row in range(len(images)))
    return [hashlib.sha256(np.ascontiguousarray(image).data).digest()[:DIGEST_BYTES] for image in read]


def _sampled(count: int) -> list[int]:
    return [int(row) for row in np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).round().astype(np.int64))] if count else []


def _sampled_pixels(images: Images) -> NDArray[np.uint8]:
    hashes = [_pixels_of(images, row) for row in _sampled(len(images))]
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, DIGEST_BYTES)


def _pixels_of(images: Images, index: int) -> bytes:
    try:
        pixels = images.pixels[index] if images.pixels is not None else np.asarray(images.read(index))
    except UserError:
        return bytes(DIGEST_BYTES)  # unlike any image's: what cannot be read now is different
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()[:DIGEST_BYTES]
