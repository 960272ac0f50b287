"""``wds:SHARDS``: WebDataset tar shards on disk."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from zoo.data.base import Data, FileImages, Images, Level, Role
from zoo.data.files import composed, is_folder, scan_folder
from zoo.data.hierarchy import read_groupings
from zoo.data.images import reading_of
from zoo.data.levels import Grouping, checked_labels, make_levels
from zoo.data.memory import common_side, hold_if_small
from zoo.data.outside import read_lines
from zoo.data.own.split_names import TEST_SPLITS, TRAIN, split_of
from zoo.data.scan import OnBad
from zoo.data.shards.samples import Sample, index_shard
from zoo.data.spec import DataSpec
from zoo.errors import UserError
from zoo.reading.outside import read_json, shown

NAME = "wds"
CLASS_FILES = ("classes.txt", "classes.json")
# A label beyond this is damage, not a class: each class costs a name.
MAX_CLASSES = 1_000_000
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def open_wds(spec: DataSpec, shards: str, on_bad: OnBad = "refuse") -> Data:
    """WebDataset shards.

    Parameters
    ----------
    shards
        A folder (its ``*.tar`` and those in its subfolders ``train``, ``val``, ``validation``, ``test``), or a path with brace ranges
        (``train-{0000..0009}.tar``), alternatives (``{train,val}-*.tar``) or wildcards. A shard belongs to the split that is a
        word of its name (``imagenet1k-validation-00.tar``) or the name of its folder; shards without such a word are all for training.

    Returns ------- Data with the roles train and test only where samples have labels (:func:`zoo.data.shards.samples.index_shard`). Class
    names are the numbers, or those of ``classes.txt`` (one a line) or ``classes.json`` (a list, or number -> name) beside the shards. Small
    images are held in memory as for ``folder:``.

    Raises
    ------
    UserError
        No such shards, a damaged one, none for training, samples with and without labels in one split, labels out of range.
    """
    paths = find_shards(shards)
    by_split = _by_split(paths)
    root = _root(shards, paths)
    reading = reading_of(spec)
    held: dict[str, Images] = {}
    classes: tuple[str, ...] = ()
    groupings: tuple[Grouping, ...] = ()
    decisions: list[str] = []
    first = 0
    for split, chosen in by_split.items():
        samples = [sample for path in chosen for sample in index_shard(path)]
        labels = _labels(split, samples)
        if split == TRAIN and labels is not None:
            names = _class_names(root)
            first = _first_label(labels, names)
            if first:
                decisions.append(f"training labels are {first} to {max(labels)}, and none is 0: they count from 1")
            classes = _classes(max(labels) + 1 - first, first) if names is None else names
            groupings = read_groupings(root, classes)
        levels: dict[str, Level] = {}
        if labels is not None and classes:
            counted = [label - first for label in labels]
            where = f"the {split} split{' (labels less one)' if first else ''}"
            levels = make_levels(checked_labels(counted, len(labels), len(classes), where), classes, groupings)
        held[split] = hold_if_small(FileImages(NAME, split, (sample.entry for sample in samples), levels, reading=reading), on_bad)
    return Data(
        str(spec),
        NAME,
        splits={split: partial(held.__getitem__, split) for split in held},
        roles=_roles(held),
        image_size=common_side(*held.values()),
        root=root,
        decisions=tuple(decisions),
    )


def find_shards(shards: str) -> list[str]:
    """Paths of the shards that a text means. Raises UserError where a named one is missing or a pattern finds none."""
    if os.path.isdir(shards):
        folders = [shards, *(entry.path for entry in scan_folder(shards) if is_folder(entry) and split_of(entry.name) is not None)]
        found = [entry.path for folder in folders for entry in scan_folder(folder) if entry.name.endswith(".tar")]
        if not found:
            raise UserError(f"folder {shards} has no shards (*.tar), nor have subfolders train, val or test in it")
        return found
    paths: list[str] = []
    for pattern in expand_braces(shards):
        wild = glob.has_magic(pattern) and not os.path.exists(pattern)
        matches = sorted(glob.glob(pattern)) if wild else [pattern]
        missing = [path for path in matches if not os.path.isfile(path)]
        if missing or not matches:
            raise UserError(f"shard {missing[0] if missing else pattern} does not exist")
        paths.extend(matches)
    if not paths:
        raise UserError(f"the shards '{shards}' are an empty range")
    return list(dict.fromkeys(paths))


def expand_braces(text: str) -> list[str]:
    """Brace expansion as in a shell: ``a{00..02}`` gives a00, a01, a02; ``{a,b{1..2}}`` gives a, b1, b2."""
    start = text.find("{")
    if start < 0:
        return [text]
    depth, commas = 0, [start]
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            break
        if depth == 1 and text[position] == ",":
            commas.append(position)
    else:
        raise UserError(f"the shards '{text}' have a brace that is not closed")
    inner = text[start + 1 : position]
    span = _RANGE.fullmatch(inner)
    if span is not None:
        first, last = span.groups()
        width = len(first) if first.startswith("0") else 0
        parts = [str(number).zfill(width) for number in range(int(first), int(last) + 1)]
    else:
        parts = [text[left + 1 : right] for left, right in zip(commas, [*commas[1:], position], strict=True)]
    tails = expand_braces(text[position + 1 :])
    return [text[:start] + middle + tail for part in parts for middle in expand_braces(part) for tail in tails]


def _by_split(paths: list[str]) -> dict[str, list[str]]:
    """Split -> its shards, the training split first."""
    by_split: dict[str | None, list[str]] = {}
    for path in paths:
        by_split.setdefault(_split_of(path), []).append(path)
    unnamed = by_split.pop(None, [])
    if unnamed and by_split:
        raise UserError(f"shard {unnamed[0]} is not said to be of train, val or test, as others are; rename it or leave it out")
    if not unnamed and TRAIN not in by_split:
        raise UserError(f"there are no shards to train on, only {', '.join(str(split) for split in by_split)}, as in {paths[0]}")
    return {TRAIN: unnamed or by_split[TRAIN], **{split: by_split[split] for split in TEST_SPLITS if split in by_split}}


def _split_of(path: str) -> str | None:
    folder, base = os.path.split(path)
    words = [*re.findall("[a-z]+", base.lower()), os.path.basename(folder)]
    return next((split for word in words if (split := split_of(word)) is not None), None)


def _root(shards: str, paths: list[str]) -> Path:
    """The folder where class names and levels are looked for."""
    return Path(shards if os.path.isdir(shards) else os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths]))


def _labels(split: str, samples: list[Sample]) -> list[int] | None:
    """The samples' labels, or None where none has one."""
    if not samples:
        raise UserError(f"the {split} shards hold no images")
    unlabelled = [sample.entry for sample in samples if sample.label is None]
    if unlabelled and len(unlabelled) < len(samples):
        raise UserError(f"shard {unlabelled[0].path}: '{unlabelled[0].member}' has no label, but other {split} samples have one")
    return None if unlabelled else [sample.label for sample in samples if sample.label is not None]


