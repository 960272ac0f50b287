"""A recipe that was changed behind a run: refused on resume, with key, old and new value."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain.recipes import check_same_recipe, load_recipe, plain
from zoo.data.spec import parse_spec
from zoo.errors import UserError


@pytest.mark.parametrize(
    ("override", "key", "old", "new"),
    [
        ("seed=5", "seed", "0", "5"),
        ("optimizer.lr_per_256=0.9", "optimizer.lr_per_256", None, "0.9"),
        ("batch=32", "batch", None, "32"),
        ("method.temperature=0.3", "method.temperature", None, "0.3"),
        ("epochs=99", "epochs", None, "99"),
        ("backbone=resnet18_small", "backbone", None, "resnet18_small"),
        ("precision=bf16", "precision", None, "bf16"),
        ("views.scale=[0.5,1]", "views.scale", None, r"\[0.5, 1.0\]"),
    ],
)
def test_the_sentence_names_key_old_and_new_value(override: str, key: str, old: str | None, new: str) -> None:
    saved = plain(load_recipe("moco_shapes"))
    with pytest.raises(UserError, match=rf"^{key} is {new} in the recipe.yaml of RUN, and its checkpoint was made with {old or ''}"):
        check_same_recipe(saved, load_recipe("moco_shapes", [override]), "RUN")


def test_what_may_change_and_what_an_older_checkpoint_lacks_is_not_compared() -> None:
    saved = plain(load_recipe("moco_shapes"))
    del saved["tf32"]
    changed = ["workers=0", "max_time=3h", "checkpoint.keep=5", "checkpoint.every_steps=7", "log_every=1", "tf32=true"]
    check_same_recipe(saved, load_recipe("moco_shapes", changed), "RUN")


def test_the_absolute_root_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert str(parse_spec("folder:photos,seed=5").absolute()) == f"folder:{tmp_path}/photos,seed=5"
    assert str(parse_spec("csv:table.csv,root=photos").absolute()) == f"csv:table.csv,root={tmp_path}/photos"
    for text in ("shapes:size=8", "digits", "hf:org/name", "folder:elsewhere"):
        assert str(parse_spec(text).absolute()) == text
