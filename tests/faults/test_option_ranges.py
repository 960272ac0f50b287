"""Numbers on command lines: every option has a range, which its help shows and its value is held to before anything else."""

from __future__ import annotations

import re

import pytest
from commands import APPS, kind, refusal, subcommands

from evaluation.tasks.registry import TASKS

# Lists of numbers that are typed as words; each is refused below.
LISTS = {
    "--k": ("0", "-1", "nan", "1,,2", "1,1", "²"),
    "--c": ("0", "-1", "nan", "inf", "1,,2"),
    "--lr": ("-1", "nan", "inf", "0.1,x"),
    "--holdout": ("1", "-0.1", "nan"),
}
# Words that are no numbers, and have a parser too.
WORDS_ALONE = {"--kmeans-init"}
PRESETS = {"--c": ["--preset", "logreg"]}
WORDS = {
    ("zoo", "import"): ["/none.pth", "--out", "/tmp/none"],
    ("zoo", "data"): ["folder:/none"],
    ("zoo", "pull"): ["nobody/nothing"],
    ("zoo", "push"): ["/none", "nobody/nothing"],
    ("zoo", "predict"): ["/none", "/none"],
    ("zoo", "mirror"): ["resnet50.hcsc_200ep", "nobody"],
    ("zoo", "cache"): [],
    ("zoo", "verify"): ["/none"],
    ("evaluate", "evaluate"): ["--model", "/none", "--data", "folder:/none"],
    ("pretrain", "pretrain"): ["boxes", "/none"],
    ("transfer", "convert"): ["/none", "--to", "timm", "--out", "/tmp/none.safetensors"],
    ("transfer", "detect"): ["small_r18_fpn", "--model", "random", "--data", "voc:/none", "--out", "/tmp/none"],
    ("transfer", "predict"): ["/none", "/none", "--out", "/tmp/none"],
    ("transfer", "compare"): ["small_r18_fpn", "--models", "random", "--data", "voc:/none", "--out", "/tmp/none"],
}


def numbers() -> list[tuple[str, str, str, str]]:
    """Program, command, flag and help of every option that takes a number."""
    return [
        (program, command.name, parameter.opts[0], parameter.help or "")
        for program in APPS
        for command in subcommands(program)
        for parameter in command.params
        if re.search(r"\b(int|float|INT|FLOAT|IntRange|FloatRange)\b", kind(parameter)) and "Path" not in kind(parameter)
    ]


NUMBERS = numbers()


def test_there_are_such_options() -> None:
    assert len(NUMBERS) > 25
    assert {(program, command) for program, command, _, _ in NUMBERS} == WORDS.keys()


@pytest.mark.parametrize(("program", "command", "flag", "text"), NUMBERS, ids=lambda value: value if len(value) < 20 else "")
def test_every_number_has_a_range(program: str, command: str, flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = re.findall(r"\[((?:at least|at most|above|below) [^\]]+)\]", text)
    # Tasks may share an option with ranges of their own; the help shows the first one's.
    task = next(
        (task.name for task in TASKS.values() for option in task.options if option.flag == flag and str(option.within) == shown), None
    )
    extra = ["--task", task] if program == "evaluate" and task else []
    name = [] if program in ("evaluate", "pretrain") else [command]
    for value in ("-1", "-1e9") if "." in shown else ("-1",):
        said = refusal(capsys, [program, *name, *WORDS[program, command], *extra, f"{flag}={value}"])
        assert f"{flag} must be {shown}, not -" in said


@pytest.mark.parametrize("flag", LISTS)
def test_lists_of_numbers_are_held_to_theirs(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    task = next(task for task in TASKS.values() if flag in [option.flag for option in task.options])
    for value in LISTS[flag]:
        said = refusal(capsys, ["evaluate", *WORDS["evaluate", "evaluate"], "--task", task.name, *PRESETS.get(flag, []), f"{flag}={value}"])
        assert said.startswith(f"{flag} "), said


def test_every_option_of_a_task_that_takes_numbers_has_a_range() -> None:
    """Options of words that are lists of numbers have a parser; each must have a range too."""
    for task in TASKS.values():
        for option in task.options:
            if option.kind in (int, float) or (option.kind is str and option.parse is not None and option.flag not in WORDS_ALONE):
                assert option.within is not None, f"{task.name} {option.flag}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seed", "-1"], "--seed must be at least 0 and at most 9223372036854775807, not -1"),
        (["--seed", str(2**70)], f"--seed must be at least 0 and at most 9223372036854775807, not {2**70}"),
        (["--image-size", "100000"], "--image-size must be at least 1 and at most 8192, not 100000"),
        (["--workers", "-1"], "--workers must be at least 0 and at most 1024, not -1"),
        (["--std", "inf,1,1"], "--std"),
        (["--std", "0,1,1"], "--std"),
        (["--std", "nan,1,1"], "--std"),
        (["--mean", "inf,1,1"], "--mean"),
    ],
)
def test_the_values_of_evaluate_that_were_once_accepted(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, ["evaluate", "--model", "pixels", "--data", "digits", *words])
    assert said.startswith(sentence)
