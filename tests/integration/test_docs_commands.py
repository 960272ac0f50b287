"""Commands and printed tables of the documents: every command has words and options that there are; a table on embedded data is printed."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

import evaluation.commands.cli
import pretrain.cli
import transfer.cli
import zoo.commands.cli
from evaluation.tasks.registry import TASKS
from pretrain.methods import METHODS
from pretrain.recipe_files import RECIPES
from pretrain.settings import Recipe
from zoo.catalogue.files import load_catalogue

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
APPS = {
    "evaluate": evaluation.commands.cli.app,
    "pretrain": pretrain.cli.app,
    "transfer": transfer.cli.app,
    "zoo": zoo.commands.cli.app,
}
# What stands for words that are the reader's.
_OPEN = re.compile(r"\$[A-Z]|\.\.\.|…|\[|\]|\||<|>|\{|\}")


def _lines(text: str) -> list[tuple[int, str]]:
    """Commands of indented and fenced blocks; without what stands beside them after three blanks; a quote is closed on the next line."""
    found: list[tuple[int, str]] = []
    fenced, lines = False, text.splitlines()
    for number, line in enumerate(lines, start=1):
        if line.startswith("```"):
            fenced = not fenced
            continue
        words = line.strip().removeprefix("$ ").partition("   ")[0]
        if not (fenced or line.startswith("    ")) or words.split(" ", 1)[0] not in APPS:
            continue
        if words.count("'") % 2 or words.endswith("\\"):
            words = f"{words.removesuffix(chr(92))} {lines[number].strip()}"
        found.append((number, words))
    return found


COMMANDS = [
    pytest.param(words, id=f"{page.name}:{number}")
    for page in PAGES
    for number, words in _lines(page.read_text(encoding="utf-8"))
    if not _OPEN.search(words.partition("#")[0])
]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 80


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_has_words_that_there_are(line: str) -> None:
    words = shlex.split(line, comments=True)
    # Of several commands in a line, the first.
    for end in ("&&", "||", ";", "\\", "2>&1"):
        words = words[: words.index(end)] if end in words else words
    command = typer.main.get_command(APPS[words[0]])
    if "--install-completion" in words:
        # Parsed, it would write into the shell's settings at once.
        assert any("--install-completion" in parameter.opts for parameter in command.params)
        return
    context = command.make_context(words[0], words[1:])
    rest = [*getattr(context, "_protected_args", ()), *context.args]
    if hasattr(command, "resolve_command"):
        name, inner, rest = command.resolve_command(context, rest)
        context = inner.make_context(name, rest, parent=context)
    told = context.params
    if words[0] == "pretrain" and told.get("recipe") and not told["recipe"].isupper() and not told["recipe"].endswith(".yaml"):
        assert told["recipe"] in ("boxes", "prototypes", "runs") or RECIPES.find(told["recipe"])
    for task in ",".join(told.get("task") or ()).split(",") if words[0] == "evaluate" else ():
        assert not task or task in {*TASKS, "all"} or task.isupper(), task


def _spans(text: str) -> list[str]:
    """Code within lines, on one line each; blocks are left out."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith("    "))
    return [" ".join(span.replace("\\|", "|").split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


MENTIONS = [pytest.param(span, id=f"{page.name}: {span[:60]}") for page in PAGES for span in dict.fromkeys(_spans(page.read_text("utf-8")))]


# The page on what is understood names words that are answered, and not done (test_words_that_people_type.py).
_IN_SENTENCES = [
    one
    for one in MENTIONS
    if str(one.values[0]).split(" ", 1)[0] in APPS and " " in str(one.values[0]) and not str(one.id).startswith("commands.md")
]


@pytest.mark.parametrize("span", _IN_SENTENCES)
def test_a_command_in_a_sentence_has_options_that_there_are(span: str) -> None:
    words = span.split()
    command = typer.main.get_command(APPS[words[0]])
    context = command.make_context(words[0], [], resilient_parsing=True)
    if hasattr(command, "get_command") and not words[1].startswith("-"):
        found = command.get_command(context, words[1])
        assert found is not None, f"there is no {words[0]} {words[1]}"
        command = found
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
    for word in words:
        name = re.match(r"\[?(--[a-z-]+)", word)
        assert name is None or name[1] in options, word


@pytest.mark.parametrize("span", [one for one in MENTIONS if re.match(r"[a-z_]+(\.[a-z_]+)+=", str(one.values[0]))])
def test_a_key_in_a_sentence_is_one_of_a_recipe(span: str) -> None:
    for key in re.findall(r"(?:^| )([a-z_]+(?:\.[a-z_]+)+)=", span):
        group, _, name = key.partition(".")
        assert name in _KEYS[group], key


_GROUPS = {name: value for name, value in vars(Recipe()).items() if is_dataclass(value)}
_KEYS = {
    **{name: {inner.name for inner in fields(value)} for name, value in _GROUPS.items()},
    "method": {"name"} | {inner.name for method in METHODS.values() for inner in fields(method.Settings)},
}


def test_the_first_table_of_the_page_on_evaluation_is_what_is_printed() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^    \$ evaluate (--task knn --model pixels .*)$", text, re.MULTILINE)
    done = CliRunner().invoke(APPS["evaluate"], [*shlex.split(line), "--no-cache"], catch_exceptions=False)
    assert done.exit_code == 0, done.output

    def rows(printed: str) -> dict[str, list[float]]:
        lines = [row.strip() for row in printed.splitlines() if row.strip().startswith("│")]
        cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
        return {name: [float(value) for value in values] for name, *values in cells}

    told = rows(text.partition(line)[2].partition("└")[0])
    found = rows(done.output)
    assert told.keys() == found.keys() == {"pixels", "random:resnet18_small:0"}
    assert told["pixels"] == found["pixels"]
    # A network rounds differently on other processors: a neighbour or two of 445.
    assert told["random:resnet18_small:0"] == pytest.approx(found["random:resnet18_small:0"], abs=0.7)


def test_the_rows_of_the_catalogue_are_what_is_printed() -> None:
    text = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8")
    done = CliRunner().invoke(APPS["zoo"], ["list", "hcsc"], catch_exceptions=False)
    printed = [line.split() for line in done.output.splitlines()]
    block = text.partition("$ zoo list hcsc\n")[2].partition("    ...")[0]
    rows = [line.split() for line in block.splitlines() if line.strip()]
    assert len(rows) >= 3
    assert printed[: len(rows)] == rows


def test_the_catalogue_page_names_what_may_not_be_used_commercially() -> None:
    text = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8").replace("\n", " ")
    (told,) = re.findall(r"CC-BY-NC-4.0 \((.*?)\) forbids", text)
    methods = {entry.method for entry in load_catalogue().values() if entry.licence == "CC-BY-NC-4.0"}
    plain = {re.sub(r"[^a-z0-9]", "", re.sub("_v[123]$", "", method) if method.startswith("moco") else method) for method in methods}
    assert {re.sub(r"[^a-z0-9]", "", name.lower()) for name in told.split(", ")} == plain
