"""Reading run folders, whole and damaged."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import UserError
from zoo.models.runs import (
    backbone_state,
    checkpoint_name,
    checkpoint_step,
    checkpoints,
    is_run,
    latest_checkpoint,
    read_checkpoint,
    read_environment,
    read_recipe,
)


def test_the_latest_checkpoint_is_the_one_of_the_highest_step(make_run):
    run = make_run(steps=(10,))
    newest = run / "checkpoints" / checkpoint_name(100_000_000)  # one digit more than the names are padded to
    for name in ("step_00000009.pt", "step_00000099.pt.partial", "best.pt", "step_7.pt.bak", newest.name):
        (run / "checkpoints" / name).write_bytes(b"")
    assert [checkpoint_step(path) for path in checkpoints(run)] == [9, 10, 100_000_000]
    assert latest_checkpoint(run) == newest


def test_a_run_without_checkpoint_says_so(make_run):
    run = make_run(steps=())
    (run / "checkpoints" / "step_00000005.pt.partial").write_bytes(b"half")
    with pytest.raises(UserError, match="has no checkpoint"):
        latest_checkpoint(run)


def test_what_a_run_folder_is(make_run, tmp_path):
    assert is_run(make_run())
    assert not is_run(tmp_path)
    assert not is_run(tmp_path / "nothing")


def test_recipe_and_environment_are_read(make_run):
    run = make_run(arch="resnet18")
    recipe = read_recipe(run)
    assert (recipe["backbone"], recipe["method"], recipe["lr"]) == ("resnet18", {"name": "moco", "temperature": 0.2}, 0.03)
    assert read_environment(run)["commit"] == "abc1234"
    (run / "environment.json").unlink()
    assert read_environment(run) == {}


@pytest.mark.parametrize("text", ["backbone: [", "- a list", "epochs: 3", "backbone: ${nowhere}", "\x00"])
def test_a_recipe_that_is_none_is_one_sentence(make_run, text):
    run = make_run(steps=())
    (run / "recipe.yaml").write_text(text)
    with pytest.raises(UserError, match=r"recipe\.yaml") as refusal:
        read_recipe(run)
    assert "\n" not in str(refusal.value)


def test_a_checkpoint_comes_back_as_it_was_written(make_run):
    run = make_run(steps=(10,))
    content = read_checkpoint(latest_checkpoint(run))
    assert (content["step"], content["epoch"], content["arch"], content["mean"]) == (10, 2, "test_resnet", [0.5, 0.4, 0.3])


def test_each_encoder_is_found_under_its_prefix(make_run):
    content = read_checkpoint(latest_checkpoint(make_run()))
    query, key = backbone_state(content), backbone_state(content, "key")
    assert query.keys() == key.keys()
    assert torch.equal(query["conv1.0.weight"], content["model"]["encoder_q.conv1.0.weight"])
    assert torch.equal(key["conv1.0.weight"], content["model"]["encoder_k.conv1.0.weight"])
    assert not torch.equal(query["conv1.0.weight"], key["conv1.0.weight"])
    assert "queue" not in query
    with pytest.raises(UserError, match="no encoder 'teacher'; it has: query, key"):
        backbone_state(content, "teacher")
    content["encoders"]["query"] = "online."
    with pytest.raises(UserError, match=r"no tensor under 'online\.'"):
        backbone_state(content)


def test_a_truncated_newest_checkpoint_is_named_together_with_the_last_good_one(make_run):
    run = make_run(steps=(10, 20, 30))
    for step in (20, 30):
        damaged = run / "checkpoints" / checkpoint_name(step)
        damaged.write_bytes(damaged.read_bytes()[:-1000])
    with pytest.raises(UserError) as refusal:
        read_checkpoint(latest_checkpoint(run))
    text = str(refusal.value)
    assert "step_00000030.pt is damaged" in text
    assert "the newest good one before it is" in text
    assert "step_00000010.pt" in text
    assert "\n" not in text


def test_a_damaged_checkpoint_without_an_older_one_says_so(make_run):
    path = latest_checkpoint(make_run())
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"damaged or not one .*; the run has no good one before it"):
        read_checkpoint(path)


def test_other_files_are_no_checkpoints(make_run, tmp_path):
    run = make_run(steps=(10,))
    path = run / "checkpoints" / checkpoint_name(10)
    with pytest.raises(UserError, match="there is no checkpoint"):
        read_checkpoint(run / "checkpoints" / checkpoint_name(11))
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match="not a checkpoint of this toolkit"):
        read_checkpoint(path)
    torch.save({"format": "backbone-loop checkpoint 1", "step": 1}, path)
    with pytest.raises(UserError, match="lacks epoch, arch, image_size, mean, std, data, model, encoders"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("step", "10", "has as its step '10', and a whole number is expected"),
        ("epoch", -1, "has as its epoch -1, and a whole number is expected"),
        ("arch", ["resnet50"], "has as its arch a list, and the name of an architecture is expected"),
        ("image_size", 20_000, "has as its image_size 20000, and a side in pixels that is at least 1 and at most 8192 is expected"),
        ("image_size", True, "has as its image_size True"),
        ("mean", [0.5, float("nan"), 0.5], "has as its mean a list, and three numbers is expected"),
        ("std", [0.2, 0.0, 0.2], "has as its std a list, and three numbers above 0 is expected"),
        ("model", [torch.zeros(1)], "has as its model a list, and tensors by name is expected"),
        ("encoders", {"query": 3}, "has as its encoders a dict, and prefixes by name is expected"),
    ],
)
def test_a_fact_of_another_kind_is_named(make_run, name, value, sentence):
    path = latest_checkpoint(make_run())
    torch.save(torch.load(path) | {name: value}, path)
    with pytest.raises(UserError, match=sentence):
        read_checkpoint(path)


class Payload:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_a_pickle_that_would_run_code_is_refused_and_not_run(make_run, capsys):
    path = make_run() / "checkpoints" / checkpoint_name(10)
    torch.save({"format": "backbone-loop checkpoint 1", "model": Payload()}, path)
    with pytest.raises(UserError, match="damaged or not one"):
        read_checkpoint(path)
    assert "must not run" not in capsys.readouterr().out
