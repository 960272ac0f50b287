"""YAML as it looks: nothing in a file is run, numbers are decimal, and references stay within the file. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml  # type: ignore[import-untyped]

from zoo.errors import UserError, first_line
from zoo.reading.outside import read_text

# Of a recipe, all aliases written out: far beyond any real one, and far below what hurts.
MOST_BYTES, MOST_VALUES, MOST_DEPTH = 1 << 18, 100_000, 50
# `${group.key}`, and `${..key}` relative to where it stands.
_REFERENCE = re.compile(r"\$\{\.*[A-Za-z_]\w*(\.\w+)*\}")
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2: in that of 1.1, 1:30:00 is 5400, 010 is 8 and `on` is true."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    merged = 0

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.tag != _MERGE:
                    raise yaml.constructor.ConstructorError(None, None, f"the key '{key.value}' is given twice", node.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def flatten_mapping(self, node: Any) -> None:
        """As it was, but counted: mappings that merge each other ten at a time are a billion keys after nine lines."""
        for key, value in node.value:
            if key.tag == _MERGE:
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(part, yaml.MappingNode):
                        self.flatten_mapping(part)
                        self.merged += len(part.value)
                if self.merged > MOST_VALUES:
                    raise yaml.constructor.ConstructorError(None, None, f"more than {MOST_VALUES} merged values", node.start_mark)
        super().flatten_mapping(node)


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+0123456789.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor(_TAG + "int", lambda loader, node: int(node.value))


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises ``ValueError`` with one line that says why it cannot be read."""
    try:
        value = yaml.load(text, Loader=_Loader)
        _check(value, "", 0, [MOST_VALUES])
    except ValueError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem or first_line(error)}") from error
    except Exception as error:  # PyYAML raises nearly anything for a value that does not fit its tag
        raise ValueError(first_line(error)) from error
    return value


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file; ``what`` is what a message calls the file.

    Raises UserError for a file that cannot be read, is no mapping, or refers to anything but its own keys (an environment variable).
    """
    try:
        value = parse_yaml(read_text(path, MOST_BYTES))
    except ValueError as error:
        raise UserError(f"{what} {path} is not readable YAML ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise UserError(f"{what} {path} must be a mapping of keys to values")
    return value


def _check(value: Any, key: str, depth: int, left: list[int]) -> None:
    """Raise ValueError for a reference out of the file, a value that is marked as missing, and more than the budgets allow."""
    left[0] -= 1
    if left[0] < 0 or depth > MOST_DEPTH:
        raise ValueError(f"more than {MOST_VALUES} values, or more than {MOST_DEPTH} groups in each other")
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(name, tuple):
                raise ValueError(f"{key or 'it'} has a key that is a list")
            _check(inner, f"{key}.{name}" if key else str(name), depth + 1, left)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, key, depth + 1, left)
    elif isinstance(value, str):
        check_references(value, key)
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise ValueError(f"{key or 'it'} is a {type(value).__name__}, and a recipe has none")


def check_references(text: str, key: str) -> None:
    """Raise ValueError where ``text``, the value of ``key``, refers to anything but another key."""
    if text == "???":
        raise ValueError(f"{key} has no value")
    if "${" in _REFERENCE.sub("", text):
        raise ValueError(f"{key}: '{text}' refers to something else than a key of the recipe; nothing else is looked up, so write it out")
