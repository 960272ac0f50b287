"""Files in other names than timm's: torchvision's and transformers' own models, and DINOv2's and I-JEPA's files, made from timm's networks.

Whatever was read must give the features of the network that wrote it. Those of transformers are ``slow``, and need the extra ``peers``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.formats.dialects import translate
from zoo.formats.engine import read_backbone

Network = Callable[[Tensor], Tensor]


def spoiled(network: nn.Module) -> nn.Module:
    """``network`` with numbers of its own in every tensor: no initial value passes for a kept one."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        statistics = [(name, buffer) for name, buffer in network.named_buffers() if "running_" in name]
        for name, tensor in (*network.named_parameters(), *statistics):
            noise = torch.randn(tensor.shape, generator=draw)
            positive = name.endswith("running_var")
            tensor.copy_(1 + 0.3 * noise.abs() if positive else 0.05 * noise + (tensor.ndim == 1 and "weight" in name))
    return network.eval()


def images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def assert_same_features(path: Path, network: Network, side: int, arch: str, **options: Any) -> None:
    reading = read_backbone(path, **options)
    assert reading.architecture.name == arch
    with torch.no_grad():
        wanted = network(images(side))
        found = reading.backbone(images(side))
    torch.testing.assert_close(found, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)


def pos_of_class(state: dict[str, Tensor]) -> Tensor:
    return torch.full_like(state["cls_token"], 0.25)


def as_dinov2_writes(state: dict[str, Tensor], *, chunks: bool) -> dict[str, Tensor]:
    """timm's registers as facebookresearch/dinov2 has them: the class token has a position, and there is a mask token."""
    made = {name: tensor for name, tensor in state.items() if name not in ("reg_token", "cls_token", "pos_embed")}
    if "reg_token" in state:
        made["register_tokens"] = state["reg_token"]
        made["cls_token"] = state["cls_token"] - pos_of_class(state)
        made["pos_embed"] = torch.cat([pos_of_class(state), state["pos_embed"]], 1)
    else:
        made |= {name: state[name] for name in ("cls_token", "pos_embed")}
    made["mask_token"] = torch.zeros(1, state["cls_token"].shape[-1])
    if chunks:
        # Four chunks; a block keeps its own number within its chunk.
        made = {re.sub(r"^blocks\.(\d+)\.", lambda match: f"blocks.{int(match[1]) // 3}.{match[1]}.", name): made[name] for name in made}
    return made


@pytest.mark.parametrize(("arch", "chunks"), [("vit_small_patch14_reg4_dinov2", False), ("vit_small_patch14_dinov2", True)])
def test_dinov2s_own_names(tmp_path: Path, arch: str, chunks: bool) -> None:
    network = spoiled(timm.create_model(arch, num_classes=0, img_size=56))
    state = as_dinov2_writes(network.state_dict(), chunks=chunks)
    torch.save(state, tmp_path / "bare.pth")
    assert_same_features(tmp_path / "bare.pth", network, 56, arch)
    # The teacher of a training.
    heads = {"dino_head.last_layer.weight_v": torch.randn(4, 4)}
    torch.save({"teacher": {**{f"backbone.{name}": tensor for name, tensor in state.items()}, **heads}}, tmp_path / "teacher.pth")
    assert_same_features(tmp_path / "teacher.pth", network, 56, arch)


def test_gated_layers_of_dinov2_are_timms() -> None:
    """The giant network is too large to build here: names and shapes of one block."""
    state = {
        "cls_token": torch.zeros(1, 1, 8),
        "pos_embed": torch.zeros(1, 5, 8),
        "blocks.0.ls1.gamma": torch.ones(8),
        "blocks.0.mlp.w12.weight": torch.arange(128.0).view(16, 8),
        "blocks.0.mlp.w3.weight": torch.arange(64.0).view(8, 8),
        "mask_token": torch.zeros(1, 8),
    }
    translated = translate(state)
    assert translated is not None
    assert translated.dropped == ("mask_token",)
    assert torch.equal(translated.tensors["blocks.0.mlp.fc1.weight"], state["blocks.0.mlp.w12.weight"])
    assert torch.equal(translated.tensors["blocks.0.mlp.fc2.weight"], state["blocks.0.mlp.w3.weight"])


def test_ijepas_target_encoder(tmp_path: Path) -> None:
    network = spoiled(
        timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, class_token=False, global_pool="avg", fc_norm=False)
    )
    target = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    content = {
        "encoder": {name: tensor + 1 for name, tensor in target.items()},
        "predictor": {"module.mask_token": torch.zeros(1, 1, 4), "module.predictor_embed.weight": torch.zeros(4, 192)},
        "opt": {"state": {}, "param_groups": []},
        "target_encoder": target,
        "epoch": 300,
        "loss": 0.1,
    }
    torch.save(content, tmp_path / "IN1K-vit.tar")
    assert_same_features(tmp_path / "IN1K-vit.tar", network, 32, "vit_tiny_patch16_224")
    reading = read_backbone(tmp_path / "IN1K-vit.tar")
    assert (reading.reader.name, reading.encoder, reading.method, reading.epochs) == ("ijepa", "target", "ijepa", 300)
    other = read_backbone(tmp_path / "IN1K-vit.tar", encoder="context").backbone.state_dict()["norm.weight"]
    assert torch.equal(other, network.state_dict()["norm.weight"] + 1)


def test_torchvisions_convnext(tmp_path: Path) -> None:
    network = spoiled(torchvision.models.convnext_tiny(weights=None))
    torch.save(network.state_dict(), tmp_path / "convnext.pth")
    network.classifier[2] = nn.Identity()
    assert_same_features(tmp_path / "convnext.pth", network, 32, "convnext_tiny")


