"""Names out of strangers' files are printed everywhere; none of them steers the terminal."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console
from rich.table import Table

from zoo.commands.cli import main
from zoo.console import plain_output, run
from zoo.errors import UserError, printable, printable_lines

# Clear the screen, set the title, write to the clipboard, go up a line; the last begins as one byte of an 8-bit code.
HOSTILE = "\x1b[2J \x1b]0;owned\x07 \x1b]52;c;eA==\x07 \x1b[1A \x9b2J \r\b \u202e \u2028"


def test_everything_that_steers_is_spelled_out():
    plain = printable_lines(f"a\tb\n{HOSTILE}\nß 漢 🙂 \xa0")
    assert plain.startswith("a\tb\n\\x1b[2J \\x1b]0;owned\\x07 ")
    assert plain.endswith("\nß 漢 🙂 \xa0")
    assert "\\x9b2J \\r\\x08 \\u202e \\u2028" in plain
    assert not set(plain) & set("\x1b\x07\x9b\r\b\u202e\u2028")
    assert printable_lines("half \ud800") == "half \\ud800"
    assert "\n" not in printable("a\nb")


class Terminal(io.StringIO):
    """Of a stream that is no terminal, click leaves some of this out by itself."""

    def isatty(self) -> bool:
        return True


def test_what_a_run_says_of_itself_is_printed_plainly(make_run, monkeypatch):
    run_folder = make_run()
    recipe = 'backbone: test_resnet\ndata: "x\\e[2Jy"\nmethod: {name: "\\e]0;owned\\a"}\nviews: {size: 32}\n'
    (run_folder / "recipe.yaml").write_text(recipe)
    (run_folder / "environment.json").write_text('{"commit": "\\u001b[31m", "versions": {"torch": "\\u009b2J"}}')
    monkeypatch.setattr(sys, "argv", ["zoo", "info", str(run_folder)])
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "x\\x1b[2Jy, images of 32 px" in screen.getvalue()
    assert "\\x1b]0;owned\\x07\n" in screen.getvalue()
    assert not set(screen.getvalue()) & {"\x1b", "\x07", "\x9b"}


def test_a_sentence_is_one_line_that_steers_nothing(capsys):
    def fail() -> None:
        raise UserError(f"the file '{HOSTILE}\n' is none")

    with pytest.raises(SystemExit):
        run(fail)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "\x1b" not in shown


def test_tables_keep_their_own_colours(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with plain_output():
        table = Table()
        table.add_column("a", style="bold")
        table.add_row("b")
        Console(force_terminal=True, color_system="standard").print(table)
        sys.stdout.writelines(["\x1b[2J\n"])
    assert "\x1b[1m" in stream.getvalue()
    assert stream.getvalue().endswith("\\x1b[2J\n")
    assert sys.stdout is stream
