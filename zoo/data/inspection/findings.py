"""What a look at images finds: problems that deserve a hand, and notes that are good to know."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zoo.data.base import Images
from zoo.data.inspection.duplicates import Duplicates, find_duplicates
from zoo.data.inspection.facts import FactTable

# Cases that a finding names; the count says how many there are.
NAMED = 12
# Images with a shorter side have little in them for a network made for photographs.
SMALL_SIDE = 32

_PARENTHESES = re.compile(r"\s*\([^()]*\)")

# What can be found, in the words that JSON uses.
BAD = "bad images"
UNUSED = "files that are not used"
EXACT = "exact duplicates"
OTHER_LABEL = "equal images with different labels"
NEAR = "near duplicates"
OVERLAP = "overlap of splits"
NEAR_OVERLAP = "near overlap of splits"
CLASSES = "classes that differ between splits"
NUMBERED = "classes named by numbers"
ONE_CLASS = "a single class"
UNIFORM = "uniform images"
TURNED = "EXIF orientation"
FRAMES = "pages or frames that are not used"
DARK = "dark images"
SMALL = "small images"


@dataclass(frozen=True)
class Case:
    """One case of a finding: what it is about (two names for a pair of duplicates), and what else there is to say."""

    names: tuple[str, ...]
    detail: str = ""

    def __str__(self) -> str:
        return " = ".join(self.names) + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    kind
        One of this module's words.
    problem
        Whether it deserves a hand (``--strict``); else it is good to know.
    count
        Of images, files or classes.
    splits
        Those it is about.
    text
        A sentence.
    cases
        The first few.
    """

    kind: str
    problem: bool
    count: int
    splits: tuple[str, ...]
    text: str
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True)
class LookedSplit:
    """A split and what a scan says of its images.

    Attributes
    ----------
    images, table
        The split, and a row for each of its images.
    roles
        That it plays.
    """

    images: Images
    table: FactTable
    roles: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.images.split


@dataclass
class _Joined:
    """The good images of all splits, one after another."""

    splits: Sequence[LookedSplit]
    which: NDArray[np.int64] = field(init=False)
    position: NDArray[np.int64] = field(init=False)
    groups: Duplicates = field(init=False)

    def __post_init__(self) -> None:
        good = [np.flatnonzero(~split.table.bad) for split in self.splits]
        self.which = np.repeat(np.arange(len(self.splits)), [len(rows) for rows in good])
        self.position = np.concatenate([np.empty(0, np.int64), *good])
        table = FactTable.join([split.table.take(rows) for split, rows in zip(self.splits, good, strict=True)])
        self.groups = find_duplicates(table.rows["digest"], table.rows["thumbnail"])

    def where(self, index: int) -> str:
        return self.splits[self.which[index]].images.where(int(self.position[index]))

    def label(self, index: int) -> str | None:
        images = self.splits[self.which[index]].images
        return None if images.labels is None else images.classes[images.labels[self.position[index]]]


def image_findings(splits: Sequence[LookedSplit]) -> list[Finding]:
    """All that pixels, bytes and headers of several splits tell, problems first.

    Splits that hold the same images on purpose (a set to pre-train on that includes the training images) are given once only; see
    :func:`overlapping`.
    """
    joined = _Joined(splits)
    found: list[Finding] = []
    for number, split in enumerate(splits):
        found.extend(_of_table(split))
        found.extend(_duplicates_within(joined, number))
    tests = [number for number, split in enumerate(splits) if "test" in split.roles]
    for test in tests:
        for other in range(len(splits)):
            if other != test:
                found.extend(_overlap(joined, other, test))
    return sorted(found, key=lambda finding: not finding.problem)


