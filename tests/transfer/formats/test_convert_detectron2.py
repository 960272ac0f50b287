"""detectron2's pickle, written and read without detectron2."""

from __future__ import annotations

import builtins
import pickle
import re

import numpy as np
import pytest
import torch
import torchvision

from transfer.conversion import convert
from transfer.formats import detectron2_file
from transfer.formats.detectron2_names import (
    DEPTHS,
    detectron2_to_torchvision,
    expected_names,
    torchvision_to_detectron2,
    without_prefix,
)
from zoo.errors import UserError
from zoo.model_spec import open_model


def moco_name(name: str) -> str:
    """The chain of replacements of the MoCo authors' converter, as its rules are published."""
    if "layer" not in name:
        name = "stem." + name
    for t in (1, 2, 3, 4):
        name = name.replace(f"layer{t}", f"res{t + 1}")
    for t in (1, 2, 3):
        name = name.replace(f"bn{t}", f"conv{t}.norm")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


@pytest.mark.parametrize("arch", DEPTHS)
def test_every_name_of_torchvisions_networks_has_one_place_and_back(arch):
    with torch.device("meta"):
        network = torchvision.models.get_model(arch)
    names = [name for name in network.state_dict() if not name.startswith("fc.") and not name.endswith("num_batches_tracked")]
    theirs = [torchvision_to_detectron2(name) for name in names]
    assert theirs == [moco_name(name) for name in names]
    assert set(theirs) == expected_names(DEPTHS[arch])
    assert [detectron2_to_torchvision(name) for name in theirs] == names


def test_names_that_are_no_part_of_a_backbone_have_no_place():
    assert torchvision_to_detectron2("fc.weight") is None
    assert torchvision_to_detectron2("layer5.0.conv1.weight") is None
    assert without_prefix("backbone.bottom_up.res3.1.conv2.norm.bias") == "res3.1.conv2.norm.bias"
    assert without_prefix("backbone.fpn_lateral2.weight") is None
    # The extra norm of MoCo's head is no layer of the backbone's.
    assert without_prefix("roi_heads.res5.norm.weight") is None


def test_the_file_holds_the_backbone_alone_and_gives_it_back(tmp_path, make_run, monkeypatch):
    # None of it may need detectron2.
    real_import = builtins.__import__

    def without_detectron2(name, *arguments, **keywords):
        assert not name.startswith("detectron2")
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_detectron2)
    run = make_run(arch="resnet18", image_size=64)
    conversion = convert(str(run), "detectron2", tmp_path / "a.pkl", verify=False)
    monkeypatch.undo()
    source = open_model(run)
    content = pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert content["matching_heuristics"] is True
    assert content["__author__"]
    assert content["model"].keys() == expected_names(18)
    state = source.module.state_dict()
    for name, values in content["model"].items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, state[detectron2_to_torchvision(name)].numpy())
    # The run's statistics, in detectron2's units.
    assert conversion.usage.endswith(
        "MODEL.RESNETS.DEPTH 18 MODEL.RESNETS.STRIDE_IN_1X1 False INPUT.FORMAT RGB "
        "MODEL.PIXEL_MEAN '[127.5, 102.0, 76.5]' MODEL.PIXEL_STD '[51.0, 63.75, 76.5]' MODEL.RESNETS.RES2_OUT_CHANNELS 64"
    )
    assert "not verified (as asked)" in conversion.checks[0]
    back = detectron2_file.open_file(tmp_path / "a.pkl")
    assert back.tensors_sha256 == source.tensors_sha256
    assert (back.arch, back.mean, back.std) == ("resnet18", source.mean, source.std)
    convert(f"detectron2:{tmp_path / 'a.pkl'}", "torchvision", tmp_path / "back.pth")
    again = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def test_a_whole_detectors_checkpoint_and_a_file_of_others_give_their_backbone(tmp_path):
    state = open_model("random:resnet50").module.state_dict()
    names = {name: torchvision_to_detectron2(name) for name in state if not name.endswith("num_batches_tracked")}
    detector = {("roi_heads." if theirs.startswith("res5") else "backbone.") + theirs: state[name] for name, theirs in names.items()} | {
        "roi_heads.res5.norm.weight": torch.ones(2048),
        "roi_heads.box_predictor.cls_score.weight": torch.ones(4, 2048),
        "backbone.stem.conv1.norm.num_batches_tracked": torch.tensor(9),
    }
    torch.save({"model": detector, "iteration": 3}, tmp_path / "model_final.pth")
    model = detectron2_file.open_file(tmp_path / "model_final.pth")
    assert (model.arch, model.mean) == ("resnet50", None)
    loaded = model.module.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in names)
    with open(tmp_path / "moco.pkl", "wb") as file:
        arrays = {theirs: state[name].numpy() for name, theirs in names.items()}
        pickle.dump({"model": arrays, "__author__": "MOCO", "matching_heuristics": True}, file)
    assert torch.equal(detectron2_file.open_file(tmp_path / "moco.pkl").module.conv1.weight, state["conv1.weight"])


def test_a_file_without_the_whole_backbone_is_refused(tmp_path):
    state = open_model("random:resnet18").module.state_dict()
    arrays = {torchvision_to_detectron2(name): tensor.numpy() for name, tensor in state.items() if "tracked" not in name}
    del arrays["res4.1.conv2.norm.running_var"]
    for content, sentence in [
        ({"model": arrays}, "none of detectron2's ResNets: 99 of its 99 tensors"),
        ({"model": {"conv1_w": np.zeros(3, np.float32)}}, r"0 of its 1 tensors .*\(first names: conv1_w\)"),
        ([1, 2], "holds no 'model' with named tensors"),
    ]:
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match=sentence) as refusal:
            detectron2_file.open_file(tmp_path / "a.pkl")
        assert "\n" not in str(refusal.value)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(re.compile("x")))
    with pytest.raises(UserError, match="nothing was run"):
        detectron2_file.open_file(tmp_path / "a.pkl")


@pytest.mark.parametrize("plant", ["lost", "extra", "renamed"])
def test_tensors_that_do_not_fit_are_named_and_nothing_is_written(plant):
    state = dict(open_model("random:resnet50").module.state_dict())
    if plant != "extra":
        moved = state.pop("layer3.0.downsample.1.running_mean")
    if plant == "renamed":
        state["module.layer3.0.downsample.1.running_mean"] = moved
    if plant == "extra":
        state["fc.weight"] = torch.zeros(3)
    wanted = {
        "lost": r"not the tensors of detectron2's resnet50: 1 missing \(res4.0.shortcut.norm.running_mean\)$",
        "extra": r"1 without a place \(fc.weight\)$",
        "renamed": r"1 without a place \(module\..*\); 1 missing \(res4.0.shortcut.norm.running_mean\)$",
    }
    with pytest.raises(UserError, match=wanted[plant]):
        detectron2_file.to_arrays(state, "resnet50")
