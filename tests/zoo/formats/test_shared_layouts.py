"""Every list of ``../shared/layouts`` gives its verdict: what the writers' own classes save, read by the reader as it is.

The tensors must be those of the writer's backbone, each under its right name, and the features those of an independent network:
torchvision's ResNets, and a vision transformer written out in ``layout_checkpoints.py``.
"""

from __future__ import annotations

from pathlib import Path

import layout_checkpoints as layouts
import pytest
import torch
import torchvision
from torch import Tensor, nn

from zoo.backbones import SMALL_STEM_NAMES, TORCHVISION_NAMES
from zoo.errors import UserError
from zoo.formats.engine import Reading, read_backbone
from zoo.models.selection import Hints

pytestmark = pytest.mark.skipif(not layouts.NAMES, reason="needs ../shared/layouts")
_QUICK = 30_000_000  # numbers in the file: a ResNet-18 twice
_QUICK_SIDE = 224  # pixels, for patches of 16: attention over more tokens takes seconds
_WIDE = ("wide_resnet50_2", "resnext101_32x8d")
_HEADS = {192: 3, 384: 6, 768: 12}


def _cases() -> list[object]:
    cases = []
    for name in layouts.NAMES:
        described = layouts.layout(name)
        slow = layouts.elements(described["content"]) > _QUICK or described["input"][-1] > _QUICK_SIDE or name == "dino_backbone_vits8"
        cases.append(pytest.param(name, marks=[pytest.mark.slow] if slow else [], id=name))
    return cases


def _options(described: dict[str, object]) -> dict[str, object]:
    words = list(described.get("import", ()))  # type: ignore[call-overload]
    given = dict(zip(words[::2], words[1::2], strict=True))
    options: dict[str, object] = {"arch": given["--arch"]} if "--arch" in given else {}
    return options | ({"image_size": int(given["--image-size"])} if "--image-size" in given else {})


@pytest.mark.parametrize("name", _cases())
def test_a_file_as_its_writer_saves_it_gives_its_verdict(name: str, tmp_path: Path) -> None:
    described = layouts.layout(name)
    content = layouts.make(name)
    path = layouts.write(name, content, tmp_path)
    loads = described["verdict"].startswith("its backbone loads")
    reading = None
    try:
        reading = read_backbone(path, **_options(described))  # type: ignore[arg-type]
    except UserError as error:
        refusal = str(error)
    path.unlink()
    if reading is None:
        assert not loads, refusal
        assert str(path) in refusal
        return
    for attribute, wanted in described.get("function", {}).items():
        place, _, last = attribute.rpartition(".")
        assert getattr(reading.backbone.get_submodule(place), last) == wanted
    backbone = layouts.backbone_of(name)
    assert reading.reader.name in backbone.readers
    assert reading.encoder == backbone.encoder
    state = reading.backbone.state_dict()
    right = layouts.right_tensors(content, backbone, list(state))
    for key, tensor in state.items():
        assert torch.equal(tensor, right[key].to(tensor.dtype)), key
    _check_features(reading, right, described)


@pytest.mark.parametrize("name", [name for name in ("mocov3_vit_s", "solo_mocov3_vit_small") if name in layouts.NAMES])
def test_a_vision_transformer_of_moco_v3_is_refused_until_its_heads_are_said(name: str, tmp_path: Path) -> None:
    described, content = layouts.layout(name), layouts.make(name)
    path = layouts.write(name, content, tmp_path)
    with pytest.raises(UserError, match=r"12 heads where timm's has 6: .*--heads 12 or --heads 6"):
        read_backbone(path)
    reading = read_backbone(path, hints=Hints(heads=12))
    state = reading.backbone.state_dict()
    _check_features(reading, layouts.right_tensors(content, layouts.backbone_of(name), list(state)), described)


@pytest.mark.parametrize("name", [name for name in layouts.NAMES if "same" in layouts.layout(name)])
@pytest.mark.slow
def test_tied_names_that_contradict_each_other_are_refused(name: str, tmp_path: Path) -> None:
    ((_, second),) = layouts.layout(name)["same"]
    content = layouts.make(name)
    key = next(key for key in content["model"] if key.startswith(second) and key.endswith((".conv1.weight", ".attn.proj.weight")))
    content["model"][key] = content["model"][key] + 1
    path = layouts.write(name, content, tmp_path)
    with pytest.raises(UserError, match=r"contradicts itself: .* are two names of one tensor"):
        read_backbone(path)


def _check_features(reading: Reading, right: dict[str, Tensor], described: dict[str, object]) -> None:
    shape: list[int] = described["input"]  # type: ignore[assignment]
    images = torch.rand(1, *shape[1:], generator=torch.Generator().manual_seed(0))
    if "cls_token" in right:
        side = reading.architecture.image_size or shape[-1]
        images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = reading.backbone(images)
        assert features.shape[1] == described["features"][1]  # type: ignore[index]
        if "cls_token" in right:
            width = right["cls_token"].shape[-1]
            heads = described.get("function", {}).get("blocks.0.attn.num_heads", _HEADS[width])  # type: ignore[attr-defined]
            wanted = layouts.vit_features(right, images, heads)
        elif reading.architecture.name in TORCHVISION_NAMES + SMALL_STEM_NAMES + _WIDE:
            wanted = _torchvision(reading.architecture.name, right)(images)
        else:
            return
    torch.testing.assert_close(features, wanted, rtol=1e-3, atol=1e-4)


def _torchvision(arch: str, state: dict[str, Tensor]) -> nn.Module:
    with torch.device("meta"):
        network: nn.Module = torchvision.models.get_model(arch.removesuffix("_small"), weights=None)
        network.fc = nn.Identity()
        if arch in SMALL_STEM_NAMES:
            network.maxpool = nn.Identity()
            network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.load_state_dict(state, assign=True, strict=False)  # counters may be absent
    return network.eval()
