"""What names and shapes leave open: each decision against a network of the other library, or written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fake_checkpoints import behind, linear
from test_dialects import assert_same_features, images, spoiled
from torch import Tensor, nn
from torch.nn import functional

from zoo.backbones import NORM_EPSILONS, bare_backbone
from zoo.errors import UserError
from zoo.formats.engine import read_backbone
from zoo.formats.function import Evidence, decide_function
from zoo.model_folder.folder import load_zoo_model
from zoo.model_folder.importing import import_checkpoint
from zoo.model_spec import open_model
from zoo.models.selection import Hints

WIDTH, SIDE = 192, 64
SETTINGS = {
    "model_type": "vit",
    "hidden_size": WIDTH,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def as_transformers_writes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A plain ViT of timm under the names of transformers' ViTModel."""
    made: dict[str, Tensor] = {}
    for name, tensor in state.items():
        parts = name.split(".")
        front = f"encoder.layer.{parts[1]}." if parts[0] == "blocks" else ""
        last = parts[-1]
        if ".attn.qkv." in name:
            for part, share in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                made[f"{front}attention.attention.{part}.{last}"] = share.clone()
        else:
            inner = ".".join(parts[2:-1]) if front else ".".join(parts[:-1])
            target = {
                "attn.proj": "attention.output.dense",
                "mlp.fc1": "intermediate.dense",
                "mlp.fc2": "output.dense",
                "norm1": "layernorm_before",
                "norm2": "layernorm_after",
                "patch_embed.proj": "embeddings.patch_embeddings.projection",
                "norm": "layernorm",
                "": {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}.get(last),
            }[inner]
            made[f"{front}{target}" + (f".{last}" if inner else "")] = tensor
    return made


def small_vit(**arguments: Any) -> nn.Module:
    """Weights so small that the epsilon of norms counts."""
    network = spoiled(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=SIDE, **arguments))
    with torch.no_grad():
        for name in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"):
            network.get_parameter(name).mul_(0.01)
    return network


def with_epsilon(network: nn.Module, eps: float) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps
    return network


