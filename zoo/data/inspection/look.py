"""The look at a whole data set: every split counted, every finding, kept until a file changes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo.data.base import Data, FileImages, Images
from zoo.data.boxes.detection_data import KINDS, open_detection_data
from zoo.data.inspection.boxes import BoxFacts, box_facts, box_findings, guesses_at, images_of, named_splits
from zoo.data.inspection.facts import FORMAT
from zoo.data.inspection.files_state import MISSING, FilesState
from zoo.data.inspection.findings import NAMED, UNUSED, Case, Finding, LookedSplit, class_findings, general, general_reasons, image_findings
from zoo.data.inspection.kept import LOOK_SCHEMA, look_file
from zoo.data.inspection.scan import Scan, scan_images
from zoo.data.memory import left_on_disk
from zoo.data.registry import open_data
from zoo.data.spec import parse_spec
from zoo.errors import UserError
from zoo.files import replace_file
from zoo.reading.outside import read_json

# Lower ends of the bars of the histogram of shorter sides, in pixels.
SIDE_BINS = (0, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
_NONCE_BYTES = 16
# Called with the split's name, the number of its images done, and their total.
SplitProgress = Callable[[str, int, int], None]


class Spread(msgspec.Struct, frozen=True):
    """Least, median and largest of some numbers."""

    least: int
    median: int
    largest: int

    @classmethod
    def of(cls, values: NDArray[np.int64]) -> Spread | None:
        return cls(int(values.min()), int(np.median(values)), int(values.max())) if len(values) else None


class SplitFacts(msgspec.Struct, frozen=True):
    """What a split is made of.

    Attributes
    ----------
    name, roles
        The split, and what it is used for.
    images, bad
        Their number, and how many of them cannot be read; what follows is about the others.
    bytes
        Encoded, together.
    classes
        Images of each class, by name in the order of their numbers; empty without labels. An image of several classes counts in each.
    levels
        Level of labels -> number of its classes.
    formats, modes
        Images of each format (JPEG, ...) and of each of Pillow's modes (RGB, L, ...).
    reasons
        Bad images by reason, what differs between single ones left out.
    width, height, short_side
        In pixels, as the images are used; None where none can be read.
    sides
        Images by shorter side: a bar for each of :data:`SIDE_BINS`.
    orientations
        Images of each EXIF orientation.
    grey
        Images whose pixels are all grey.
    further_frames
        Images with more than one page or frame.
    """

    name: str
    roles: list[str]
    images: int
    bad: int
    bytes: int
    classes: dict[str, int]
    levels: dict[str, int]
    formats: dict[str, int]
    modes: dict[str, int]
    reasons: dict[str, int]
    width: Spread | None
    height: Spread | None
    short_side: Spread | None
    sides: list[int]
    orientations: dict[str, int]
    grey: int
    further_frames: int


class Look(msgspec.Struct, frozen=True):
    """What was seen of a data set.

    Attributes
    ----------
    data, name
        As it was asked for; the set's own name.
    looked
        When, UTC.
    seconds, decoded
        What it cost: time, and images decoded. What was known of a file from before is not looked at again.
    splits
        Each split.
    decisions
        What was decided when it was opened: which folder is which split, and why.
    findings
        Problems first, then notes.
    states
        Of each split, by name: a hash of its files' names, sizes and times (of pixels in memory) and its labels, by which the findings hold
        or not.
    boxes
        Of annotated data (``voc:``, ``coco:``): what each split's boxes and masks are.
    """

    data: str
    name: str
    looked: str
    seconds: float
    decoded: int
    splits: list[SplitFacts]
    decisions: list[str]
    findings: list[Finding]
    states: dict[str, str]
    boxes: list[BoxFacts] = []
    schema: str = LOOK_SCHEMA

    @property
    def problems(self) -> list[Finding]:
        """The findings that deserve a hand."""
        return [finding for finding in self.findings if finding.problem]

    @property
    def notes(self) -> list[Finding]:
        """The findings that are good to know."""
        return [finding for finding in self.findings if not finding.problem]

    def to_json(self) -> str:
        """The text of ``zoo data --json``."""
        # msgspec's own writer and reader of JSON refuse names that are not UTF-8.
        text = json.dumps(msgspec.to_builtins(self), indent=2, ensure_ascii=False) + "\n"
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def look_at(spec: str, progress: SplitProgress | None = None, workers: int | None = None, *, again: bool = False) -> Look:
    """Look at a data set of images: each file once, without any training.

    Parameters
    ----------
    spec
        As :func:`zoo.data.open_data` takes it.
    progress
        Called with (split, images done, images in all).
    workers
        Processes that decode; None: one per core.
    again
        Decode everything, whatever is known from before.

    Raises
    ------
    UserError
        What :func:`zoo.data.open_data` raises. Bad images are findings here.
    """
    began = time.monotonic()
    subject = subject_of(spec)
    known = None if again else kept_look(spec)
    if known is not None and known.states == subject.states and known.decisions == subject.decisions:
        return known
    scans = [scan_images(images, _of_split(progress, images.split), workers, again=again) for images in subject.splits]
    looked = [LookedSplit(scan.images, scan.table, subject.roles.get(scan.images.split, ())) for scan in scans]
    findings = [*subject.findings(), *class_findings(looked), *image_findings(looked)]
    look = Look(
        data=spec,
        name=subject.name,
        looked=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 2),
        decoded=sum(scan.decoded for scan in scans),
        splits=[split_facts(one) for one in looked],
        decisions=subject.decisions,
        findings=sorted(findings, key=lambda finding: not finding.problem),
        states=subject.states,
        boxes=subject.boxes,
    )
    _keep(look, scans)
    return look


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    Attributes
    ----------
    name
        The data set's.
    splits, roles
        Splits of images, and what each is used for.
    decisions
        As :class:`Look` has them.
    states
        Of each split, as it is now.
    boxes
        Facts of annotations, of a set that has them.
    findings
        Called for what is found without a look at any image.
    """

    name: str
    splits: list[Images]
    roles: dict[str, tuple[str, ...]]
    decisions: list[str]
    states: dict[str, str]
    boxes: list[BoxFacts]
    findings: Callable[[], list[Finding]]


