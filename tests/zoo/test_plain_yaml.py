"""YAML of strangers: nothing in it is run, and no few lines stand for gigabytes or hours."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from zoo.errors import UserError
from zoo.plain_yaml import MOST_BYTES, parse_yaml, read_yaml

LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
MERGES = "a0: &a0 {k0: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: !!python/object/apply:os.system [echo]", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        (LAUGHS, "more than 100000 values"),
        ("a: &a {<<: *a}", "recursion|recursive|undefined alias|found unconstructable"),
        ("a: &a [*a]", "groups in each other|recursive"),
        ("[" * 5000, "recursion|expected|groups"),
        ("a: !!bool maybe", ""),
        ("a: !!timestamp x", ""),
        ("a: !!int x", "invalid literal"),
        ("a: !!binary aGk=", "a is a bytes"),
        ("a: !!set {x}", "a is a set"),
        ("a: !!timestamp 2001-01-01", "a is a date"),
        ("? [1, 2]\n: 3", "unhashable|a key that is a list"),
        ("a: 1\na: 2", "the key 'a' is given twice"),
        ("a: " + "9" * 5000, "digits"),
        ("a: 'x\x1b[31m'", "special characters|not allowed"),
    ],
)
def test_what_is_no_plain_value_is_refused(text, sentence):
    start = time.perf_counter()
    with pytest.raises(ValueError, match=sentence):
        parse_yaml(text)
    assert time.perf_counter() - start < 8


def test_a_merge_that_means_something_still_works():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}]}") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2, "z": 4},
    }


def test_mappings_that_merge_each_other_are_refused_or_read_at_once():
    """Newer PyYAML takes each key once; for older ones the toolkit counts."""
    start = time.perf_counter()
    with contextlib.suppress(ValueError):
        assert parse_yaml(MERGES)["a11"] == {"k0": 1}
    assert time.perf_counter() - start < 8


def test_many_keys_are_read_in_a_time_that_grows_with_them():
    text = "".join(f"k{number}: {number}\n" for number in range(8_000))
    start = time.perf_counter()
    assert len(parse_yaml(text)) == 8_000
    assert time.perf_counter() - start < 8


def test_pipes_and_large_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="a named pipe, not a file"):
        read_yaml(tmp_path / "pipe.yaml", "recipe")
    (tmp_path / "large.yaml").write_text("a: 1\n" + "#" * MOST_BYTES)
    with pytest.raises(UserError, match="it has more than"):
        read_yaml(tmp_path / "large.yaml", "recipe")