def write_folder(folder: Path, state: dict[str, Tensor], settings: dict[str, Any] | None) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(as_transformers_writes(state), folder / "pytorch_model.bin")
    if settings is not None:
        (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_the_epsilon_is_that_of_the_settings_beside_the_file(tmp_path: Path) -> None:
    """Through every way into the zoo, and out of its folder again, through timm too."""
    network = small_vit()
    folder = write_folder(tmp_path / "vit", network.state_dict(), SETTINGS)
    with torch.no_grad():
        usual, wanted = network(images(SIDE)), with_epsilon(network, 1e-12)(images(SIDE))
    assert float((usual - wanted).abs().max()) > 1e-3 * float(wanted.abs().max())
    assert_same_features(folder, network, SIDE, "vit_tiny_patch16_224")
    done = import_checkpoint(folder, tmp_path / "model")
    assert "norms have an epsilon of 1e-12, as its config.json says, where timm's have 1e-06" in done.reading.function.notes
    backbone, manifest = load_zoo_model(tmp_path / "model")
    assert (manifest.name, manifest.timm_native, manifest.arguments) == (
        "vit_tiny_patch16_224.vit",
        False,
        {"norm_layer": "layernorm1e-12"},
    )
    through_timm = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    for other in (backbone, through_timm, open_model(folder).module, open_model(tmp_path / "model").module):
        with torch.no_grad():
            torch.testing.assert_close(other(images(SIDE)), wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)


def test_without_settings_a_file_of_transformers_is_refused_until_the_epsilon_is_said(tmp_path: Path) -> None:
    network = small_vit()
    folder = write_folder(tmp_path / "vit", network.state_dict(), None)
    path = folder / "pytorch_model.bin"
    with pytest.raises(UserError, match=r"which is not beside it: put it there, or say which with --norm-eps 1e-12 or --norm-eps 1e-6"):
        read_backbone(path)
    assert read_backbone(path, hints=Hints(norm_eps=1e-6)).function.arguments == {}
    assert_same_features(path, with_epsilon(network, 1e-5), SIDE, "vit_tiny_patch16_224", hints=Hints(norm_eps=1e-5))
    with pytest.raises(UserError, match=r"2e-06, as --norm-eps says, is none of those that can be built"):
        read_backbone(path, hints=Hints(norm_eps=2e-6))


@pytest.mark.parametrize(("theirs", "function"), [("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x)), ("relu", functional.relu)])
def test_the_activation_is_that_of_the_settings(tmp_path: Path, theirs: str, function: Any) -> None:
    class Written(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            result: Tensor = function(values)
            return result

    network = spoiled(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=SIDE))
    folder = write_folder(tmp_path / "vit", network.state_dict(), SETTINGS | {"layer_norm_eps": 1e-6, "hidden_act": theirs})
    for block in network.blocks:
        block.mlp.act = Written()
    assert_same_features(folder, network, SIDE, "vit_tiny_patch16_224")
    import_checkpoint(folder, tmp_path / "model")
    with torch.no_grad():
        torch.testing.assert_close(open_model(tmp_path / "model").module(images(SIDE)), network(images(SIDE)), rtol=1e-4, atol=1e-5)


def test_heads_are_those_of_the_settings(tmp_path: Path) -> None:
    network = spoiled(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=SIDE, num_heads=12))
    folder = write_folder(tmp_path / "vit", network.state_dict(), SETTINGS | {"layer_norm_eps": 1e-6, "num_attention_heads": 12})
    assert_same_features(folder, network, SIDE, "vit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"hidden_size": 384}, "beside .* is of another network: its hidden_size is 384, and the file's is 192"),
        ({"num_hidden_layers": 6}, "its num_hidden_layers is 6, and the file's is 12"),
        ({"num_attention_heads": 7}, "num_attention_heads 7 of the config.json beside it does not divide the width"),
        ({"num_attention_heads": "3"}, "num_attention_heads '3' of the config.json beside it does not divide the width"),
        ({"hidden_act": "mish"}, "has the activation 'mish' by its config.json, with which timm's vit_tiny_patch16_224 cannot be built"),
        ({"hidden_act": ["gelu"]}, r"has the activation .*by its config.json, with which timm's"),
        ({"layer_norm_eps": [1e-6]}, r"the epsilon of norms \[1e-06\], as its config.json says, is none of those"),
        ({"layer_norm_eps": 0.5}, "the epsilon of norms 0.5, as its config.json says, is none of those"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    folder = write_folder(tmp_path / "vit", small_vit().state_dict(), SETTINGS | changed)
    with pytest.raises(UserError, match=sentence):
        read_backbone(folder)


def test_a_folder_says_how_its_images_are_prepared(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "vit", small_vit().state_dict(), SETTINGS)
    says = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(says))
    opened = open_model(folder)
    assert (opened.mean, opened.std, opened.interpolation) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic")
    done = import_checkpoint(folder, tmp_path / "model")
    _, manifest = load_zoo_model(tmp_path / "model")
    assert (manifest.mean, manifest.std, manifest.interpolation, done.assumed) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic", ())


def test_weights_in_several_files_and_other_folders(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS))
    with pytest.raises(UserError, match="is no model: a zoo model folder holds"):
        open_model(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    for read in (open_model, read_backbone):
        with pytest.raises(UserError, match="are in several files, which are not read; save them in one"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("arch", "eps"),
    [
        ("vit_tiny_patch16_224", 1e-6),
        ("vit_huge_patch14_224", 1e-6),
        ("vit_giant_patch16_gap_224", 1e-6),
        ("vit_small_patch14_reg4_dinov2", 1e-6),
        ("vit_giant_patch14_dinov2", 1e-6),
        ("beit_base_patch16_224", 1e-6),
        ("vit_small_patch16_dinov3", 1e-5),
        ("vit_small_plus_patch16_dinov3_qkvb", 1e-5),
    ],
)
def test_timms_epsilons_are_those_that_are_assumed(arch: str, eps: float) -> None:
    found = {module.eps for module in bare_backbone(arch).modules() if isinstance(module, nn.LayerNorm)}
    assert found == {eps}
    assert eps in NORM_EPSILONS


def test_dinov3s_keys_have_no_bias(tmp_path: Path) -> None:
    """Its files hold a mask for the bias; a bias of the keys that counts is refused, since timm's network has none."""
    network = spoiled(timm.create_model("vit_small_patch16_dinov3_qkvb", num_classes=0, global_pool="token"))
    state = as_dinov3_writes(network.state_dict())
    torch.save(state, tmp_path / "dinov3.pth")
    assert_same_features(tmp_path / "dinov3.pth", network, SIDE, "vit_small_patch16_dinov3_qkvb")
    done = import_checkpoint(tmp_path / "dinov3.pth", tmp_path / "model")
    assert load_zoo_model(done.folder)[1].arguments == {"global_pool": "token"}
    # The whole bias is masked in the published small files.
    for name in [name for name in state if name.endswith("bias_mask")]:
        state[name] = torch.zeros_like(state[name])
    torch.save(state, tmp_path / "masked.pth")
    for name, parameter in network.named_parameters():
        if name.endswith(("q_bias", "v_bias")):
            parameter.data.zero_()
    assert_same_features(tmp_path / "masked.pth", network, SIDE, "vit_small_patch16_dinov3_qkvb")
    counts = {name: tensor for name, tensor in state.items() if not name.endswith("bias_mask")}
    torch.save(counts, tmp_path / "unmasked.pth")
    with pytest.raises(UserError, match=r"12 not part of it \(blocks\.0\.attn\.k_bias"):
        read_backbone(tmp_path / "unmasked.pth")
    state["rope_embed.periods"] = 50 ** (torch.arange(16) / 16)
    torch.save(state, tmp_path / "rotated.pth")
    with pytest.raises(UserError, match=r"1 not part of it \(rope_embed\.periods\)"):
        read_backbone(tmp_path / "rotated.pth")


def as_dinov3_writes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's DINOv3 under its authors' names, with a bias of the keys that the mask hides."""
    made = {"mask_token": torch.zeros(1, 384), "rope_embed.periods": (100 ** (torch.arange(16) / 16)).bfloat16()}
    for name, tensor in state.items():
        if name.endswith("q_bias"):
            front = name.removesuffix("q_bias")
            made[f"{front}qkv.bias"] = torch.cat([tensor, torch.ones_like(tensor), state[f"{front}v_bias"]])
            made[f"{front}qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(len(tensor))
        elif not name.endswith("v_bias"):
            made[name.replace("reg_token", "storage_tokens").replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = tensor
    return made


def test_a_transformer_without_a_bias_of_queries_keys_and_values(tmp_path: Path) -> None:
    network = spoiled(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=SIDE, qkv_bias=False))
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    assert_same_features(tmp_path / "vit.pth", network, SIDE, "vit_tiny_patch16_224")


@pytest.mark.slow
def test_one_table_of_beits_for_all_blocks(tmp_path: Path) -> None:
    """As it is pre-trained: the shared table is each block's, the class token the feature."""
    network = spoiled(timm.create_model("beit_base_patch16_224", num_classes=0, img_size=SIDE, global_pool="token"))
    table = network.blocks[0].attn.relative_position_bias_table
    state = {name: tensor for name, tensor in network.state_dict().items() if "relative_position" not in name}
    state |= {"rel_pos_bias.relative_position_bias_table": table.data, "mask_token": torch.zeros(1, 1, 768), **linear("lm_head.")}
    state["rel_pos_bias.relative_position_index"] = torch.zeros(17, 17, dtype=torch.long)
    with torch.no_grad():
        for block in network.blocks:
            block.attn.relative_position_bias_table.copy_(table)
    torch.save({"model": state}, tmp_path / "beit_pt22k.pth")
    assert_same_features(tmp_path / "beit_pt22k.pth", network, SIDE, "beit_base_patch16_224")
    import_checkpoint(tmp_path / "beit_pt22k.pth", tmp_path / "model")
    assert load_zoo_model(tmp_path / "model")[1].arguments == {"global_pool": "token"}


def test_ijepas_network_is_kept_in_a_zoo_model(tmp_path: Path) -> None:
    network = spoiled(
        timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=SIDE, class_token=False, global_pool="avg", fc_norm=False)
    )
    content = {"target_encoder": behind("module.", network.state_dict()), "encoder": {}, "predictor": {"module.x": torch.zeros(1)}}
    torch.save(content, tmp_path / "ijepa.tar")
    import_checkpoint(tmp_path / "ijepa.tar", tmp_path / "model")
    backbone, manifest = load_zoo_model(tmp_path / "model")
    assert (manifest.encoder, manifest.timm_native) == ("target", True)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images(SIDE)), network(images(SIDE)))


def test_msns_target_encoder(tmp_path: Path) -> None:
    network = spoiled(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=SIDE))
    target = behind("module.", {**network.state_dict(), **linear("fc.fc1."), **linear("fc.fc2.")})
    content = {
        "encoder": {name: tensor + 1 for name, tensor in target.items()},
        "opt": {"state": {}, "param_groups": []},
        "prototypes": torch.zeros(8, 4),
        "target_encoder": target,
        "epoch": 600,
        "temperature": 0.1,
    }
    torch.save(content, tmp_path / "vitt16_600ep.pth.tar")
    assert_same_features(tmp_path / "vitt16_600ep.pth.tar", network, SIDE, "vit_tiny_patch16_224")
    reading = read_backbone(tmp_path / "vitt16_600ep.pth.tar")
    assert (reading.reader.name, reading.encoder, reading.method, reading.epochs) == ("msn", "target", "msn", 600)


