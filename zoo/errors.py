"""The one exception for what a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A user's mistake: its text is one sentence that says what is wrong, where, and what to do.

    The commands print it without a stack trace and leave with exit status 2 (:func:`zoo.console.run`).
    """
