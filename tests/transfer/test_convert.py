"""Weights for other libraries, against those libraries' own networks."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from typer.testing import CliRunner

from transfer.cli import app
from transfer.conversion import convert
from zoo.errors import UserError
from zoo.hashing import file_sha256, tensors_sha256
from zoo.model_spec import open_model
from zoo.models.selection import Hints, read_selection


def images(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_torchvisions_network_gives_our_features_from_the_file(tmp_path, make_run, make_backbone, arch):
    run = make_run(arch=arch, image_size=64)
    convert(str(run), "torchvision", tmp_path / "weights.pth")
    network = torchvision.models.get_model(arch, weights=None)
    network.fc = torch.nn.Identity()
    state = torch.load(tmp_path / "weights.pth", weights_only=True)
    network.load_state_dict(state)
    assert type(state) is dict
    assert all(type(tensor) is torch.Tensor for tensor in state.values())
    reference = make_backbone(arch, image_size=64, seed=10)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images(64)), reference(images(64)), rtol=1e-6, atol=1e-6)
    assert all(torch.equal(tensor, state[name]) for name, tensor in reference.state_dict().items())


@pytest.mark.parametrize(("arch", "image_size"), [("test_resnet", 32), ("vit_tiny_patch16_224", 32)])
def test_timms_network_gives_our_features_from_the_file(tmp_path, make_run, make_backbone, arch, image_size):
    usage = convert(str(make_run(arch=arch, image_size=image_size)), "timm", tmp_path / "weights.safetensors").usage
    reference = make_backbone(arch, image_size=image_size, seed=10)
    assert tensors_sha256(load_file(tmp_path / "weights.safetensors")) == tensors_sha256(reference.state_dict())
    names: dict[str, object] = {}
    exec(f"import timm, safetensors.torch; {usage}", names)
    with torch.no_grad():
        assert torch.equal(names["network"].eval()(images(image_size)), reference(images(image_size)))


def test_the_line_that_is_printed_loads_the_file_and_equal_weights_are_equal_files(tmp_path):
    out = tmp_path / "weights.pth"
    done = CliRunner().invoke(app, ["convert", "random:resnet18", "--to", "torchvision", "--out", str(out)], catch_exceptions=False)
    first, check, label, usage = done.output.splitlines()
    assert (first, label) == (f"{out}:", "use it with")
    assert check.startswith("checked by a forward pass: features differ by at most")
    names: dict[str, object] = {}
    exec(f"import torch, torchvision; {usage}", names)
    wanted = open_model("random:resnet18").module
    with torch.no_grad():
        torch.testing.assert_close(names["network"].eval()(images(64)), wanted(images(64)), rtol=1e-6, atol=1e-6)
    convert("random:resnet18", "torchvision", tmp_path / "again.pth")
    assert file_sha256(tmp_path / "again.pth") == file_sha256(out)


@pytest.mark.parametrize(
    ("spec", "to", "out", "sentence"),
    [
        (
            "random:resnet18_small",
            "torchvision",
            "a.pth",
            "'resnet18_small' has a 3x3 stem without pooling, and no torchvision network has one",
        ),
        ("random:resnet18_small", "timm", "a.safetensors", "timm does not know 'resnet18_small' without this toolkit"),
        ("random:test_vit", "torchvision", "a.pth", "torchvision has no network with the key names of 'test_vit'; it has resnet18"),
        ("pixels", "timm", "a.safetensors", "raw pixels have no weights"),
        ("pixels", "torchvision", "a.pth", "raw pixels have no weights"),
        ("pixels", "detectron2", "a.pkl", "raw pixels have no weights"),
        ("pixels", "onnx", "a.onnx", "raw pixels have no weights"),
        ("random:resnet10_small", "detectron2", "a.pkl", "has a 3x3 stem without pooling, and detectron2's ResNet has the 7x7"),
        ("random:test_vit", "detectron2", "a.pkl", "detectron2's ResNet holds resnet18, .*, and vision transformers are not supported yet"),
        ("random:test_resnet", "detectron2", "a.pkl", "detectron2's ResNet holds resnet18, .*, and 'test_resnet' is none of them"),
        ("random:resnet18", "caffe", "a.onnx", "no format 'caffe' to convert to; there is: torchvision, timm, detectron2, onnx"),
        ("random:resnet18", "detectron2", "a.pth", r"a detectron2 file is called \*\.pkl"),
        ("random:resnet18", "torchvision", "a.safetensors", r"a torchvision file is called \*\.pth"),
        ("random:resnet18", "timm", "a.pth", r"a timm file is called \*\.safetensors"),
        ("no/such/model", "timm", "a.safetensors", "there is no model 'no/such/model'"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence_and_no_file(tmp_path, spec, to, out, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        convert(spec, to, tmp_path / out)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_asked(tmp_path):
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"precious")
    with pytest.raises(UserError, match="exists already"):
        convert("random:test_resnet", "timm", out)
    assert out.read_bytes() == b"precious"
    convert("random:test_resnet", "timm", out, overwrite=True)
    assert len(load_file(out)) == len(timm.create_model("test_resnet", num_classes=0).state_dict())
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_network_that_gives_no_numbers_is_not_converted(tmp_path, make_run):
    run = make_run()
    path = run / "checkpoints" / "step_00000010.pt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["model"]["encoder_q.bn1.weight"].fill_(float("nan"))
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match="was not converted: the timm network gives features that differ by up to nan"):
        convert(str(run), "timm", tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_checkpoint_file_of_others_by_hand(tmp_path, make_backbone):
    state = make_backbone("resnet18", image_size=32).state_dict()
    strange = {"student.net." + name.replace("layer", "stage"): tensor for name, tensor in state.items()}
    torch.save({"state": {"model": strange, "other": strange}}, tmp_path / "mine.pth")
    words = ["convert", str(tmp_path / "mine.pth"), "--to", "torchvision", "--out", str(tmp_path / "out.pth")]
    hand = ["--key", "state.model", "--prefix", "student.net.", "--rename", r"^stage(\d)=layer\1"]
    done = CliRunner().invoke(app, [*words, *hand], catch_exceptions=False)
    assert "checked by a forward pass" in done.output
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())
    with pytest.raises(UserError, match=r"--heads is for vision transformers"):
        convert(words[1], "torchvision", tmp_path / "no.pth", selection=read_selection(hand[1], hand[3], [hand[5]]), hints=Hints(heads=3))
    with pytest.raises(UserError, match=r"are for a checkpoint file, and 'detectron2:x\.pkl' is detectron2's"):
        convert("detectron2:x.pkl", "timm", tmp_path / "no.safetensors", hints=Hints(heads=3))
