"""What the packages of others write, by those packages: transformers, stable-pretraining, lightly and lightly-train, with random weights.

Whatever was read must give the features of the network that wrote it, to 1e-5 of the largest. They need the extra ``peers``, and are
skipped without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from test_dialects import assert_same_features, images, spoiled
from torch import Tensor, nn

from zoo.errors import UserError
from zoo.formats.dialects import translate
from zoo.formats.engine import read_backbone
from zoo.model_folder.importing import import_checkpoint
from zoo.model_spec import open_model

pytestmark = pytest.mark.slow
MISSING = "the extra 'peers' is not installed: pip install 'backbone-loop[peers]'"
Features = Callable[[Tensor], Tensor]
SIDE = 64
SMALL = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768, "image_size": SIDE, "patch_size": 16}


def peer(name: str) -> Any:
    return pytest.importorskip(name, reason=MISSING)


def _token(output: Any) -> Tensor:
    token: Tensor = output.last_hidden_state[:, 0]
    return token


# With the settings that transformers gives by itself: norms with an epsilon of 1e-12, save MSN's.
TRANSFORMERS: dict[str, tuple[Callable[[Any], nn.Module], Callable[[Any, Tensor], Tensor], str]] = {
    "ViT": (lambda t: t.ViTModel(t.ViTConfig(**SMALL)), lambda m, x: _token(m(x)), "vit_tiny_patch16_224"),
    "ViT, quick GELU, 12 heads": (
        lambda t: t.ViTForImageClassification(t.ViTConfig(**SMALL | {"hidden_act": "quick_gelu", "num_attention_heads": 12})),
        lambda m, x: _token(m.vit(x)),
        "vit_tiny_patch16_224",
    ),
    "ViT, no bias": (lambda t: t.ViTModel(t.ViTConfig(**SMALL, qkv_bias=False)), lambda m, x: _token(m(x)), "vit_tiny_patch16_224"),
    "MAE": (
        lambda t: t.ViTMAEForPreTraining(t.ViTMAEConfig(**SMALL, decoder_num_hidden_layers=1, mask_ratio=0.0)),
        lambda m, x: _token(m.vit(x, noise=torch.arange(16.0).repeat(len(x), 1))),
        "vit_tiny_patch16_224",
    ),
    "MSN": (lambda t: t.ViTMSNModel(t.ViTMSNConfig(**SMALL)), lambda m, x: _token(m(x)), "vit_tiny_patch16_224"),
    "I-JEPA": (lambda t: t.IJepaModel(t.IJepaConfig(**SMALL)), lambda m, x: m(x).last_hidden_state.mean(1), "vit_tiny_patch16_224"),
    "BEiT, pre-trained": (
        lambda t: t.BeitForMaskedImageModeling(
            t.BeitConfig(image_size=SIDE, use_shared_relative_position_bias=True, layer_norm_eps=1e-6, vocab_size=9)
        ),
        lambda m, x: m.layernorm(m.beit(x).last_hidden_state)[:, 0],
        "beit_base_patch16_224",
    ),
}


@pytest.mark.parametrize("name", list(TRANSFORMERS))
def test_a_folder_of_transformers(tmp_path: Path, name: str) -> None:
    transformers = peer("transformers")
    make, features, arch = TRANSFORMERS[name]
    network = spoiled(make(transformers))
    network.save_pretrained(tmp_path / "theirs")
    assert_same_features(tmp_path / "theirs", lambda x: features(network, x), SIDE, arch)
    # And as a zoo model, which timm loads.
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    with torch.no_grad():
        wanted = features(network, images(SIDE))
        found = open_model(tmp_path / "ours").module(images(SIDE))
    torch.testing.assert_close(found, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)


def test_a_folder_of_an_image_processor(tmp_path: Path) -> None:
    transformers = peer("transformers")
    spoiled(transformers.ViTModel(transformers.ViTConfig(**SMALL))).save_pretrained(tmp_path)
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": 80}, crop_size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.25] * 3, resample=3
    )
    processor.save_pretrained(tmp_path)
    opened = open_model(tmp_path)
    assert (opened.mean, opened.std, opened.interpolation, opened.crop_pct) == ((0.5,) * 3, (0.25,) * 3, "bicubic", 0.8)


def _saved(module: Any, path: Path) -> Path:
    """As Lightning writes a run's checkpoint."""
    lightning = peer("lightning")
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_epochs=1)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    return path