def subject_of(spec: str) -> Subject:
    """Open what a look is at, with no image in memory. Raises UserError as :func:`zoo.data.open_data` does."""
    if parse_spec(spec).name in KINDS:
        return _annotated(spec)
    with left_on_disk():
        data = open_data(spec, on_bad="skip")
        splits = looked_splits(data)
    roles = {images.split: roles_of(data, images.split) for images in splits}
    states = {images.split: state_of(images) for images in splits}
    return Subject(data.name, splits, roles, list(data.decisions), states, [], lambda: unused_findings(data))


def _annotated(spec: str) -> Subject:
    root = Path(parse_spec(spec).place).expanduser()
    try:
        data = open_detection_data(spec, looking=True)
    except UserError as error:
        # What the boxes look like may be the reason.
        found = guesses_at(parse_spec(spec).name, root) if root.exists() else []
        if not found:
            raise
        raise UserError(f"{error}; {found[0].text}") from error
    named = named_splits(data)
    splits: list[Images] = [images_of(name, split) for name, split in named.items()]
    roles: dict[str, tuple[str, ...]] = {name: (role,) for name, role in zip(named, ("train", "test"), strict=True)}
    annotations = {name: json.dumps([split.images, data.problems.counts], default=repr) for name, split in named.items()}
    states = {
        images.split: hashlib.sha256(f"{state_of(images)} {annotations[images.split]}".encode(errors="surrogateescape")).hexdigest()
        for images in splits
    }
    facts = [box_facts(name, split, data.classes) for name, split in named.items()]
    return Subject(data.kind, splits, roles, list(data.notes), states, facts, lambda: box_findings(data, root))


def looked_splits(data: Data) -> list[Images]:
    """The splits of a data set that are looked at: those that play a role, and others that share no file with them."""
    named = list(dict.fromkeys(data.roles[role] for role in ("train", "test", "pretrain") if role in data.roles))
    chosen = [data.split(name) for name in named]
    others = [data.split(name) for name in data.splits if name not in named]
    if others:
        seen = {name for images in chosen if isinstance(images, FileImages) for name in images.entries.names()}
        chosen += [images for images in others if isinstance(images, FileImages) and seen.isdisjoint(images.entries.names())]
    # The training images again, in a set to pre-train on that holds more: only what is more would be news.
    first, last = chosen[0], chosen[-1]
    if len(chosen) > 1 and last.split == data.roles.get("pretrain") and len(last) > len(first) and _begins_with(last, first):
        chosen[-1] = last.subset(np.arange(len(first), len(last)))
    return chosen