def _first_label(labels: list[int], names: tuple[str, ...] | None) -> int:
    """0, or 1 where labels plainly count from 1: each number from 1 on is there, 0 is not, and there are names for no more."""
    found = set(labels)
    return int(min(found) == 1 and len(found) == max(found) and (names is None or len(names) == max(found)))


def _classes(count: int, first: int) -> tuple[str, ...]:
    """The numbers from ``first`` on."""
    if count > MAX_CLASSES:
        raise UserError(f"the {TRAIN} shards have the label {count - 1 + first}, but labels must be below {MAX_CLASSES}")
    return tuple(str(number + first) for number in range(count))


def _class_names(root: Path) -> tuple[str, ...] | None:
    """Names from a file in ``root``; None where there is none."""
    path = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    if path is None:
        return None
    if path.suffix == ".txt":
        names = [line for _, line in read_lines(path)]
    else:
        form = '["NAME", ...] or {"0": "NAME", "1": "NAME", ...}'
        content: Any = read_json(path, list[str] | dict[str, str], form)  # type: ignore[arg-type]
        if isinstance(content, dict):
            missing = next((number for number in range(len(content)) if str(number) not in content), None)
            if missing is not None:
                raise UserError(f"{path} names {len(content)} classes, but none has the number {missing}; it must have the form {form}")
            names = [content[str(number)] for number in range(len(content))]
        else:
            names = content
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise UserError(f"{path} must name each class once, and '{shown(twice)}' stands there twice")
    return tuple(map(composed, names))


def _roles(held: dict[str, Images]) -> dict[Role, str]:
    roles: dict[Role, str] = {"pretrain": TRAIN}
    if held[TRAIN].levels:
        roles["train"] = TRAIN
        test = next((split for split in TEST_SPLITS if split in held and held[split].levels), None)
        if test is not None:
            roles["test"] = test
    return roles