_HEAD = {"projector_hidden_dim": 16, "projector_bottleneck_dim": 8}
_TWO = {"n_cls_prototypes": 16, "n_patch_prototypes": 16, **_HEAD}
_VIT = "vit_tiny_patch16_224"
# Method, its small settings, where its network is, which reader and network are right.
STABLE: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "DINO": ({"n_prototypes": 16, **_HEAD}, "backbone.teacher", "stable_pretraining", "teacher"),
    "DINOv2": (_TWO, "backbone.teacher", "stable_pretraining", "teacher"),
    "iBOT": (_TWO, "backbone.teacher", "stable_pretraining", "teacher"),
    "MSN": ({"n_prototypes": 16, **_HEAD}, "backbone.teacher", "stable_pretraining", "teacher"),
    "MoCov3": ({"projector_dims": (16, 16, 8), "predictor_hidden_dim": 16}, "backbone.teacher", "stable_pretraining", "teacher"),
    "IJEPA": ({"predictor_embed_dim": 32, "predictor_depth": 1}, "encoder.teacher.vit", "stable_pretraining", "teacher"),
    "MAE": ({"decoder_embed_dim": 32, "decoder_depth": 1, "decoder_num_heads": 2}, "encoder.vit", "general", "online"),
    "BEiT": ({}, "encoder", "general", "online"),
    "SimCLR": ({"projector_dims": (16, 8)}, "backbone", "general", "online"),
}


@pytest.mark.parametrize("name", list(STABLE))
def test_a_run_of_stable_pretraining(tmp_path: Path, name: str) -> None:
    methods = peer("stable_pretraining").methods
    settings, place, reader, encoder = STABLE[name]
    module = spoiled(getattr(methods, name)(_VIT, **settings))
    path = _saved(module, tmp_path / "run.ckpt")
    network = module.get_submodule(place)
    assert_same_features(path, network, 224, _VIT)
    reading = read_backbone(path)
    assert (reading.reader.name, reading.encoder, reading.accounting.unknown if reader != "general" else ()) == (reader, encoder, ())
    if encoder == "teacher":
        assert_same_features(path, module.get_submodule(place.replace("teacher", "student")), 224, _VIT, encoder="student")


def test_stable_pretrainings_small_stem_is_not_solo_learns(tmp_path: Path) -> None:
    methods = peer("stable_pretraining").methods
    module = spoiled(methods.SimCLR("resnet18", projector_dims=(16, 8), low_resolution=True))
    path = _saved(module, tmp_path / "run.ckpt")
    assert_same_features(path, module.backbone, 32, "resnet18_small")


def test_registers_that_stable_pretraining_adds_are_refused(tmp_path: Path) -> None:
    """Its DINOv3 is a plain network with tokens put between others: timm's of these shapes would be another function."""
    methods = peer("stable_pretraining").methods
    path = _saved(spoiled(methods.DINOv3(_VIT, **_TWO)), tmp_path / "run.ckpt")
    with pytest.raises(UserError, match="is not a plain ViT"):
        read_backbone(path)


def _class_token(network: Any) -> Features:
    def features(x: Tensor) -> Tensor:
        token: Tensor = network(x, is_training=True)["x_norm_clstoken"]
        return token

    return features


@pytest.mark.parametrize("settings", [{}, {"num_register_tokens": 4}, {"block_chunks": 4, "num_register_tokens": 4}], ids=str)
def test_dinov2s_own_class(tmp_path: Path, settings: dict[str, int]) -> None:
    """lightly-train carries it along."""
    peer("lightly_train")
    from lightly_train._models.dinov2_vit.dinov2_vit_src.models import vision_transformer

    network = spoiled(vision_transformer.vit_small(patch_size=14, img_size=56, init_values=1e-5, **settings))
    arch = f"vit_small_patch14_{'reg4_' if 'num_register_tokens' in settings else ''}dinov2"
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    assert_same_features(tmp_path / "bare.pth", _class_token(network), 56, arch)
    teacher = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()} | {"dino_head.mlp.0.weight": torch.zeros(2, 2)}
    torch.save({"teacher": teacher}, tmp_path / "teacher_checkpoint.pth")
    assert_same_features(tmp_path / "teacher_checkpoint.pth", _class_token(network), 56, arch)


