"""What a data set is here: named splits of images, each image with an index, and labels at any number of levels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.data.entries import EntryTable, FileEntry
from zoo.data.images import AS_STORED, BadImageError, Decoded, Reading
from zoo.data.spec import CLASS_LEVEL as CLASS_LEVEL
from zoo.errors import UserError
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD

Role = Literal["pretrain", "train", "test"]
# A fingerprint reads every image of a split up to this number, else this many, evenly spread.
FINGERPRINT_IMAGES = 2000


@dataclass(frozen=True)
class Level:
    """One level of labels.

    Attributes
    ----------
    labels
        int64 array (N,), values in 0 .. C-1.
    classes
        The C names.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class MultiLabel:
    """Labels of images that may show several classes at once.

    Attributes
    ----------
    values
        int8 array (N, C): 1 where the image shows the class, -1 where it does not, 0 where it only does in a way that is hard to see
        (PASCAL VOC's "difficult").
    classes
        The C names.
    """

    values: NDArray[np.int8]
    classes: tuple[str, ...]


class Images:
    """One split of a data set: a sequence of RGB images.

    Attributes
    ----------
    name, split
        For messages and results, e.g. ``"cifar10"``, ``"test"``.
    levels
        Label levels by name, coarse to fine; empty without labels. The level that accuracy refers to is ``"class"``.
    multilabel
        Labels where an image may have several (PASCAL VOC), else None.
    pixels
        uint8 array (N, H, W, 3) where all images are in memory at one size, else None.
    extras
        Further per-image arrays (N, ...), such as the true ``boxes`` and ``masks`` of `shapes`.
    skipped
        Names (:meth:`where`) of bad images that were left out (:mod:`zoo.data.scan`).
    skipped_reasons
        Why each of them was left out, where that is known: as many as ``skipped``, or none.
    notes
        What is to be known of single images, each with the image's name: those that are nearly black since nothing gives their range. Known
        of images that have been decoded (:mod:`zoo.data.scan`).
    """

    name: str
    split: str
    levels: dict[str, Level]
    multilabel: MultiLabel | None = None
    pixels: NDArray[np.uint8] | None = None
    extras: Mapping[str, NDArray[np.generic]] = MappingProxyType({})
    skipped: tuple[str, ...] = ()
    skipped_reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, index: int) -> Image.Image:
        """Decode image ``index`` to RGB."""
        raise NotImplementedError

    def where(self, index: int) -> str:
        """A name for image ``index`` that a user can find: a path, or a path inside a shard, or a position."""
        raise NotImplementedError

    def subset(self, indices: NDArray[np.int64]) -> Images:
        """The images at ``indices``, in that order, as a split of the same name."""
        raise NotImplementedError

    def thinned(self, count: int) -> Images:
        """At most ``count`` images, evenly spread over the split."""
        if count >= len(self):
            return self
        return self.subset(np.linspace(0, len(self) - 1, count).round().astype(np.int64))

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """int64 array (N,) of the ``"class"`` level, or None."""
        level = self.levels.get(CLASS_LEVEL)
        return None if level is None else level.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the ``"class"`` level; empty without labels."""
        level = self.levels.get(CLASS_LEVEL)
        return () if level is None else level.classes

    def level(self, name: str) -> Level:
        """A label level by name. Raises UserError that lists the levels there are."""
        if name not in self.levels:
            known = ", ".join(self.levels) or "none"
            raise UserError(f"data '{self.name}' ({self.split}) has no label level '{name}'; it has: {known}")
        return self.levels[name]

    def fingerprint(self) -> str:
        """sha256 (hex) over the count, all labels and decoded pixels (an even sample of FINGERPRINT_IMAGES when there are more)."""
        digest = hashlib.sha256(str(len(self)).encode())
        for name, level in sorted(self.levels.items()):
            digest.update(name.encode(errors="surrogateescape"))
            digest.update("\0".join(level.classes).encode(errors="surrogateescape"))
            digest.update(np.ascontiguousarray(level.labels, dtype="<i8").tobytes())
        if self.multilabel is not None:
            digest.update("\0".join(self.multilabel.classes).encode(errors="surrogateescape"))
            digest.update(np.ascontiguousarray(self.multilabel.values).tobytes())
        count = min(len(self), FINGERPRINT_IMAGES)
        for index in np.linspace(0, len(self) - 1, count).round().astype(np.int64):
            image = self.pixels[index] if self.pixels is not None else np.asarray(self.read(int(index)))
            digest.update(str(image.shape).encode())
            digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()


def _take(levels: Mapping[str, Level], indices: NDArray[np.int64]) -> dict[str, Level]:
    return {name: Level(level.labels[indices], level.classes) for name, level in levels.items()}


def _take_several(labels: MultiLabel | None, indices: NDArray[np.int64]) -> MultiLabel | None:
    return None if labels is None else MultiLabel(labels.values[indices], labels.classes)


class ArrayImages(Images):
    """Images of one size, held in memory.

    Parameters
    ----------
    pixels
        uint8 array (N, H, W, 3).
    levels
        Label levels; each has N labels.
    extras
        Further per-image arrays (N, ...), such as ``boxes`` and ``masks`` of `shapes`.
    names
        Name of each image for messages, such as the file it was decoded from; by default its position in the split.
    skipped
        Names of bad images that were left out.
    """

    pixels: NDArray[np.uint8]

    def __init__(
        self,
        name: str,
        split: str,
        pixels: NDArray[np.uint8],
        levels: Mapping[str, Level],
        extras: Mapping[str, NDArray[np.generic]] | None = None,
        names: Sequence[str] | None = None,
        skipped: tuple[str, ...] = (),
        multilabel: MultiLabel | None = None,
    ) -> None:
        if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 (N, H, W, 3), not {pixels.dtype} {pixels.shape}")
        self.name, self.split, self.pixels = name, split, pixels
        self.levels = dict(levels)
        self.extras = dict(extras or {})
        self.names, self.skipped, self.multilabel = names, skipped, multilabel
        self._positions = np.arange(len(pixels))

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def where(self, index: int) -> str:
        return self.names[index] if self.names is not None else f"{self.name} {self.split} #{self._positions[index]}"

    def subset(self, indices: NDArray[np.int64]) -> ArrayImages:
        extras = {name: values[indices] for name, values in self.extras.items()}
        names = None if self.names is None else [self.names[index] for index in indices]
        levels, multilabel = _take(self.levels, indices), _take_several(self.multilabel, indices)
        taken = ArrayImages(self.name, self.split, self.pixels[indices], levels, extras, names, self.skipped, multilabel)
        taken._positions = self._positions[indices]
        taken.notes, taken.skipped_reasons = self.notes, self.skipped_reasons
        return taken


class FileImages(Images):
    """Encoded images on disk, decoded when they are read.

    Attributes
    ----------
    entries
        Where they lie.
    reading
        How they become RGB (:class:`zoo.data.images.Reading`).
    """

    def __init__(
        self,
        name: str,
        split: str,
        entries: Iterable[FileEntry],
        levels: Mapping[str, Level],
        skipped: tuple[str, ...] = (),
        multilabel: MultiLabel | None = None,
        reading: Reading = AS_STORED,
    ) -> None:
        self.name, self.split = name, split
        self.multilabel, self.reading = multilabel, reading
        self.entries = entries if isinstance(entries, EntryTable) else EntryTable(entries)
        self.levels, self.skipped = dict(levels), skipped

    def __len__(self) -> int:
        return len(self.entries)

    def encoded(self, index: int) -> bytes:
        """The bytes of image ``index`` as they are stored. Raises :class:`~zoo.data.images.BadImageError` if they cannot be read."""
        try:
            return self.entries[index].open_bytes()
        except OSError as error:
            raise BadImageError(error.strerror or str(error)) from error

    @contextmanager
    def decoded(self, index: int) -> Iterator[Decoded]:
        """Image ``index`` and what is known of it, for the length of a block (:func:`zoo.data.images.decoded`).

        Raises :class:`~zoo.data.images.BadImageError`.
        """
        with ExitStack() as stack:
            try:
                made = stack.enter_context(self.entries[index].decoded(self.reading))
            except OSError as error:
                raise BadImageError(error.strerror or str(error)) from error
            yield made
            del made  # as there

    def decode(self, index: int) -> Image.Image:
        """As :meth:`read`, for callers that deal with bad images: raises :class:`~zoo.data.images.BadImageError`."""
        with self.decoded(index) as made:
            return made.image

    def read(self, index: int) -> Image.Image:
        try:
            return self.decode(index)
        except BadImageError as error:
            raise UserError(f"image {self.where(index)} cannot be decoded ({error}); mend it, remove it, or skip bad images") from error

    def where(self, index: int) -> str:
        entry = self.entries[index]
        return f"{entry.path}:{entry.member}" if entry.member else entry.path

    def subset(self, indices: NDArray[np.int64]) -> FileImages:
        levels, multilabel = _take(self.levels, indices), _take_several(self.multilabel, indices)
        taken = FileImages(self.name, self.split, self.entries.take(indices), levels, self.skipped, multilabel, self.reading)
        taken.notes, taken.skipped_reasons = self.notes, self.skipped_reasons
        return taken


@dataclass(frozen=True)
class UnusedFile:
    """A file that is an image and is not part of the data: its path, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass
