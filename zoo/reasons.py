"""The one line of a foreign error that a sentence to the user can quote."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of the error's text, or its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def root_cause(error: BaseException) -> str:
    """:func:`first_line` of the error that started the chain which ``error`` ends."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return first_line(error)
