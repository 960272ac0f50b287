"""Files found by name, as recipes and configs are."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.named_files import NamedFiles


@pytest.fixture
def dishes(tmp_path: Path) -> NamedFiles:
    for name, text in {"soup": "# Of vegetables.\npot: 1\n", "noodles": "#  With sauce \n", "base_dough": "# To build on.\n"}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "notes.txt").write_text("no dish")
    return NamedFiles("dish", tmp_path, "cook --list")


def test_names_and_summaries_leave_out_what_others_build_on(dishes: NamedFiles) -> None:
    assert dishes.names() == ["noodles", "soup"]
    assert dishes.lines() == ["noodles  With sauce", "soup     Of vegetables."]


def test_a_file_is_found_by_name_or_by_path(dishes: NamedFiles, tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    own.write_text("pot: 2\n")
    assert dishes.find("soup") == tmp_path / "soup.yaml"
    assert dishes.find(str(own)) == own


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sop", "there is no dish 'sop'; did you mean 'soup'? (`cook --list` shows them all, and a path to a .yaml file works too)"),
        ("xyz", "there is no dish 'xyz' (`cook --list` shows them all, and a path to a .yaml file works too)"),
        ("base_dough", "there is no dish 'base_dough' (`cook --list` shows them all, and a path to a .yaml file works too)"),
        ("soup.yaml", "there is no dish file soup.yaml"),
    ],
)
def test_what_is_not_there_is_one_sentence(dishes: NamedFiles, name: str, sentence: str) -> None:
    with pytest.raises(UserError) as refusal:
        dishes.find(name)
    assert str(refusal.value) == sentence
