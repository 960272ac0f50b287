"""``python:`` models: any function that returns a network, weights with every key accounted for, features of any layer."""

from __future__ import annotations

import argparse
import fractions
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from zoo.errors import UserError
from zoo.hashing import tensors_sha256
from zoo.model_spec import open_model
from zoo.models.layers import Layer
from zoo.models.python import read_state
from zoo.models.selection import read_selection

# The tests of evaluation have it too.
FILE = next((Path(__file__).parents[2] / "evaluation").rglob("own_network.py"))
SPEC = f"python:{FILE}:own"


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    network = open_model(SPEC).module
    generator = torch.Generator().manual_seed(3)
    return {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 5
        for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("form", ["plain", "safetensors", "state_dict", "model", "prefix", "compiled"])
def test_weights_are_found_in_the_usual_forms(form: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    prefix = {"prefix": "module.", "compiled": "_orig_mod."}.get(form, "")
    prefixed = {prefix + key: value for key, value in state.items()}
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({form: prefixed, "epoch": 3} if form in ("state_dict", "model") else prefixed, path)
    model = open_model(SPEC, weights=path)
    assert model.tensors_sha256 == tensors_sha256(state)
    assert (model.kind, model.arch, model.name) == ("python", "own", "own:w")
    (note,) = model.notes
    assert f"all {len(state)} tensors of {path.name} loaded" in note
    assert (f"prefix '{prefix}' removed" in note) == bool(prefix)
    assert (f"under '{form}'" in note) == (form in ("state_dict", "model"))


def test_weights_are_found_where_the_user_says(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    strange = {"module.student." + key.replace("conv", "convolution"): value for key, value in state.items()}
    torch.save({"a": {"b": strange | {"module.student.extra.weight": torch.ones(2), "module.other": torch.ones(1)}}}, path)
    with pytest.raises(UserError, match="no state dict"):
        open_model(SPEC, weights=path)
    for prefix in ("module.student.", "student."):
        selection = read_selection("a.b", prefix, ["convolution=conv"], ["^extra"])
        model = open_model(SPEC, weights=path, selection=selection)
        assert model.tensors_sha256 == tensors_sha256(state)
        assert "'a.b', prefix 'module.student.', 2 others left out" in model.notes[0]
    with pytest.raises(UserError, match=r"two tensors of .* would both be 'x'"):
        open_model(SPEC, weights=path, selection=read_selection(None, "student.", ["^.*$=x"]))
    with pytest.raises(UserError, match="are for a checkpoint file or --weights"):
        open_model(SPEC, selection=read_selection("a.b"))


def test_weights_that_do_not_fit_are_refused_by_name(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    lacking = {key: value for key, value in state.items() if key != "conv.weight"}
    torch.save(lacking | {"fc.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"do not fit 'own': 1 missing \(conv\.weight\); 1 not part of it \(fc\.weight\)"):
        open_model(SPEC, weights=path)
    torch.save({"optimizer": {"lr": 1}, "epoch": 2}, path)
    with pytest.raises(UserError, match=r"has no state dict \(it holds optimizer, epoch\)"):
        open_model(SPEC, weights=path)
    torch.save({"model": state, "state_dict": state}, path)
    with pytest.raises(UserError, match="has several state dicts"):
        read_state(path)
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1)}, path)
    assert read_state(path)[0].keys() == state.keys()
    torch.save({"state_dict": state, "args": fractions.Fraction(1, 2)}, path)
    with pytest.raises(UserError, match=r"asks for what weights have no use for: fractions\.Fraction; nothing of it was called"):
        open_model(SPEC, weights=path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"w\.pth holds no weights: it is a web page"):
        open_model(SPEC, weights=path)
    with pytest.raises(UserError, match="there is no weights file"):
        open_model(SPEC, weights=tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match="--weights is for python:"):
        open_model("pixels", weights=path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (f"python:{FILE}", "is not of the form|has no function|there is no file"),
        ("python:nowhere.py:own", "there is no file nowhere.py"),
        ("python:no_such_module:own", "no_such_module cannot be imported"),
        (f"python:{FILE}:onw", "has no function 'onw'; it has: own, declared"),
        (f"python:{FILE}:no_network", "must return a torch.nn.Module, not int"),
        (f"python:{FILE}:failing", r"failed \(RuntimeError: no such luck\)"),
    ],
)
def test_code_that_gives_no_network_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_model(spec)


def test_without_weights_it_is_what_the_function_returns_and_the_callers_random_numbers_stay() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second = open_model(SPEC), open_model(SPEC)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.tensors_sha256 == second.tensors_sha256
    assert "no --weights were given" in first.notes[0]
    assert not first.module.training
    assert first.mean is None
    assert open_model("python:torchvision.models:resnet18").arch == "resnet18"


def test_what_a_network_declares_is_used_unless_told_otherwise() -> None:
    model = open_model(f"python:{FILE}:declared")
    assert (model.mean, model.std, model.channels) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "rgb")
    other = open_model(f"python:{FILE}:declared", mean=(0.1, 0.1, 0.1), channels="bgr")
    assert (other.mean, other.std, other.channels) == ((0.1, 0.1, 0.1), (0.2, 0.25, 0.3), "bgr")
    assert other.declared == model.declared


def test_features_of_any_layer_are_those_that_the_network_computes() -> None:
    images = torch.rand(3, 3, 12, 12)
    whole, hooked, traced = (open_model(SPEC, layer=layer).module for layer in (None, "norm", "flatten"))
    with torch.inference_mode():
        maps = whole.norm(whole.conv(images))
        torch.testing.assert_close(hooked(images), maps.mean((2, 3)))
        torch.testing.assert_close(traced(images), torch.relu(maps).mean((2, 3)))
        torch.testing.assert_close(whole.head(traced(images)), whole(images))
    with pytest.raises(UserError, match=r"has no layer 'layer9'; it has: .*conv.*flatten"):
        open_model(SPEC, layer="layer9")


def test_tokens_give_the_class_token_or_their_mean() -> None:
    with torch.random.fork_rng():
        vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=0).eval()
        swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=56, depths=(1, 1, 1, 1), num_classes=0).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        tokens = vit.forward_intermediates(images, indices=[0], norm=False, output_fmt="NLC", return_prefix_tokens=True)[1][0]
        torch.testing.assert_close(Layer(vit, "blocks.0")(images), tokens[1][:, 0])
        # Swin's maps have their channels last.
        maps = swin.forward_features(torch.rand(2, 3, 56, 56))
        assert Layer(swin, "norm")(torch.rand(2, 3, 56, 56)).shape == (2, maps.shape[-1])


def test_a_network_that_cannot_be_traced_names_its_submodules() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.body(images) if images.sum() > 0 else self.body(-images)
            return result.mean((2, 3))

    images = torch.rand(2, 3, 8, 8)
    network = Branching()
    torch.testing.assert_close(Layer(network, "body")(images), network(images))
    with pytest.raises(UserError, match=r"no submodule 'flatten', and its graph cannot be traced .*its submodules: body"):
        Layer(network, "flatten")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abcd", r"is no checkpoint: it begins with b'abcd'.* \(4 bytes\)"),
        (bytes(4), "begins with zeros"),
        (b"PK\x03\x04", "was cut short"),
        (b"\x80\x02}q", "is a plain pickle"),
        (b"<!DOCTYPE html><html><title>Sign in</title></html>", "is a web page"),
    ],
)
def test_weights_that_are_none_are_said_without_advice_to_run_them(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        open_model(SPEC, weights=tmp_path / "weights.pth")
    assert "weights_only" not in str(caught.value)
