"""Text of strangers in Markdown: shown as it is, whatever it holds. Imports no torch.

What would be markup is written as an HTML entity, which no reader of Markdown takes for markup (CommonMark 0.31, section 2.5), and where
no entity is read, in code, the fence is longer than any in the text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from zoo.errors import printable

# Not escaped: an underscore inside a word, brackets that no link follows; so names, versions and lists stay legible in the file too.
_SPECIAL = re.compile(r"[\\`*<>&|$~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|!(?=\[)")
_BACKSLASHED = re.compile(r"\\([^\w\s])")


class Markdown(str):
    """Text that is Markdown already, and so is not escaped again."""


def plain(text: object) -> str:
    """One line without control characters, unescaped."""
    return printable(" ".join(str(text).split()))


def escaped(text: object) -> Markdown:
    """A text, on one line, as Markdown that shows it."""
    return text if isinstance(text, Markdown) else Markdown(_SPECIAL.sub(lambda sign: f"&#{ord(sign[0])};", plain(text)))


def code(text: object) -> Markdown:
    """A text, on one line, as a span of code; also inside a table."""
    shown = plain(text)
    if not shown:
        return Markdown("")
    fence = "`" * (_longest(shown) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    # Inside a table a backslash takes a bar's meaning before spans of code are looked for; outside one it would be shown.
    return escaped(shown) if "|" in shown else Markdown(f"{fence}{pad}{shown}{pad}{fence}")


def block(text: str, language: str = "") -> Markdown:
    """Lines of code."""
    fence = "`" * max(3, _longest(text) + 1)
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Markdown:
    """A table; cells that are no :class:`Markdown` are escaped."""
    lines = [head, ["---"] * len(head), *(map(escaped, row) for row in rows)]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines))


def unescaped(cell: str) -> str:
    """What a cell of a table shows, for comparing: cards of earlier versions had backslashes where entities stand now."""
    before, now = "", plain(cell)
    while now != before:
        before, now = now, plain(_BACKSLASHED.sub(r"\1", html.unescape(now)))
    return now


def _longest(text: str) -> int:
    """The longest run of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)
