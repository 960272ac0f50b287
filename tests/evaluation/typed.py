"""Commands as they are typed, in this process."""

from __future__ import annotations

import sys

import pytest

import evaluation.commands.cli
import zoo.commands.cli

MAINS = {"evaluate": evaluation.commands.cli.main, "zoo": zoo.commands.cli.main}


def typed(command: str, *words: object) -> int:
    """Exit status of ``evaluate`` or ``zoo`` with these words."""
    before, sys.argv = sys.argv, [command, *map(str, words)]
    try:
        MAINS[command]()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    finally:
        sys.argv = before
    return 0


def run(*words: object) -> int:
    """Exit status of ``evaluate`` with these words."""
    return typed("evaluate", *words)


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line on standard error with which ``evaluate`` refuses."""
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    # What is known of the machine and of the data may be said before a task refuses.
    lines = [line for line in captured.err.splitlines() if not line.startswith(("evaluating on", "data "))]
    assert len(lines) == 1
    assert lines[-1].startswith("error: ")
    return lines[-1].removeprefix("error: ")
