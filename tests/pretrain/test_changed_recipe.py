"""A recipe that was changed behind a run: refused on resume, with key, old and new value."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain.loop import train
from pretrain.recipes import check_same_recipe, load_recipe, plain, resume_recipe
from zoo.data.spec import parse_spec
from zoo.errors import UserError
from zoo.model_spec import absolute_model_spec
from zoo.models.runs import read_recipe


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
    assert str(parse_spec("wds:shards/{train,val}-{00..09}.tar").absolute()) == f"wds:{tmp_path}/shards/{{train,val}}-{{00..09}}.tar"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(parse_spec("wds:~/a-*.tar").absolute()) == f"wds:{tmp_path}/a-*.tar"
    assert str(parse_spec("folder:~/photos").absolute()) == f"folder:{tmp_path}/photos"
    for text in ("shapes:size=8", "digits", "hf:org/name", "folder:elsewhere"):
        assert str(parse_spec(text).absolute()) == text


def test_the_absolute_place_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "nets.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = {
        "runs": f"{tmp_path}/runs",
        "./runs": f"{tmp_path}/runs",
        "~/runs": f"{tmp_path}/runs",
        "file:weights.pth": f"file:{tmp_path}/weights.pth",
        "python:nets.py:net": f"python:{tmp_path}/nets.py:net",
    }
    assert {spec: absolute_model_spec(spec) for spec in found} == found
    for spec in ("timm:resnet50.a1_in1k", "hub:org/name@v1", "random:resnet18:3", "python:nets:net", "resnet50.hcsc_200ep", "pixels"):
        assert absolute_model_spec(spec) == spec


def test_a_run_with_relative_places_goes_on_from_elsewhere(tmp_path: Path, make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data is a pattern of shards, and its start another run, both named from where it began."""
    import io
    import tarfile

    from PIL import Image

    make_run("start")
    (tmp_path / "shards").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for shard in range(2):
        with tarfile.open(tmp_path / "shards" / f"train-{shard}.tar", "w") as tar:
            for number in range(8):
                encoded = io.BytesIO()
                Image.new("RGB", (16, 16), (8 * number, 99 * shard, 0)).save(encoded, "PNG")
                entry = tarfile.TarInfo(f"{shard}{number}.png")
                entry.size = encoded.tell()
                tar.addfile(entry, io.BytesIO(encoded.getvalue()))
    monkeypatch.chdir(tmp_path)
    words = [
        "data=wds:shards/train-{0..1}.tar",
        "init=start",
        "backbone=test_resnet",
        "views.size=32",
        "batch=8",
        "epochs=2",
        "method.dim=8",
    ]
    config = load_recipe("moco_shapes", [*words, "bn_splits=1", "method.queue=16", "device=cpu", "max_time=0s", "trackers=[]", "workers=0"])
    assert train(config, tmp_path / "run").stopped
    recipe = read_recipe(tmp_path / "run")
    assert (recipe["data"], recipe["init"]) == (f"wds:{tmp_path}/shards/train-{{0..1}}.tar", f"{tmp_path}/start")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert train(resume_recipe(recipe, ["max_time=1h"]), tmp_path / "run", resume=True).stopped is None
