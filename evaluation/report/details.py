"""Reading a result's ``details``: tables that depend on the task, and that a file may hold in any form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from zoo.results import Result


def table(result: Result, *names: str) -> Mapping[str, Any]:
    """The object at ``details[names[0]][names[1]]...``; empty where there is none."""
    value: Any = result.details
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def numbers(value: Any, length: int | None = None) -> list[float] | None:
    """A list of finite numbers, of this length where one is given; else None."""
    if not isinstance(value, list) or not value or (length is not None and len(value) != length):
        return None
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in value):
        return None
    return [float(one) for one in value]


def positions(value: Any, below: int) -> list[int] | None:
    """A list of whole numbers from 0 on and below a limit; else None."""
    if not isinstance(value, list) or not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < below for one in value):
        return None
    return list(value)


def texts(value: Any) -> list[str] | None:
    """A list of texts; else None."""
    return list(value) if isinstance(value, list) and value and all(isinstance(one, str) for one in value) else None
