"""What the four commands share: version, one-sentence errors, exit statuses, tables of text."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version as distribution_version
from typing import Any, TextIO

import typer

from zoo.errors import UserError, printable_lines

DISTRIBUTION = "backbone-loop"
EXIT_USER_ERROR = 2
# A training that was stopped before its end leaves with this status, so that a job script can queue itself again.
EXIT_STOPPED = 3
# Seconds that a process other than the first waits with a mistake that perhaps all of them have found.
OTHERS_WAIT = 2.0


def make_app(help_text: str, **settings: object) -> typer.Typer:
    """A typer application with the house's settings."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,  # type: ignore[arg-type]
    )


def version_option(command: str) -> Any:
    """The ``--version`` option of ``command``."""

    def show(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{command} ({DISTRIBUTION} {distribution_version(DISTRIBUTION)})")
            raise typer.Exit

    return typer.Option(False, "--version", callback=show, is_eager=True, help="Show the version and leave.")


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Lines of cells, each column as wide as its longest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


class _Plain:
    """A stream that spells out what would steer a terminal: names out of strangers' files are printed everywhere, and may hold anything.

    rich, whose tables and bars steer it themselves, goes by ``rich_proxied_file`` to the stream behind.
    """

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(printable_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """In the block, what is written to standard output and standard error steers no terminal."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Plain(before[0]), _Plain(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def is_main_process() -> bool:
    """Whether this process is the one of its group that speaks (torchrun sets ``RANK``)."""
    return os.environ.get("RANK", "0") == "0"


def run(app: Callable[[], None]) -> None:
    """Run a command: a :class:`UserError` becomes one sentence on standard error and exit status 2."""
    try:
        with plain_output():
            app()
    except UserError as error:
        if is_main_process():
            sys.stderr.write(f"error: {error}\n")
        else:
            # Mostly the first process says the same and ends, and torchrun then ends this one. Where it does not, this one speaks.
            time.sleep(OTHERS_WAIT)
            sys.stderr.write(f"error (process {os.environ['RANK']} of {os.environ.get('WORLD_SIZE', '?')}): {error}\n")
        sys.stderr.flush()
        sys.exit(EXIT_USER_ERROR)
    except BrokenPipeError:
        # The reader (`| head`) went away: point stdout elsewhere so that the interpreter's flush does not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