def test_openmmlabs_resnet_v1d(tmp_path: Path) -> None:
    """A deep stem and shortcuts that average, written out here; timm's resnet18d under OpenMMLab's names."""
    state = spoiled(timm.create_model("resnet18d", num_classes=0)).state_dict()
    stem = {"conv1.0.": "stem.0.conv.", "conv1.1.": "stem.0.bn.", "conv1.3.": "stem.1.conv.", "conv1.4.": "stem.1.bn."}
    stem |= {"conv1.6.": "stem.2.conv.", "bn1.": "stem.2.bn."}
    theirs = {
        next((there + name.removeprefix(here) for here, there in stem.items() if name.startswith(here)), name): tensor
        for name, tensor in state.items()
    }
    assert "layer1.0.downsample.1.weight" not in theirs  # no shortcut there in a ResNet-18
    content = {"meta": {"mmengine_version": "0.10.7", "cfg": "type='ResNetV1d'"}, "state_dict": behind("backbone.", theirs)}
    torch.save(content, tmp_path / "v1d.pth")

    def forward(x: Tensor) -> Tensor:
        def norm(values: Tensor, name: str) -> Tensor:
            parts = (theirs[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
            return functional.batch_norm(values, *parts, training=False, eps=1e-5)

        for layer, stride in ((0, 2), (1, 1), (2, 1)):
            x = functional.relu(
                norm(functional.conv2d(x, theirs[f"stem.{layer}.conv.weight"], stride=stride, padding=1), f"stem.{layer}.bn")
            )
        x = functional.max_pool2d(x, 3, 2, 1)
        for stage in (1, 2, 3, 4):
            for block in (0, 1):
                front, stride, shortcut = f"layer{stage}.{block}.", 2 if stage > 1 and block == 0 else 1, x
                if f"{front}downsample.1.weight" in theirs:
                    shortcut = functional.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
                    shortcut = norm(functional.conv2d(shortcut, theirs[f"{front}downsample.1.weight"]), f"{front}downsample.2")
                inner = norm(functional.conv2d(x, theirs[f"{front}conv1.weight"], stride=stride, padding=1), f"{front}bn1")
                inner = norm(functional.conv2d(functional.relu(inner), theirs[f"{front}conv2.weight"], padding=1), f"{front}bn2")
                x = functional.relu(inner + shortcut)
        return x.mean((2, 3))

    assert_same_features(tmp_path / "v1d.pth", forward, 65, "resnet18d")


def test_stride_and_activation_of_transformers_resnets(tmp_path: Path) -> None:
    """`downsample_in_bottleneck` moves a stride that no shape tells."""
    names = {"embedder.embedder.convolution.weight": torch.zeros(64, 3, 7, 7)}

    for settings, sentence in (
        ({"downsample_in_bottleneck": True}, "has its stride in the first convolution of a block"),
        ({"hidden_act": "silu"}, "has the activation 'silu' by its config.json, and timm's resnet50 has relu"),
    ):
        with pytest.raises(UserError, match=sentence):
            decide_function(Evidence("file", "transformers", "resnet50", names, {}, (), "transformers", settings))


@pytest.mark.parametrize(
    ("hints", "sentence"),
    [
        (Hints(heads=3), "--heads is for vision transformers"),
        (Hints(norm_eps=1e-6), "--norm-eps is for vision transformers"),
        (Hints(stem_padding=2), "--stem-padding is for ResNets with the small-image stem"),
    ],
)
def test_hints_that_have_nothing_to_say(tmp_path: Path, hints: Hints, sentence: str) -> None:
    torch.save(spoiled(timm.create_model("resnet18", num_classes=0)).state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=sentence):
        read_backbone(tmp_path / "resnet.pth", hints=hints)
