"""``wds:SHARDS``: WebDataset tar shards on disk."""

from __future__ import annotations

import glob
import json
import os
import re
from functools import partial
from pathlib import Path

from zoo.data.base import Data, FileImages, Images, Level, Role
from zoo.data.files import scan_folder
from zoo.data.hierarchy import read_groupings
from zoo.data.images import reading_of
from zoo.data.levels import Grouping, checked_labels, make_levels
from zoo.data.memory import common_side, hold_if_small
from zoo.data.scan import OnBad
from zoo.data.sets.shards import Sample, index_shard
from zoo.data.spec import DataSpec
from zoo.errors import UserError

NAME = "wds"
TRAIN = "train"
# Words in a shard's name, or its folder's, that say which split it belongs to.
SPLIT_WORDS = {"train": TRAIN, "val": "val", "validation": "val", "test": "test"}
TEST_SPLITS = ("val", "test")
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

    Returns ------- Data with the roles train and test only where samples have labels (:func:`zoo.data.sets.shards.index_shard`). Class
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
    for split, chosen in by_split.items():
        samples = [sample for path in chosen for sample in index_shard(path)]
        labels = _labels(split, samples)
        if split == TRAIN and labels is not None:
            classes = _class_names(root, max(labels) + 1)
            groupings = read_groupings(root, classes)
        levels: dict[str, Level] = {}
        if labels is not None and classes:
            levels = make_levels(checked_labels(labels, len(labels), len(classes), f"the {split} split"), classes, groupings)
        held[split] = hold_if_small(FileImages(NAME, split, (sample.entry for sample in samples), levels, reading=reading), on_bad)
    return Data(
        str(spec),
        NAME,
        splits={split: partial(held.__getitem__, split) for split in held},
        roles=_roles(held),
        image_size=common_side(*held.values()),
        root=root,
    )


def find_shards(shards: str) -> list[str]:
    """Paths of the shards that a text means. Raises UserError where a named one is missing or a pattern finds none."""
    if os.path.isdir(shards):
        folders = [shards, *(entry.path for entry in scan_folder(shards) if entry.is_dir() and entry.name in SPLIT_WORDS)]
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
    words = [*re.findall("[a-z]+", base.lower()), os.path.basename(folder).lower()]
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


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


def _class_names(root: Path, count: int) -> tuple[str, ...]:
    """Names from a file in ``root``, else the numbers below ``count``."""
    if count > MAX_CLASSES:
        raise UserError(f"the {TRAIN} shards have the label {count - 1}, but labels must be below {MAX_CLASSES}")
    path = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    if path is None:
        return tuple(str(number) for number in range(count))
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".txt":
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        try:
            content = json.loads(text)
            names = [content[str(number)] for number in range(len(content))] if isinstance(content, dict) else list(content)
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path} must be a list of class names, or an object {{"0": NAME, "1": NAME, ...}}') from error
    if len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} must name each class once")
    return tuple(names)


def _roles(held: dict[str, Images]) -> dict[Role, str]:
    roles: dict[Role, str] = {"pretrain": TRAIN}
    if held[TRAIN].levels:
        roles["train"] = TRAIN
        test = next((split for split in TEST_SPLITS if split in held and held[split].levels), None)
        if test is not None:
            roles["test"] = test
    return roles
