"""Commands as they are typed, in this process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

import evaluation.commands.cli
import pretrain.cli
import transfer.cli
import zoo.commands.cli

APPS = {
    "zoo": zoo.commands.cli.app,
    "evaluate": evaluation.commands.cli.app,
    "pretrain": pretrain.cli.app,
    "transfer": transfer.cli.app,
}
MAINS = {
    "zoo": zoo.commands.cli.main,
    "evaluate": evaluation.commands.cli.main,
    "pretrain": pretrain.cli.main,
    "transfer": transfer.cli.main,
}
MODULES = {"zoo": "zoo", "evaluate": "evaluation", "pretrain": "pretrain", "transfer": "transfer"}


def subcommands(name: str) -> list[Any]:
    """The commands that a name stands for: itself, or its subcommands, those of other packages too."""
    command = typer.main.get_command(APPS[name])
    if not hasattr(command, "list_commands"):
        return [command]
    context = command.make_context(name, ["x"], resilient_parsing=True)
    return [command.get_command(context, one) for one in command.list_commands(context)]


def kind(parameter: Any) -> str:
    """What an option of a command takes, in words; typer has kept it under two names."""
    return str(getattr(parameter, "type_descriptor", None) or parameter.type)


def typed(words: Sequence[object]) -> int:
    """Exit status of a command in this process."""
    before, sys.argv = sys.argv, [str(word) for word in words]
    try:
        MAINS[str(words[0])]()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    finally:
        sys.argv = before
    return 0


def refusal(capsys: pytest.CaptureFixture[str], words: Sequence[object]) -> str:
    """The sentence with which a command in this process refuses."""
    assert typed(words) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert captured.err.rstrip().endswith(line)
    return line.removeprefix("error: ")


def started(words: Sequence[object], *, wrapper: Sequence[str] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [*wrapper, sys.executable, "-m", MODULES[str(words[0])], *map(str, words[1:])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    root = Path(__file__).parent.parent.parent
    return subprocess.run(command, capture_output=True, text=True, env={**environment, "PYTHONPATH": str(root)}, timeout=300)