def roles_of(data: Data, split: str) -> tuple[str, ...]:
    """What a split is used for."""
    return tuple(role for role, name in data.roles.items() if name == split)


def state_of(images: Images) -> str:
    """A hash of a split's files as they are now (of pixels in memory), and of its labels; no file is read."""
    if isinstance(images, FileImages):
        state = FilesState.of(images)
        digest = hashlib.sha256(f"{FORMAT} {images.reading} {state.digest()}".encode())
        if (state.sizes == MISSING).any():
            digest.update(os.urandom(_NONCE_BYTES))  # of what is no file nobody knows whether it has changed
    else:
        digest = hashlib.sha256(str(FORMAT).encode())
        digest.update(b"" if images.pixels is None else np.ascontiguousarray(images.pixels).data)
    if images.multilabel is not None:
        digest.update(json.dumps(images.multilabel.classes).encode())
        digest.update(np.ascontiguousarray(images.multilabel.values).data)
    for name, level in images.levels.items():
        digest.update(json.dumps([name, level.classes]).encode())
        digest.update(np.ascontiguousarray(level.labels, dtype="<i8").tobytes())
    return digest.hexdigest()


def split_facts(split: LookedSplit) -> SplitFacts:
    """The counts of a split."""
    images, table = split.images, split.table
    good = ~table.bad
    sizes = table.seen_sizes[good]
    short = sizes.min(axis=1) if len(sizes) else np.empty(0, np.int64)
    edges = [*SIDE_BINS, np.iinfo(np.int64).max]
    orientations = Counter(table.rows["orientation"][good].tolist())
    labels, classes, counts = images.labels, images.classes, np.empty(0, np.int64)
    if images.multilabel is not None:
        classes, counts = images.multilabel.classes, (images.multilabel.values == 1).sum(axis=0)
    elif labels is not None:
        counts = np.bincount(labels, minlength=len(classes))
    return SplitFacts(
        name=split.name,
        roles=list(split.roles),
        images=len(images),
        bad=int(table.bad.sum()),
        bytes=int(table.rows["bytes"].sum()),
        classes={name: int(count) for name, count in zip(classes, counts, strict=True)},
        levels={name: len(level.classes) for name, level in images.levels.items()},
        formats={name or "in memory": count for name, count in table.counts("format", good).items()},
        modes=table.counts("mode", good),
        reasons=general_reasons(table),
        width=Spread.of(sizes[:, 0]),
        height=Spread.of(sizes[:, 1]),
        short_side=Spread.of(short),
        sides=np.histogram(short, bins=edges)[0].tolist(),
        orientations={str(number): count for number, count in sorted(orientations.items())},
        grey=int(table.rows["grey"].sum()),
        further_frames=int((table.rows["frames"] > 1).sum()),
    )


def unused_findings(data: Data) -> list[Finding]:
    """The files of a data set that are images and are not read."""
    if not data.unused:
        return []
    reasons = Counter(general(one.reason) for one in data.unused)
    count = len(data.unused)
    told = ", ".join(f"{number:,}: {reason}" for reason, number in reasons.most_common(3))
    text = f"{count:,} file{'s hold images and are' if count > 1 else ' holds an image and is'} not used ({told})"
    return [Finding(UNUSED, True, count, (), text, tuple(Case((one.path,), one.reason) for one in data.unused[:NAMED]))]


def kept_look(spec: str) -> Look | None:
    """The last look at a data set, or None; whether its findings still hold is another question (:attr:`Look.states`)."""
    try:
        return read_json(look_file(spec), Look)
    except UserError:
        return None


def _keep(look: Look, scans: Sequence[Scan]) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(json.dumps(msgspec.to_builtins(look)).encode())

    if not any(scan.not_kept for scan in scans):
        try:
            replace_file(look_file(look.data), write)
        except UserError:
            return  # as with facts: the next look takes longer, and nothing else


def _begins_with(images: Images, first: Images) -> bool:
    if images.pixels is not None and first.pixels is not None:
        return np.array_equal(images.pixels[: len(first)], first.pixels)
    return False


def _of_split(progress: SplitProgress | None, split: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None

    def tell(done: int, total: int) -> None:
        progress(split, done, total)

    return tell