@pytest.mark.slow
def test_torchvisions_swin(tmp_path: Path) -> None:
    network = spoiled(torchvision.models.swin_t(weights=None))
    torch.save(network.state_dict(), tmp_path / "swin.pth")
    network.head = nn.Identity()
    assert_same_features(tmp_path / "swin.pth", network, 224, "swin_tiny_patch4_window7_224")


def _behind(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": _behind("model.", state), "pytorch-lightning_version": "2.6.6"},
        lambda state: {"module": state, "dp_world_size": 8, "mp_world_size": 1},
        lambda state: {"n_averaged": torch.tensor(7), **_behind("module.", state)},
    ],
    ids=["Lightning", "DeepSpeed", "averaged weights"],
)
@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
def test_wrappers_of_trainers(tmp_path: Path, wrap: Callable[[dict[str, Tensor]], dict[str, Any]], arch: str) -> None:
    network = spoiled(timm.create_model(arch, num_classes=0))
    torch.save(wrap(network.state_dict()), tmp_path / "run.ckpt")
    assert_same_features(tmp_path / "run.ckpt", network, 224, arch)


def _vit(config: Any, **more: Any) -> Any:
    return config(hidden_size=192, num_attention_heads=3, intermediate_size=768, image_size=64, patch_size=16, **more)


def _token(output: Any) -> Tensor:
    token: Tensor = output.last_hidden_state[:, 0]
    return token


_DINOV3 = {"num_attention_heads": 6, "intermediate_size": 1536, "image_size": 64, "patch_size": 16, "num_register_tokens": 4}
# Class, settings, features of its output, timm's architecture, side.
_PEERS: dict[str, tuple[Callable[[Any], nn.Module], Callable[[nn.Module], Network], str, int]] = {
    "ViT": (
        lambda t: t.ViTModel(_vit(t.ViTConfig, layer_norm_eps=1e-6)),
        lambda m: lambda x: _token(m(x)),
        "vit_tiny_patch16_224",
        64,
    ),
    "ViT, classifier": (
        lambda t: t.ViTForImageClassification(_vit(t.ViTConfig, layer_norm_eps=1e-6)),
        lambda m: lambda x: _token(m.vit(x)),
        "vit_tiny_patch16_224",
        64,
    ),
    "DINOv2": (
        lambda t: t.Dinov2Model(t.Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=56, patch_size=14)),
        lambda m: lambda x: _token(m(x)),
        "vit_small_patch14_dinov2",
        56,
    ),
    "DINOv2, registers": (
        lambda t: t.Dinov2WithRegistersModel(
            t.Dinov2WithRegistersConfig(hidden_size=384, num_attention_heads=6, image_size=56, patch_size=14)
        ),
        lambda m: lambda x: _token(m(x)),
        "vit_small_patch14_reg4_dinov2",
        56,
    ),
    "DINOv3": (
        lambda t: t.DINOv3ViTModel(t.DINOv3ViTConfig(hidden_size=384, **_DINOV3)),
        lambda m: lambda x: _token(m(x)),
        "vit_small_patch16_dinov3_qkvb",
        256,
    ),
    "DINOv3, gated": (
        lambda t: t.DINOv3ViTModel(t.DINOv3ViTConfig(hidden_size=384, use_gated_mlp=True, hidden_act="silu", **_DINOV3)),
        lambda m: lambda x: _token(m(x)),
        "vit_small_plus_patch16_dinov3_qkvb",
        256,
    ),
    "MAE with decoder": (
        lambda t: t.ViTMAEForPreTraining(_vit(t.ViTMAEConfig, decoder_num_hidden_layers=1, layer_norm_eps=1e-6, mask_ratio=0.0)),
        # Without a mask, and with noise in rising order, the tokens stay in their order.
        lambda m: lambda x: _token(m.vit(x, noise=torch.arange(16.0).repeat(len(x), 1))),
        "vit_tiny_patch16_224",
        64,
    ),
    "MSN": (lambda t: t.ViTMSNModel(_vit(t.ViTMSNConfig)), lambda m: lambda x: _token(m(x)), "vit_tiny_patch16_224", 64),
    "I-JEPA": (
        lambda t: t.IJepaModel(_vit(t.IJepaConfig, layer_norm_eps=1e-6)),
        lambda m: lambda x: m(x).last_hidden_state.mean(1),
        "vit_tiny_patch16_224",
        64,
    ),
    "BEiT": (
        lambda t: t.BeitModel(t.BeitConfig(image_size=64, patch_size=16, use_relative_position_bias=True, layer_norm_eps=1e-6)),
        lambda m: lambda x: m(x).pooler_output,
        "beit_base_patch16_224",
        64,
    ),
    "ResNet-50": (lambda t: t.ResNetModel(t.ResNetConfig()), lambda m: lambda x: m(x).pooler_output.flatten(1), "resnet50", 64),
    "ResNet-18": (
        lambda t: t.ResNetModel(t.ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic")),
        lambda m: lambda x: m(x).pooler_output.flatten(1),
        "resnet18",
        64,
    ),
    "ConvNeXt": (
        lambda t: t.ConvNextModel(t.ConvNextConfig(layer_norm_eps=1e-6)),
        lambda m: lambda x: m(x).pooler_output,
        "convnext_tiny",
        64,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(_PEERS))
def test_what_transformers_saves(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra 'peers' is not installed")
    make, features, arch, side = _PEERS[name]
    network = spoiled(make(transformers))
    network.save_pretrained(tmp_path)
    assert_same_features(tmp_path / "model.safetensors", features(network), side, arch)


@pytest.mark.slow
def test_a_distilled_network_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra 'peers' is not installed")
    transformers.DeiTModel(_vit(transformers.DeiTConfig)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"cannot be told from the names of the tensors .*distillation_token"):
        read_backbone(tmp_path / "model.safetensors")
