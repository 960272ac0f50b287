"""Messages that the documents quote: each stands in the code, word for word."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from zoo.console import DISTRIBUTION

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
# What stands for a part of a message that is only known when it is printed.
ANY = "…"


def _text(node: ast.AST) -> str | None:
    """A string of the code, with ANY for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else ANY for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None and right is None else (left or ANY) + (right or ANY)
    return None


@pytest.fixture(scope="module")
def said() -> list[str]:
    """Every text of the four packages but for documentation."""
    found = []
    for package in ("zoo", "evaluation", "pretrain", "transfer"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            texts = (_text(node) for node in ast.walk(tree) if id(node) not in documentation)
            found += [re.sub(f"{ANY}+", ANY, text) for text in texts if text]
    return found


def _quotes(page: str) -> list[str]:
    """The first cell of each row of the page's tables of messages; in two backticks where the message has one."""
    cells = re.findall(r"^\| (?:`` (.+?) ``|`([^`]+)`) \|", page, re.MULTILINE)
    return [re.sub(f"{ANY}+", ANY, double or single) for double, single in cells]


QUOTES = _quotes(PAGE.read_text(encoding="utf-8"))


def test_there_are_messages() -> None:
    assert len(QUOTES) > 60
    assert len(set(QUOTES)) == len(QUOTES)


@pytest.mark.parametrize("quote", QUOTES)
def test_a_quoted_message_stands_in_the_code(quote: str, said: list[str]) -> None:
    words = re.sub(r"[^a-z]", "", quote)
    assert len(words) > 12, "too short to be found"
    assert any(quote.strip(ANY) in text for text in said)


def test_what_is_said_of_mistakes_of_the_toolkit(said: list[str]) -> None:
    (quote,) = re.findall(r"^`(this is a mistake of .*?)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert any(quote.replace(DISTRIBUTION, ANY) in text for text in said)
