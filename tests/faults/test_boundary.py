"""The one boundary of the commands: whatever is raised becomes one sentence and exit status 2, and --debug shows the trace."""

from __future__ import annotations

import datetime
import errno
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from commands import APPS, subcommands

import evaluation.commands.cli
import evaluation.commands.verify_command
import pretrain.cli
import transfer.cli
import zoo.commands.cli
import zoo.commands.data
from zoo.console import make_app, run, when_memory_runs_out
from zoo.errors import UserError, first_line


def fail_of_recursion() -> None:
    fail_of_recursion()


def fail_of_a_full_device() -> None:
    with open("/dev/full", "wb") as file:
        file.write(b"x")


def fail_of_lost_processes() -> None:
    torch.distributed.TCPStore("127.0.0.1", 1, timeout=datetime.timedelta(seconds=1))


def fail_in_a_loader() -> None:
    list(torch.utils.data.DataLoader(Bad(), num_workers=1))


class Bad(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise OSError(errno.EIO, "Input/output error", "/data/image.png")


def status_of(function: Callable[[], object], *words: str) -> int:
    """Exit status of a command that does what ``function`` does."""
    app = make_app("")

    @app.command()
    @when_memory_runs_out("lower --batch-size")
    def command() -> None:
        function()

    before, sys.argv = sys.argv, ["command", *words]
    try:
        with pytest.raises(SystemExit) as leaving:
            run(app)
    finally:
        sys.argv = before
    return int(leaving.value.code or 0)


FAILURES = [
    (lambda: np.empty(1 << 60, np.uint8), r"there is not enough memory \(Unable to allocate .*\); lower --batch-size"),
    (lambda: torch.empty(1 << 58), r"there is not enough memory \(.*DefaultCPUAllocator.*\); lower --batch-size"),
    (lambda: bytearray(1 << 62), "there is not enough memory; lower --batch-size"),
    (fail_of_recursion, "something that was read is nested too deeply"),
    (lambda: b"\xff".decode("utf-8"), "a text cannot be read or written .*can't decode byte 0xff"),
    (lambda: "\udcff".encode(), r"a text cannot be read or written .*can't encode character '\\udcff'"),
    (lambda: open("/no/such/file"), r"the system refused /no/such/file \(No such file or directory\)"),  # noqa: SIM115 (it fails)
    (lambda: Path("/proc/version").unlink(), r"the system refused /proc/version \(.*\); use a place that you may write to"),
    (fail_of_a_full_device, r"the system refused to read or write \(No space left on device\); free some space, and run the command again"),
    (lambda: torch.save(torch.zeros(1 << 16), "/dev/full"), r"No space left|did not take all of it"),
    (fail_of_lost_processes, "the other processes of this group cannot be reached any more"),
    (fail_in_a_loader, "Input/output error: '/data/image.png'"),
]


@pytest.mark.parametrize(("function", "sentence"), FAILURES)
def test_errors_of_the_machine_are_one_sentence(
    function: Callable[[], object], sentence: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "FATAL")
    assert status_of(function) == 2
    captured = capfd.readouterr()
    # torch's own logger speaks of lost processes before.
    assert "Traceback" not in captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert re.search(sentence, line), line
    assert captured.out == ""


def test_a_mistake_of_ours_says_that_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(lambda: {}["missing"]) == 2  # type: ignore[var-annotated]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: this is a mistake of backbone-loop, not yours (KeyError: 'missing'); run the command again with --debug, and report what "
        "it shows to the makers of backbone-loop"
    )


def test_debug_shows_the_trace_and_then_the_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(fail_of_a_full_device, "--debug") == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "Traceback (most recent call last):"
    assert any("in fail_of_a_full_device" in line for line in shown)
    assert shown[-1].startswith("error: the system refused")
    # It holds for one call.
    assert status_of(fail_of_a_full_device) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [["--debug", "list", "nothing-like-it"], ["list", "--debug", "nothing-like-it"], ["list", "nothing-like-it", "--debug"]]
)
def test_debug_may_stand_anywhere(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["zoo", *words])
    with pytest.raises(SystemExit, match="2"):
        zoo.commands.cli.main()
    shown = capsys.readouterr().err.splitlines()
    assert (shown[0], shown[-1]) == (
        "Traceback (most recent call last):",
        "error: the catalogue has no model like 'nothing-like-it'; `zoo list` shows them all",
    )


@pytest.mark.parametrize("name", APPS)
def test_every_command_has_debug(name: str) -> None:
    for command in [typer.main.get_command(APPS[name]), *subcommands(name)]:
        assert "--debug" in [flag for parameter in command.params for flag in parameter.opts], command.name


def test_a_sentence_with_a_name_that_is_not_utf8_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        typer.echo("\udcff.png", err=True)
        raise UserError("bad name \udcff.png")

    assert status_of(refuse) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: bad name \\udcff.png"


def test_the_line_of_an_error_that_a_loader_handed_over() -> None:
    with pytest.raises(OSError, match="Original Traceback") as caught:
        fail_in_a_loader()
    assert first_line(caught.value) == "OSError: [Errno 5] Input/output error: '/data/image.png'"


def test_out_of_memory_names_each_commands_own_option() -> None:
    advice = {
        evaluation.commands.cli.evaluate: "lower --batch-size or --image-size",
        pretrain.cli.pretrain: "set a smaller batch=N, or micro_batch=N, which keeps the batch and passes it in parts",
        transfer.cli.detect_command: "set a smaller SOLVER.IMS_PER_BATCH, or smaller images by INPUT.MIN_SIZE_TRAIN",
        transfer.cli.compare_command: "set a smaller SOLVER.IMS_PER_BATCH, or smaller images by INPUT.MIN_SIZE_TRAIN",
        evaluation.commands.verify_command.verify: "lower --batch-size",
        zoo.commands.data.data: "lower --workers",
    }
    assert {function: function.less_memory for function in advice} == advice  # type: ignore[attr-defined]
