"""Ranges of settings: each is declared beside its setting, once, and checked by one function. Imports no torch."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from zoo.errors import UserError


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be. It is declared as ``Annotated[int, Range(1)]``; for a list it holds for each number in it.

    Attributes
    ----------
    least, most
        Its ends. Infinite ends belong to no range: no setting is infinite, and none is NaN.
    above, below
        Whether ``least``, or ``most``, is itself left out.
    """

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -math.inf < value < math.inf:
            return False
        low = value > self.least if self.above else value >= self.least
        return low and (value < self.most if self.below else value <= self.most)

    def __str__(self) -> str:
        if self.least == self.most:
            return _short(self.least)
        low = "" if self.least == -math.inf else f"{'above' if self.above else 'at least'} {_short(self.least)}"
        high = "" if self.most == math.inf else f"{'below' if self.below else 'at most'} {_short(self.most)}"
        return " and ".join(part for part in (low, high) if part) or "a finite number"

    def check(self, name: str, value: Any) -> None:
        """Raise UserError, which shows the range, for a value of the setting ``name`` outside it.

        None (a setting that is left out) and words (such as ``auto``) are no numbers, and pass; a list passes with all its members.
        """
        if value is None or isinstance(value, str):
            return
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if number not in self:
                raise UserError(f"{name} must be {self}, not {number}")


POSITIVE = Range(0, above=True)
SHARE = Range(0, 1)
# Of random draws: torch's and NumPy's generators take any of these.
SEED = Range(0, 2**63 - 1)
# Side of images that a network gets, in pixels.
SIDE = Range(1, 8192)
WORKERS = Range(0, 1024)
# Epsilon of layer norms; padding of a small image's first convolution, in pixels.
NORM_EPS, STEM_PADDING = Range(1e-15, 1e-3), Range(0, 3)
# Images that a network gets at a time.
BATCH_SIZE = Range(1)


def declared_ranges(settings: type[Any], prefix: str = "") -> Iterator[tuple[str, Range]]:
    """``(dotted key, range)`` of every setting of a dataclass that has one, those of nested dataclasses included."""
    hints = get_type_hints(settings, include_extras=True)
    for item in fields(settings):
        found = next(_ranges(hints[item.name]), None)
        if found is not None:
            yield prefix + item.name, found
        elif is_dataclass(hints[item.name]):
            yield from declared_ranges(hints[item.name], f"{prefix}{item.name}.")


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Raise UserError for the first value of a dataclass that lies outside the range declared beside it."""
    for key, within in declared_ranges(type(settings)):
        value = settings
        for part in key.split("."):
            value = getattr(value, part)
        within.check(prefix + key, value)


def _ranges(hint: Any) -> Iterator[Range]:
    if get_origin(hint) is Annotated:
        yield from (extra for extra in get_args(hint)[1:] if isinstance(extra, Range))
    elif get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _ranges(part)


def _short(number: float) -> str:
    return f"{number:g}" if abs(number) < 1e6 else f"{int(number)}"
