"""What the four commands share: version, ``--debug``, one-sentence errors, exit statuses; tables and words in the modules beside this."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version as distribution_version
from typing import Annotated, Any, TextIO, TypeVar, get_args

import typer
from typer.models import OptionInfo

from zoo.errors import LESS_MEMORY, as_user_error, first_line, printable, printable_lines
from zoo.lazy import DISTRIBUTION
from zoo.ranges import Range

EXIT_USER_ERROR = 2
# A training that was stopped before its end leaves with this status, so that a job script can queue itself again.
EXIT_STOPPED = 3
# Seconds that a process other than the first waits with a mistake that perhaps all of them have found.
OTHERS_WAIT = 2.0


DEBUG_FLAG = "--debug"
Function = TypeVar("Function", bound=Callable[..., Any])


class _Debugging:
    """Whether this call of a command shows the stack traces of errors."""

    wanted = False


def show_traces(wanted: bool) -> None:
    """Have :func:`run` show stack traces, once it was wanted."""
    _Debugging.wanted = _Debugging.wanted or wanted


_DEBUG_OPTION = typer.Option(False, DEBUG_FLAG, callback=show_traces, help="Where something goes wrong, show the stack trace too.")


def _at_the_boundary(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command's function with ``--debug`` among its options, out of which errors of the machine come as sentences.

    Options declared with a range, ``Annotated[int, Range(1), typer.Option(...)]``, are held to it, and their help shows it.
    """
    signature = inspect.signature(function, eval_str=True)
    ranges = {name: found for name, parameter in signature.parameters.items() if (found := _range_of(parameter)) is not None}

    @functools.wraps(function)
    def call(*values: Any, debug: bool = False, **options: Any) -> Any:
        try:
            for name, within in ranges.items():
                within.check("--" + name.replace("_", "-"), options.get(name))
            return function(*values, **options)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _reader_went_away():
                _write_to_nobody()
                raise typer.Exit from error
            known = as_user_error(error, getattr(function, _LESS_MEMORY, LESS_MEMORY))
            if known is None or known is error:
                raise
            raise known from error

    shown = [_with_range_in_help(parameter, ranges.get(name)) for name, parameter in signature.parameters.items()]
    added = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=_DEBUG_OPTION, annotation=bool)
    setattr(call, "__signature__", signature.replace(parameters=[*shown, added]))  # noqa: B010 (as functions are typed)
    return call


def _reader_went_away() -> bool:
    """Whether standard output is a pipe that nobody reads any more, as of ``| head``: no mistake, unlike a broken connection."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in watched.poll(0))
    except (AttributeError, OSError, ValueError):  # no poll on this system, or no file behind it
        return False


def _write_to_nobody() -> None:
    """Point standard output elsewhere, so that the interpreter's flush at the end does not complain of a reader that went away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _range_of(parameter: inspect.Parameter) -> Range | None:
    return next((extra for extra in get_args(parameter.annotation)[1:] if isinstance(extra, Range)), None)


def _with_range_in_help(parameter: inspect.Parameter, within: Range | None) -> inspect.Parameter:
    if within is None:
        return parameter
    kind, *extras = get_args(parameter.annotation)
    option = copy.copy(next(extra for extra in extras if isinstance(extra, OptionInfo)))
    option.help = f"{option.help} [{within}]"
    return parameter.replace(annotation=Annotated[kind, option])


class App(typer.Typer):
    """An application whose commands, and the group that they are in, have ``--debug``: it may stand before a subcommand or behind it."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        return self._registering(super().command(name, **settings))

    def callback(self, **settings: Any) -> Callable[[Function], Function]:
        return self._registering(super().callback(**settings))

    @staticmethod
    def _registering(register: Callable[[Any], Any]) -> Callable[[Function], Function]:
        def declare(function: Function) -> Function:
            register(_at_the_boundary(function))
            return function

        return declare


_LESS_MEMORY = "less_memory"


def when_memory_runs_out(advice: str) -> Callable[[Function], Function]:
    """Declare of a command's function what its user should do where memory runs out, such as ``"lower --batch-size"``."""

    def declare(function: Function) -> Function:
        setattr(function, _LESS_MEMORY, advice)
        return function

    return declare


def make_app(help_text: str, **settings: object) -> App:
    """A typer application with the house's settings."""
    return App(
        help=help_text,
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
    """Run a command: the one boundary at which every error becomes one sentence on standard error and exit status 2.

    Those that the user can mend, or that the machine made (:func:`zoo.errors.as_user_error`), say what to do; any other is a mistake of
    this toolkit, and its sentence says so. ``--debug`` shows the stack trace before it.
    """
    _Debugging.wanted = False
    _let_any_name_through()
    try:
        with plain_output():
            app()
    except BrokenPipeError:
        _write_to_nobody()
    except Exception as error:
        _say(error)
        sys.exit(EXIT_USER_ERROR)


def sentence_of(error: BaseException) -> str:
    """What the commands say of an error."""
    known = as_user_error(error)
    if known is not None:
        return str(known)
    return printable(
        f"this is a mistake of {DISTRIBUTION}, not yours ({type(error).__name__}: {first_line(error)}); run the command again with "
        f"{DEBUG_FLAG}, and report what it shows to the makers of {DISTRIBUTION}"
    )


def _say(error: Exception) -> None:
    if _Debugging.wanted:
        traceback.print_exception(error)
    if is_main_process():
        sys.stderr.write(f"error: {sentence_of(error)}\n")
    else:
        # Mostly the first process says the same and ends, and torchrun then ends this one. Where it does not, this one speaks.
        time.sleep(OTHERS_WAIT)
        sys.stderr.write(f"error (process {os.environ['RANK']} of {os.environ.get('WORLD_SIZE', '?')}): {sentence_of(error)}\n")
    sys.stderr.flush()


def _let_any_name_through() -> None:
    """Print what the terminal's encoding lacks, such as names of files that are not UTF-8, as codes rather than fail at it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