class Data:
    """A named data set: its splits, which of them plays which role, and the statistics its images are normalised with.

    Attributes
    ----------
    spec
        The text it was opened by (:mod:`zoo.data.spec`).
    splits
        Split name -> function that loads it; a split is loaded once, when it is asked for.
    roles
        ``pretrain`` (images to pre-train on), ``train`` (labelled bank or training set), ``test`` -> split name.
    mean, std
        Per-channel statistics of pixels in [0, 1]: the published ones of the set, else ImageNet's.
    image_size
        Side in pixels where all images have one size, else None.
    root
        The folder that it lies in, where it does.
    unused
        Files in it that are images and are not read, each with the reason.
    decisions
        What was decided when it was opened, each as a sentence: which folder is which split, and why.
    advice
        What to do where a role is asked for that no split plays.
    """

    spec: str
    name: str
    splits: dict[str, Callable[[], Images]]
    roles: dict[Role, str]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    image_size: int | None = None
    root: Path | None = None
    unused: tuple[UnusedFile, ...] = ()
    decisions: tuple[str, ...] = ()
    advice: str = ""
    _loaded: dict[str, Images] = field(default_factory=dict, repr=False)

    def split(self, name: str) -> Images:
        """A split by its own name, e.g. ``"unlabeled"``. Raises UserError that lists the splits there are."""
        if name not in self.splits:
            raise UserError(f"data '{self.spec}' has no split '{name}'; it has: {', '.join(self.splits)}")
        if name not in self._loaded:
            self._loaded[name] = self.splits[name]()
        return self._loaded[name]

    def role(self, role: Role) -> Images:
        """The split that plays ``role``. Raises UserError where none does (unlabelled images have no test split)."""
        if role not in self.roles:
            wanted = "images to pre-train on" if role == "pretrain" else f"labelled {role} images"
            advice = f"; {self.advice}" if self.advice else ""
            raise UserError(f"data '{self.spec}' has no {wanted}; its splits: {', '.join(self.splits)}{advice}")
        return self.split(self.roles[role])