def test_the_gated_layers_of_dinov2s_own_class() -> None:
    """Those of the giant network, in one that fits into memory: timm's giant with other widths takes the translated tensors."""
    peer("lightly_train")
    from lightly_train._models.dinov2_vit.dinov2_vit_src.models import vision_transformer

    shape = {"embed_dim": 96, "depth": 2, "num_heads": 3}
    network = spoiled(
        vision_transformer.DinoVisionTransformer(
            img_size=28, patch_size=14, mlp_ratio=4, ffn_layer="swiglufused", init_values=1e-5, block_chunks=0, **shape
        )
    )
    translated = translate(network.state_dict())
    assert translated is not None
    ours = timm.create_model("vit_giant_patch14_dinov2", num_classes=0, img_size=28, **shape).eval()
    ours.load_state_dict(translated.tensors)
    with torch.no_grad():
        torch.testing.assert_close(ours(images(28)), _class_token(network)(images(28)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gated", [False, True])
def test_dinov3s_own_class(tmp_path: Path, gated: bool) -> None:
    """lightly-train carries it along; settings as the authors' functions for the published networks have them."""
    peer("lightly_train")
    from lightly_train._models.dinov3.dinov3_src.models.vision_transformer import DinoVisionTransformer

    network: Any = DinoVisionTransformer(
        embed_dim=384,
        depth=12,
        num_heads=6,
        layerscale_init=1e-5,
        n_storage_tokens=4,
        norm_layer="layernormbf16",
        ffn_ratio=6 if gated else 4,
        ffn_layer="swiglu" if gated else "mlp",
        mask_k_bias=True,
        pos_embed_rope_base=100,
        pos_embed_rope_rescale_coords=2,
        pos_embed_rope_dtype="fp32",
    )
    network.init_weights()
    network = spoiled(network)
    torch.save(network.state_dict(), tmp_path / "dinov3.pth")
    arch = f"vit_small_{'plus_' if gated else ''}patch16_dinov3_qkvb"
    assert_same_features(tmp_path / "dinov3.pth", _class_token(network), 64, arch)


def test_dinov3s_convnext(tmp_path: Path) -> None:
    peer("lightly_train")
    from lightly_train._models.dinov3.dinov3_src.models.convnext import ConvNeXt

    network: Any = ConvNeXt(depths=[3, 3, 9, 3], dims=[96, 192, 384, 768])
    network.init_weights()
    network = spoiled(network)
    torch.save(network.state_dict(), tmp_path / "dinov3.pth")
    assert_same_features(tmp_path / "dinov3.pth", _class_token(network), 64, "convnext_tiny")


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/vit_tiny_patch16_224", "dinov2/_vittest14", "torchvision/convnext_tiny"])
def test_what_lightly_train_exports(tmp_path: Path, name: str) -> None:
    lightly_train = peer("lightly_train")
    from lightly_train._checkpoint import Checkpoint, CheckpointLightlyTrain, CheckpointLightlyTrainModels
    from lightly_train._models import package_helpers
    from lightly_train._models.embedding_model import EmbeddingModel
    from lightly_train._transforms.transform import NormalizeArgs

    wrapped: Any = package_helpers.get_wrapped_model(name, num_input_channels=3)
    model = spoiled(wrapped.get_model())
    embedding = EmbeddingModel(wrapped)
    models = CheckpointLightlyTrainModels(model=model, wrapped_model=wrapped, embedding_model=embedding)
    Checkpoint(
        state_dict=embedding.state_dict(), lightly_train=CheckpointLightlyTrain.from_now(models=models, normalize_args=NormalizeArgs())
    ).save(tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="part='model', format='torch_state_dict'"):
        read_backbone(tmp_path / "last.ckpt", trust_pickle=True)
    lightly_train.export(
        out=tmp_path / "exported.pt", checkpoint=tmp_path / "last.ckpt", part="model", format="torch_state_dict", overwrite=True
    )
    if name.startswith("dinov2"):
        with pytest.raises(UserError, match="is not a plain ViT"):  # a size of its own tests
            read_backbone(tmp_path / "exported.pt")
        return
    network: Any = spoiled(model)
    if name == "torchvision/resnet18":
        network.fc = nn.Identity()
    elif name == "torchvision/convnext_tiny":
        network.classifier[2] = nn.Identity()
    elif hasattr(network, "reset_classifier"):
        network.reset_classifier(0)
    assert_same_features(tmp_path / "exported.pt", network, 224, name.partition("/")[2])


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_lightlys_vision_transformers(tmp_path: Path, library: str) -> None:
    peer("lightly")
    from lightly.models import modules

    if library == "timm":
        vit = spoiled(timm.create_model(_VIT, num_classes=0))
        backbone: Any = modules.MaskedVisionTransformerTIMM(vit=vit)
        arch = _VIT
    else:
        vit = torchvision.models.vit_b_32(weights=None)
        vit.heads = nn.Identity()
        backbone = modules.MaskedVisionTransformerTorchvision(vit=spoiled(vit))
        arch = "vit_base_patch32_224"
    module = nn.ModuleDict({"backbone": backbone, "decoder": nn.Linear(8, 8)}).eval()
    content = {"state_dict": module.state_dict(), "pytorch-lightning_version": "2.6.6", "epoch": 1, "global_step": 1}
    torch.save(content, tmp_path / "lightly.ckpt")
    assert_same_features(tmp_path / "lightly.ckpt", lambda x: backbone.encode(x)[:, 0], 224, arch)
