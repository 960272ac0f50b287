"""Folders for transformers: names and settings by themselves, and what transformers' own classes make of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from transfer.conversion import convert
from zoo.errors import UserError
from zoo.formats.engine import read_backbone
from zoo.model_spec import open_model

RESNET = {"model_type": "resnet", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic", "embedding_size": 64}
VIT = {"model_type": "vit", "hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768, "layer_norm_eps": 1e-6}
REGISTERS = {"model_type": "dinov2_with_registers", "num_register_tokens": 4, "mlp_ratio": 4, "patch_size": 14, "image_size": 518}


@pytest.mark.parametrize(("arch", "settings"), [("resnet18", RESNET), ("vit_tiny_patch16_224", VIT)])
def test_the_folder_holds_the_network(tmp_path: Path, arch: str, settings: dict[str, object]) -> None:
    """Read back by the reader of transformers' own files, every tensor is the one that went in."""
    convert(f"random:{arch}", "transformers", tmp_path / "out", verify=False)
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {name: found[name] for name in settings} == settings
    images = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert (images["size"], images["crop_size"]) == ({"shortest_edge": 256}, {"height": 224, "width": 224})
    reading = read_backbone(tmp_path / "out" / "model.safetensors", format="transformers") if arch != "resnet18" else None
    wanted = open_model(f"random:{arch}").module.state_dict()
    if reading is not None:
        assert reading.architecture.name == arch
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in reading.backbone.state_dict().items())
    else:
        # A network that has never seen an image is not read; its tensors are all there.
        tensors = load_file(tmp_path / "out" / "model.safetensors")
        assert len(tensors) == len(wanted)
        assert torch.equal(tensors["encoder.stages.3.layers.1.layer.1.convolution.weight"], wanted["layer4.1.conv2.weight"])
        assert torch.equal(tensors["encoder.stages.1.layers.0.shortcut.convolution.weight"], wanted["layer2.0.downsample.0.weight"])


def test_what_it_cannot_hold_and_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot become a transformers folder: transformers has ResNets"):
        convert("random:resnet18_small", "transformers", tmp_path / "out")
    with pytest.raises(UserError, match="transformers has ResNets"):
        convert("random:convnext_atto", "transformers", tmp_path / "out")
    with pytest.raises(UserError, match="its feature is not the class token"):
        convert("random:vit_base_patch16_siglip_224", "transformers", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(UserError, match="mine"):
        convert("random:resnet18", "transformers", tmp_path / "mine", overwrite=True, verify=False)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    convert("random:resnet18", "transformers", tmp_path / "out", verify=False)
    with pytest.raises(UserError, match="exists"):
        convert("random:resnet18", "transformers", tmp_path / "out", verify=False)
    convert("random:resnet18:1", "transformers", tmp_path / "out", overwrite=True, verify=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    ["resnet18", "resnet50", "vit_tiny_patch16_224", "deit_small_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"],
)
def test_transformers_gives_our_features(tmp_path: Path, arch: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra 'peers' is not installed")
    done = convert(f"random:{arch}", "transformers", tmp_path / "out", verify=True)
    assert done.checks[0].startswith("checked by a forward pass: features differ by at most")
    processor = transformers.AutoImageProcessor.from_pretrained(str(tmp_path / "out"))
    ours = open_model(f"random:{arch}").module
    side = 518 if "dinov2" in arch else 224
    assert processor.crop_size["height"] == side
    names: dict[str, object] = {"transformers": transformers, "images": torch.randn(1, 3, side, side)}
    with torch.no_grad():
        exec(done.usage, names)
        torch.testing.assert_close(names["features"], ours(names["images"]), atol=1e-4, rtol=1e-4)