def class_findings(splits: Sequence[LookedSplit]) -> list[Finding]:
    """What the classes of labelled splits tell: those that are not everywhere, and numbers that are sorted as text."""
    labelled = [split for split in splits if split.images.labels is not None]
    found = []
    for split in labelled:
        classes, labels = split.images.classes, split.images.labels
        assert labels is not None
        lacking = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
        if len(lacking):
            names = tuple(classes[index] for index in lacking)
            text = f"{len(lacking)} of {len(classes)} classes {'has' if len(lacking) == 1 else 'have'} no image in {split.name}"
            found.append(Finding(CLASSES, True, len(lacking), (split.name,), text, tuple(Case((name,)) for name in names[:NAMED])))
    for split in labelled[:1]:
        classes = split.images.classes
        if len(classes) == 1:
            text = f"all images are of one class, '{classes[0]}', so there is nothing to tell apart; is there a folder for each class?"
            found.append(Finding(ONE_CLASS, False, 1, (split.name,), text))
        if sorted_as_text(classes):
            first = ", ".join(classes[:4])
            text = (
                f"class names are numbers and are numbered in the order of text ({first}, ...): class {classes[2]} has number 2; "
                "write them with leading zeros where the number must be the name's"
            )
            found.append(Finding(NUMBERED, False, len(classes), (split.name,), text))
    return found


def sorted_as_text(classes: Sequence[str]) -> bool:
    """Whether all class names are whole numbers and their order is not that of the numbers."""
    if len(classes) < 3 or not all(name.isascii() and name.isdecimal() for name in classes):
        return False
    numbers = [int(name) for name in classes]
    return numbers != sorted(numbers)


def general_reasons(table: FactTable) -> dict[str, int]:
    """Bad images by reason, without what the reason says of a single image in parentheses."""
    counts: Counter[str] = Counter()
    for reason, count in table.counts("reason", table.bad).items():
        counts[general(reason)] += count
    return dict(counts.most_common())


def general(reason: str) -> str:
    """A reason without what it says of a single image in parentheses."""
    return _PARENTHESES.sub("", reason)


def _of_table(split: LookedSplit) -> Iterator[Finding]:
    images, table, name = split.images, split.table, (split.name,)

    def cases(chosen: NDArray[np.bool_], column: str | None = None) -> tuple[Case, ...]:
        rows = [int(row) for row in np.flatnonzero(chosen)[:NAMED]]
        return tuple(Case((images.where(row),), table.word(column, row) if column else "") for row in rows)

    good = ~table.bad
    if table.bad.any():
        reasons = ", ".join(f"{count:,}: {reason}" for reason, count in general_reasons(table).items())
        text = f"{_images(int(table.bad.sum()))} of {name[0]} cannot be read ({reasons})"
        yield Finding(BAD, True, int(table.bad.sum()), name, text, cases(table.bad, "reason"))
    rows = table.rows
    noted = rows["note"] > 0
    if noted.any():
        text = f"{_images(int(noted.sum()))} of {name[0]} may be nearly black: give range=LOW+HIGH in the data's name"
        yield Finding(DARK, True, int(noted.sum()), name, text, cases(noted, "note"))
    lying = good & (rows["orientation"] > 1)
    if lying.any():
        turned = int((lying & rows["turned"]).sum())
        what = "turned as it says" if turned == lying.sum() else "not turned" if not turned else f"{turned:,} turned as it says"
        text = f"an EXIF orientation is given for {_images(int(lying.sum()))} of {name[0]}; {what}"
        yield Finding(TURNED, False, int(lying.sum()), name, text, cases(lying))
    several = good & (rows["frames"] > 1)
    if several.any():
        more = int((rows["frames"][several].astype(np.int64) - 1).sum())
        text = f"{more:,} further pages or frames in {_images(int(several.sum()))} of {name[0]}: only the first is used"
        yield Finding(FRAMES, False, int(several.sum()), name, text, cases(several))
    small = good & (table.seen_sizes.min(axis=1) < SMALL_SIDE) if len(table) else good
    if small.any() and not (small | ~good).all():
        text = f"{_images(int(small.sum()))} of {name[0]} with a side below {SMALL_SIDE} pixels, unlike the others"
        yield Finding(SMALL, False, int(small.sum()), name, text, cases(small))


