"""Python of the documents: it compiles, what it names exists and takes the arguments given; what needs no data of the reader's is run."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from pretrain.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = ("zoo", "evaluation", "pretrain", "transfer")
# What stands before a snippet that is run as it is.
RUN = "<!-- run by a test -->"
_FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _snippets() -> list[Any]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text[: match.start()].count("\n") + 2
            runs = text[: match.start()].rstrip().endswith(RUN)
            found.append(pytest.param(match[1], runs, id=f"{page.name}:{line}"))
    return found


SNIPPETS = _snippets()


def _named(tree: ast.AST) -> dict[str, Any]:
    """What the imports of a snippet bind, of our packages; raises where one does not exist."""
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            module = importlib.import_module(node.module)
            for alias in node.names:
                names[alias.asname or alias.name] = getattr(module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in OURS:
                    module, top = importlib.import_module(alias.name), alias.name.split(".")[0]
                    names[alias.asname or top] = module if alias.asname else importlib.import_module(top)
    return names


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """The object of ours that an expression such as `evaluation.knn` names; None for anything else. Raises where it does not exist."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, names)
        return getattr(owner, node.attr) if inspect.ismodule(owner) else None
    return None


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) > 20
    assert sum(bool(snippet.values[1]) for snippet in SNIPPETS) >= 2


@pytest.mark.parametrize(("snippet", "runs"), SNIPPETS)
def test_a_snippet_compiles_and_names_what_exists(snippet: str, runs: bool) -> None:
    tree = ast.parse(snippet)
    names = _named(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _value(node, names)
        if isinstance(node, ast.Call):
            called = _value(node.func, names)
            if inspect.isfunction(called) or inspect.isclass(called):
                given = [ast.unparse(value) for value in node.args]
                # Raises TypeError for an argument that there is not, or one that is missing.
                inspect.signature(called).bind(*given, **{word.arg: None for word in node.keywords if word.arg})
    if runs:
        exec(compile(tree, "snippet", "exec"), {"__name__": "snippet"})


# ---------------------------------------------------------------------- tables of options


@pytest.mark.parametrize("name", ["moco", "simclr", "byol", "simsiam"])
def test_the_options_of_a_method_are_those_of_its_table(name: str) -> None:
    text = (ROOT / "docs" / "contrastive.md").read_text(encoding="utf-8")
    (section,) = [part for part in re.split(r"^## ", text, flags=re.MULTILINE) if part.lower().startswith(f"{name}\n")]
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section, re.MULTILINE))
    settings = {field.name: field.default for field in fields(METHODS[name].Settings)}
    assert told.keys() == settings.keys()
    for key, default in settings.items():
        assert default is not MISSING
        if default is None:
            # A rule, another value, or nothing: in words.
            assert not re.fullmatch(r"[\d.]+|true|false", told[key]), key
        else:
            assert told[key] == (str(default).lower() if isinstance(default, bool) else f"{default}"), key
