"""Tables of text that stay readable on a narrow terminal, and the two options of every command that prints one."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the rows alone: no headings, no notes, no progress.")]
# In blocks, what stands below a row's first cell.
_INDENT = "  "
_NARROWEST = 20


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Lines of cells, each column as wide as its longest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def table(heading: Sequence[str], rows: Iterable[Sequence[str]], *, quiet: bool = False, width: int | None = None) -> str:
    """Rows under a heading, in columns; where they are wider than the terminal, a block of lines for each row.

    Parameters
    ----------
    heading
        A name for each column.
    quiet
        The rows alone, one a line, however wide: for programs.
    width
        Of the terminal; None: as :func:`terminal_width` finds it.
    """
    rows = list(rows)
    if quiet:
        return columns(rows)
    text = columns([heading, *rows])
    width = terminal_width() if width is None else width
    return text if _fits(text, width) else "\n".join(_block(heading, row, width or _NARROWEST) for row in rows)


def facts(pairs: Iterable[tuple[str, str]], *, width: int | None = None) -> str:
    """Names and what is said of them, a line each; on a terminal, what is longer goes on below its beginning, or below its name."""
    pairs = list(pairs)
    text = columns(pairs)
    width = terminal_width() if width is None else width
    if _fits(text, width):
        return text
    longest = max(len(name) for name, _ in pairs)
    if width is not None and longest + 2 + _NARROWEST > width:
        return "\n".join(f"{name}\n{_wrapped(value, _INDENT, _INDENT, width)}" for name, value in pairs)
    return "\n".join(_wrapped(value, f"{name:<{longest}}  ", " " * (longest + 2), width or _NARROWEST) for name, value in pairs)


def terminal_width() -> int | None:
    """Columns of the terminal that standard output goes to, or that ``COLUMNS`` names; None for a file or a pipe, which have no edge."""
    named = os.environ.get("COLUMNS", "")
    if named.isascii() and named.isdecimal() and int(named) > 0:
        return int(named)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None
    except (OSError, ValueError):
        return None


def _fits(text: str, width: int | None) -> bool:
    return width is None or all(len(line) <= width for line in text.splitlines())


def _block(heading: Sequence[str], row: Sequence[str], width: int) -> str:
    longest = max((len(name) for name in heading[1:]), default=0)
    lines = [_wrapped(row[0], "", _INDENT, width)]
    for name, cell in zip(heading[1:], row[1:], strict=True):
        if cell:
            start = f"{_INDENT}{name:<{longest}}  "
            lines.append(_wrapped(cell, start, " " * len(start), width))
    return "\n".join(lines)


def _wrapped(text: str, first: str, others: str, width: int) -> str:
    """``text`` in lines of at most ``width``; a path or a hash stays whole, so that it can be copied."""
    lines = textwrap.wrap(
        text,
        max(width, len(others) + _NARROWEST),
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines) if lines else first.rstrip()
