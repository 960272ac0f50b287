"""The one exception for what a user can mend, and what its sentence is made of: a line of a foreign error, some of many names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

# Control characters but for tab and line break, and halves of characters that no encoding has.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """A user's mistake: its text is one sentence that says what is wrong, where, and what to do.

    The commands print it without a stack trace and leave with exit status 2 (:func:`zoo.console.run`). Names out of a file may stand in it,
    so what is no printable character (a line break, a terminal's escape code) is spelled out.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def printable(text: str) -> str:
    """``text`` on one line, with a backslash and a code for each character that cannot be printed."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def printable_lines(text: str) -> str:
    """``text`` with its line breaks and tabs, and all else that cannot be printed as :func:`printable` spells it."""
    return text if text.isprintable() else _UNPRINTABLE.sub(lambda found: printable(found[0]), text)


def first_line(error: BaseException) -> str:
    """The first line of the error's text, or its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def root_cause(error: BaseException) -> str:
    """:func:`first_line` of the error that started the chain which ``error`` ends."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return first_line(error)


def did_you_mean(name: str, known: Iterable[str], count: int = 1) -> str:
    """``"; did you mean 'NEAREST'?"``, to append where ``name`` is said to be unknown; empty where none of the known names is near."""
    near = difflib.get_close_matches(name, [*known], count, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(text) for text in near)}?" if near else ""


def some_of(names: Sequence[str], most: int = 4) -> str:
    """The first few of the names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def listed(complaints: Mapping[str, Sequence[str]]) -> str:
    """``"2 missing (a, b); 1 of another shape (c)"``: names by what is wrong with them; empty where there are none."""
    return "; ".join(f"{len(names)} {what} ({some_of(names)})" for what, names in complaints.items() if names)
