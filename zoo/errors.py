"""The one exception for what a user can mend."""

from __future__ import annotations


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
