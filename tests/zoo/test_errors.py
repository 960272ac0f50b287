"""What sentences for users are made of."""

from __future__ import annotations

from zoo.errors import UserError, did_you_mean, listed, some_of


def test_the_nearest_names() -> None:
    assert did_you_mean("resnet51", ["vit", "resnet50", "resnet18"], 2) == "; did you mean 'resnet50' or 'resnet18'?"
    assert did_you_mean("swin", ["vit"]) == ""


def test_many_names_are_cut_short() -> None:
    assert some_of(["a", "b", "c"], 3) == "a, b, c"
    assert some_of(["a", "b", "c", "d", "e"], 3) == "a, b, c and 2 more"
    assert listed({"missing": ["a", "b"], "too many": [], "lost": list("cdefg")}) == "2 missing (a, b); 5 lost (c, d, e, f and 1 more)"
    assert listed({"missing": []}) == ""


def test_what_cannot_be_printed_is_spelled_out() -> None:
    assert str(UserError("a\nb\x1b[0m")) == "a\\nb\\x1b[0m"