def _duplicates_within(joined: _Joined, split: int) -> Iterator[Finding]:
    rows = np.flatnonzero(joined.which == split)
    name = joined.splits[split].name
    exact = _groups(joined.groups.exact, rows)
    surplus = sum(len(group) - 1 for group in exact)
    if exact:
        text = f"{name} has {surplus:,} second or further {'copy' if surplus == 1 else 'copies'} of images, byte for byte"
        yield Finding(EXACT, True, surplus, (name,), text, _pairs(joined, exact))
    other = [group for group in exact if len({joined.label(index) for index in group}) > 1]
    if other:
        cases = tuple(_disagreeing(joined, group) for group in other[:NAMED])
        text = f"{_images(len(other))} of {name} in more than one class"
        yield Finding(OTHER_LABEL, True, len(other), (name,), text, cases)
    # Of images that are equal one is enough to be near to others.
    firsts = {group[0] for group in exact}
    same = {index for group in exact for index in group}
    near = [[i for i in group if i not in same or i in firsts] for group in _groups(joined.groups.near, rows)]
    near = [group for group in near if len(group) > 1]
    if near:
        count = sum(len(group) - 1 for group in near)
        text = f"{_images(count)} of {name} that {'is' if count == 1 else 'are'} nearly the same picture as another"
        yield Finding(NEAR, True, count, (name,), text, _pairs(joined, near))
    uniform = rows[joined.groups.uniform[rows]]
    if len(uniform):
        text = f"{_images(len(uniform))} of {name} of nearly one colour"
        yield Finding(UNIFORM, False, len(uniform), (name,), text, tuple(Case((joined.where(index),)) for index in uniform[:NAMED]))


def _overlap(joined: _Joined, train: int, test: int) -> Iterator[Finding]:
    names = joined.splits[train].name, joined.splits[test].name
    done: set[int] = set()
    for kind, groups, how in (
        (OVERLAP, joined.groups.exact, "byte for byte"),
        (NEAR_OVERLAP, joined.groups.near, "as nearly the same picture"),
    ):
        first: dict[int, int] = {}
        for index in np.flatnonzero((joined.which == train) & (groups >= 0)):
            first.setdefault(int(groups[index]), int(index))
        shared = [int(i) for i in np.flatnonzero((joined.which == test) & (groups >= 0)) if int(groups[i]) in first and int(i) not in done]
        done.update(shared)
        if shared:
            cases = tuple(Case((joined.where(first[int(groups[i])]), joined.where(i))) for i in shared[:NAMED])
            text = f"{_images(len(shared))} of {names[1]} {'is' if len(shared) == 1 else 'are'} in {names[0]} too, {how}"
            yield Finding(kind, True, len(shared), names, text, cases)


def _groups(numbers: NDArray[np.int64], rows: NDArray[np.int64]) -> list[list[int]]:
    """The groups of two or more among ``rows``, in the order of their first members."""
    inside = rows[numbers[rows] >= 0]
    sizes = Counter(numbers[inside].tolist())
    found: dict[int, list[int]] = {}
    for index in inside.tolist():
        number = int(numbers[index])
        if sizes[number] > 1:
            found.setdefault(number, []).append(index)
    return list(found.values())


def _pairs(joined: _Joined, groups: list[list[int]]) -> tuple[Case, ...]:
    pairs = [(group[0], other) for group in groups[:NAMED] for other in group[1:]]
    return tuple(Case((joined.where(one), joined.where(other))) for one, other in pairs[:NAMED])


def _disagreeing(joined: _Joined, group: list[int]) -> Case:
    """Two of a group of equal images that have different labels."""
    one = group[0]
    other = next(index for index in group if joined.label(index) != joined.label(one))
    return Case((joined.where(one), joined.where(other)), f"{joined.label(one)} and {joined.label(other)}")


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
