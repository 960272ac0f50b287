"""The page that describes result files says what the code reads: no field more, none less, and its example is a result."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from zoo.results import SCHEMA, Result, SplitFacts

PAGE = Path(__file__).parents[3] / "docs" / "results-schema.md"


def fields_of(kind: Any, prefix: str = "") -> set[str]:
    """The fields of a dataclass and of those in it, by their path in JSON."""
    found = set()
    hints = get_type_hints(kind)
    for item in fields(kind):
        hint, path = hints[item.name], prefix + item.name
        found.add(path)
        if is_dataclass(hint):
            found |= fields_of(hint, f"{path}.")
        elif SplitFacts in get_args(hint):
            found |= fields_of(SplitFacts, f"{path}.ROLE.")
    return found


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_field_is_described_and_nothing_else(page: str) -> None:
    described = page.split("## `protocol`")[0]
    rows = [cell for row in re.findall(r"^\| (`.*?) \|", described, re.MULTILINE) for cell in re.findall(r"`([^`]+)`", row)]
    assert len(set(rows)) == len(rows)
    assert set(rows) == fields_of(Result) | {"schema"}


def test_whole_numbers_and_texts_are_described_as_such(page: str) -> None:
    kinds = {"str": "text", "int": "whole number", "str | None": "text or null"}
    for name, kind in re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", page.split("## `protocol`")[0], re.MULTILINE):
        owner, last = Result, name.split(".")[-1]
        for part in name.replace("splits.ROLE", "splits").split(".")[:-1]:
            hint = get_type_hints(owner)[part]
            owner = SplitFacts if SplitFacts in get_args(hint) else hint
        if name == "schema" or last == "splits":
            continue
        hint = get_type_hints(owner)[last]
        text = hint.__name__ if isinstance(hint, type) else str(hint)
        if text in kinds:
            assert kind == kinds[text], name


def test_the_example_is_a_result(page: str) -> None:
    example = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    result = Result.from_dict(example)
    assert example["schema"] == SCHEMA
    assert json.loads(result.to_json()) == example
    test = result.data.splits["test"]
    for metric, count in result.counts["correct"].items():
        assert result.metrics[metric] == pytest.approx(100 * count / test.images)
