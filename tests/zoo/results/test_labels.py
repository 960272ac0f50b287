"""Models of one name are told apart by where they lie."""

from __future__ import annotations

import dataclasses

import pytest

from zoo.results.labels import model_labels


@pytest.mark.parametrize(
    ("specs", "labels"),
    [
        (["/x/a/run", "/x/b/run"], ["a/run", "b/run"]),
        (["/x/a/run", "/x/a/run"], ["run", "run"]),
        (["a/run", "run"], ["a/run", "run"]),
        (["/x/a/b/run", "/y/a/b/run", "/x/c/run"], ["x/a/b/run", "y/a/b/run", "/x/c/run"]),
        (["/x/a/step_1.pt", "/x/b/step_1.pt"], ["run (a/step_1.pt)", "run (b/step_1.pt)"]),
        ([None, "/x/b/run"], ["run", "run"]),
    ],
)
def test_as_much_of_the_path_as_is_needed(specs, labels, make_result) -> None:
    facts = make_result("a" * 64).model
    assert model_labels([dataclasses.replace(facts, name="run", spec=spec) for spec in specs]) == labels


def test_other_names_stay(make_result) -> None:
    facts = make_result("a" * 64).model
    two = [dataclasses.replace(facts, name=name, spec=f"/x/{name}") for name in ("one", "two")]
    assert model_labels(two) == ["one", "two"]
