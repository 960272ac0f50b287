"""The order of the house: imports run one way and in no circle, and no folder is a pile."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Package -> the packages that it may import.
BELOW = {
    "zoo": {"zoo"},
    "evaluation": {"zoo", "evaluation"},
    "pretrain": {"zoo", "evaluation", "pretrain"},
    "transfer": {"zoo", "evaluation", "transfer"},
}
LARGEST_FOLDER = 15


def modules() -> dict[str, Path]:
    """Dotted name -> file."""
    found = {}
    for package in BELOW:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the four packages that a file imports, inside functions too; those for type checkers alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {name if (name := f"{node.module}.{alias.name}") in known else node.module for alias in node.names}
    return found & known.keys()


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    known = modules()
    return {name: imports_of(path, known) - {name} for name, path in known.items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that all reach one another, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same between rooms: the first folder or file inside a package."""
    between: dict[str, set[str]] = defaultdict(set)
    for one, others in graph.items():
        here = ".".join(one.split(".")[:2])
        between[here] |= {".".join(other.split(".")[:2]) for other in others} - {here}
    return between


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_inside_functions_are_found_and_those_for_types_are_not(tmp_path):
    known = {"zoo.files": tmp_path, "zoo.hashing": tmp_path, "zoo.errors": tmp_path}
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zoo.errors\n"
    code = for_types + "def f():\n    from zoo import files\n    import zoo.hashing\n"
    (tmp_path / "code.py").write_text(code)
    assert imports_of(tmp_path / "code.py", known) == {"zoo.files", "zoo.hashing"}


def test_imports_run_one_way(imports):
    wrong = [
        f"{one} imports {other}"
        for one, others in imports.items()
        for other in others
        if other.split(".")[0] not in BELOW[one.split(".")[0]]
    ]
    assert wrong == []


def test_no_files_import_each_other_in_a_circle(imports):
    assert circles(imports) == []


def test_no_rooms_import_each_other_in_a_circle(imports):
    packages = set(BELOW)
    assert circles({room: others - packages for room, others in rooms(imports).items() if room not in packages}) == []


def test_no_folder_is_a_pile():
    loose = {
        str(folder.relative_to(ROOT)): count
        for package in BELOW
        for folder in [ROOT / package, *(ROOT / package).rglob("*")]
        if folder.is_dir() and (count := sum(path.name != "__init__.py" for path in folder.glob("*.py"))) > LARGEST_FOLDER
    }
    assert loose == {}
