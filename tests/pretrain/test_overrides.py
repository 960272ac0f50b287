"""What is written on the command line and in recipes is what is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.stopping import parse_duration
from pretrain.recipe_files import RECIPES, read_recipe_file
from pretrain.recipes import load_recipe, resume_recipe
from zoo.errors import UserError
from zoo.models.runs import read_recipe


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("data=folder:photos/set #2", "data", "folder:photos/set #2"),
        ("data=folder:a=b: [c", "data", "folder:a=b: [c"),
        ("data=010", "data", "010"),
        ("max_time=1:30:00", "max_time", "1:30:00"),
        ("max_time=null", "max_time", None),
        ("epochs=010", "epochs", 10),
        ("optimizer.lr=1e-3", "optimizer.lr", 0.001),
        ("views.scale=[0.08,1]", "views.scale", [0.08, 1.0]),
        ("micro_batch=auto", "micro_batch", "auto"),
        ("micro_batch=8", "micro_batch", 8),
        ("channels_last=true", "channels_last", True),
        ("trackers=[]", "trackers", []),
        ("views.each.key.blur=0.1", "views.each", {"key": {"blur": 0.1}}),
    ],
)
def test_what_is_written_is_what_is_read(override: str, key: str, value: object) -> None:
    from omegaconf import OmegaConf

    found = OmegaConf.select(load_recipe("moco_shapes", [override]), key)
    assert (OmegaConf.to_container(found) if OmegaConf.is_config(found) else found) == value
    assert type(found) is type(value) or OmegaConf.is_config(found)


@pytest.mark.parametrize(
    "override",
    ["seed=1:30", "epochs=0x10", "epochs=1.5", "data=folder:${HOME}/photos", "data=${oc.env:HOME}", "views.scale=[0.1", "init=???"],
)
def test_what_cannot_be_read_is_one_sentence(override: str) -> None:
    with pytest.raises(UserError):
        load_recipe("moco_shapes", [override])


def test_a_run_is_resumed_with_the_same_reading() -> None:
    import yaml

    from pretrain.recipes import as_yaml

    recipe = yaml.safe_load(as_yaml(load_recipe("moco_shapes")))
    with pytest.raises(UserError, match=r"max_time '\[1' is not a duration"):
        resume_recipe(recipe, ["max_time=[1"])
    assert resume_recipe(recipe, ["workers=02"]).workers == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("1:30:00", 5400), ("90:00:00", 324000), ("45m", 2700), ("1h30m", 5400), ("90s", 90), ("1.5", 90), (2, 120)]
)
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["1:30", "1:60:00", "-5", "nan", "inf", "0", "", "soon"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UserError, match="is not a duration"):
        parse_duration(text)


def test_a_recipe_refers_to_its_own_keys_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "xyzzy")
    recipe = tmp_path / "own.yaml"
    recipe.write_text("base: moco_shapes\nseed: 7\nmax_images: ${seed}\nmax_time: 1:30:00\nworkers: 010\n")
    config = load_recipe(str(recipe))
    assert (config.max_images, config.max_time, config.workers) == (7, "1:30:00", 10)
    for value in ("${oc.env:SECRET}", "a ${oc.env:SECRET} b", "${oc.decode:'1'}", "${oc.select:${seed}}", "${HOME", "${}"):
        recipe.write_text(f'base: moco_shapes\ndata: "{value}"\n')
        with pytest.raises(UserError, match="refers to something else than a key") as caught:
            load_recipe(str(recipe))
        assert "xyzzy" not in str(caught.value)


def test_yaml_runs_nothing_and_has_budgets(tmp_path: Path) -> None:
    recipe, ran = tmp_path / "recipe.yaml", tmp_path / "ran"
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(8))
    call = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{ran}]]"
    for text in (f"data: {call}\n", bomb, "data: " + "[" * 2000, "seed: 1\nseed: 2\n", "- a\n", "a: &a [*a]\n", "data: \x00\n"):
        recipe.write_text(text)
        with pytest.raises(UserError, match=r"recipe\.yaml"):
            read_recipe_file(recipe)
        with pytest.raises(UserError, match=r"recipe\.yaml"):
            read_recipe(tmp_path)
    assert not ran.exists()


def test_the_recipes_that_come_along_read_as_before() -> None:
    from omegaconf import OmegaConf

    for path in RECIPES.folder.glob("*.yaml"):
        ours = read_recipe_file(path)
        theirs = OmegaConf.load(path)
        theirs.pop("base", None)
        assert OmegaConf.merge(ours, theirs) == ours, path
