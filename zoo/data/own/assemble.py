"""A data set out of a user's splits: which plays which role, what is held out, what is held in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zoo.data.base import Data, FileImages, Images, Role, UnusedFile
from zoo.data.memory import common_side, hold_if_small
from zoo.data.own.holdout import hold_out, holdout_of
from zoo.data.own.split_names import TEST, TEST_SPLITS, TRAIN
from zoo.data.scan import OnBad
from zoo.data.spec import DataSpec
from zoo.errors import UserError

# A set without splits.
ALL = "all"


@dataclass(frozen=True)
class Parts:
    """What a layout gives.

    Attributes
    ----------
    splits
        Name -> a function that lists it, the one to pre-train on first. A split that no role needs is listed when it is asked for, so that
        what is wrong with it is in nobody's way.
    decisions
        What was decided, for a reader.
    advice
        What to do where labelled images are asked for and there are none.
    """

    splits: Mapping[str, Callable[[], FileImages]]
    decisions: tuple[str, ...] = ()
    advice: str = ""


def assemble(spec: DataSpec, name: str, parts: Parts, *, root: Path | None, on_bad: OnBad, unused: Sequence[UnusedFile] = ()) -> Data:
    """The data set of a user's splits.

    Raises
    ------
    UserError
        ``holdout=`` beside a test split, or without labels; and what listing a split raises.
    """
    first = next(iter(parts.splits))
    test = next((split for split in TEST_SPLITS if split in parts.splits), None)
    listed: dict[str, FileImages] = {first: parts.splits[first]()}
    decisions = list(parts.decisions)
    has_labels = bool(listed[first].levels) or listed[first].multilabel is not None
    roles: dict[Role, str] = {"pretrain": first}
    share = holdout_of(spec)
    if share is not None:
        if test is not None:
            raise UserError(f"data '{spec}' has a split to test on, '{test}', so nothing is held out; leave holdout= out")
        if not has_labels:
            raise UserError(f"data '{spec}' has no labels, so nothing is held out; leave holdout= out")
        held_out = hold_out(listed[first], share)
        listed = {TRAIN: held_out.train, TEST: held_out.test}
        roles, test = {"pretrain": TRAIN}, TEST
        decisions.append(held_out.decision)
    elif test is not None and has_labels:
        listed[test] = parts.splits[test]()
    if has_labels:
        roles["train"] = roles["pretrain"]
        if test is not None:
            roles["test"] = test
    held: dict[str, Images] = {split: hold_if_small(images, on_bad) for split, images in listed.items()}
    splits: dict[str, Callable[[], Images]] = {split: partial(held.__getitem__, split) for split in held}
    for split, listing in parts.splits.items():
        if split not in splits and share is None:
            splits[split] = partial(_later, listing, on_bad)
    return Data(
        str(spec),
        name,
        splits=splits,
        roles=roles,
        image_size=common_side(*held.values()),
        root=root,
        unused=tuple(dict.fromkeys(unused)),
        decisions=tuple(decisions),
        advice=parts.advice,
    )


def _later(listing: Callable[[], FileImages], on_bad: OnBad) -> Images:
    return hold_if_small(listing(), on_bad)
