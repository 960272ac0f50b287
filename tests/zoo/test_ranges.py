"""Ranges of settings: what lies in them, what is said of what does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import pytest

from zoo.errors import UserError
from zoo.ranges import SEED, SHARE, Range, check_ranges, declared_ranges


@dataclass
class Inner:
    share: Annotated[float | None, SHARE] = None
    word: str = "any"


@dataclass
class Outer:
    count: Annotated[int | str, Range(1)] = 2
    rates: Annotated[list[float], Range(0, above=True)] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)


def test_the_declared_ranges_of_nested_settings() -> None:
    assert dict(declared_ranges(Outer)) == {"count": Range(1), "rates": Range(0, above=True), "inner.share": SHARE}


@pytest.mark.parametrize(
    ("within", "inside", "outside"),
    [
        (Range(1), [1, 7, 1.5], [0, -3, float("inf"), float("nan"), True, "1", None]),
        (Range(0, 1, above=True), [1e-9, 1], [0, 1.0001]),
        (Range(0, 1, below=True), [0, 0.999], [1, -1e-9]),
        (SEED, [0, 2**63 - 1], [-1, 2**63, 2**70]),
    ],
)
def test_what_lies_in_a_range(within: Range, inside: list[object], outside: list[object]) -> None:
    assert all(value in within for value in inside)
    assert not any(value in within for value in outside)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Outer(count=0), "group.count must be at least 1, not 0"),
        (Outer(rates=[0.1, 0.0]), "group.rates must be above 0, not 0.0"),
        (Outer(rates=[float("nan")]), "group.rates must be above 0, not nan"),
        (Outer(inner=Inner(share=1.5)), "group.inner.share must be at least 0 and at most 1, not 1.5"),
    ],
)
def test_the_message_names_key_range_and_value(settings: Outer, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_ranges(settings, "group.")
    assert str(caught.value) == message


def test_what_is_left_out_and_words_pass() -> None:
    check_ranges(Outer(count="auto", inner=Inner(share=None)))
