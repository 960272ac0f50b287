"""Telling architectures from shapes: every network that is told is the one that the shapes were taken from."""

from __future__ import annotations

import pytest
import timm
import torch

import zoo.backbones  # noqa: F401 - registers the small stems
from zoo.errors import UserError
from zoo.formats.architecture import infer_architecture


def shapes_of(arch: str, **settings: object) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = timm.create_model(arch, num_classes=0, **settings)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    "arch",
    [
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        *("resnet10_small", "resnet18_small", "resnet34_small", "resnet50_small"),
        *("resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d"),
        *("wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d"),
        *("resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
        *("convnext_tiny", "convnext_small", "convnext_base", "convnext_large", "convnext_xlarge"),
    ],
)
def test_networks_of_convolutions(arch):
    found = infer_architecture(shapes_of(arch))
    assert (found.name, found.image_size) == (arch, None)


@pytest.mark.parametrize(
    ("arch", "side"),
    [
        ("vit_tiny_patch16_224", 224),
        ("vit_small_patch16_224", 224),
        ("vit_small_patch8_224", 96),
        ("vit_base_patch16_224", 384),
        ("vit_base_patch8_224", 224),
        ("vit_base_patch32_224", 224),
        ("vit_large_patch16_224", 224),
        ("vit_small_patch14_dinov2", 518),
        ("vit_base_patch14_dinov2", 224),
        ("vit_large_patch14_dinov2", 518),
        ("vit_giant_patch14_dinov2", 518),
        ("vit_small_patch14_reg4_dinov2", 518),
        ("vit_base_patch14_reg4_dinov2", 224),
        ("vit_huge_patch14_224", 224),
        ("vit_huge_patch14_gap_224", 224),
        ("vit_huge_patch16_gap_448", 448),
        ("vit_giant_patch16_gap_224", 224),
        ("beit_base_patch16_224", 224),
        ("beit_large_patch16_224", 384),
    ],
)
def test_vision_transformers(arch, side):
    found = infer_architecture(shapes_of(arch, img_size=side))
    assert (found.name, found.image_size) == (arch, side)


@pytest.mark.parametrize(
    "arch",
    [
        "vit_small_patch16_dinov3",
        "vit_small_patch16_dinov3_qkvb",
        "vit_small_plus_patch16_dinov3",
        "vit_base_patch16_dinov3",
        "vit_large_patch16_dinov3_qkvb",
        "vit_huge_plus_patch16_dinov3",
        "swin_tiny_patch4_window7_224",
        "swin_small_patch4_window7_224",
        "swin_base_patch4_window7_224",
        "swin_large_patch4_window7_224",
    ],
)
def test_networks_whose_weights_tell_no_size(arch):
    found = infer_architecture(shapes_of(arch))
    assert (found.name, found.image_size) == (arch, None)


def _changed(arch: str, **shapes: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    """The shapes of a network with some changed, or left out where None; a double underscore stands for a dot."""
    changed = shapes_of(arch)
    for name, shape in shapes.items():
        if shape is None:
            del changed[name.replace("__", ".")]
        else:
            changed[name.replace("__", ".")] = shape
    return changed


_TABLE = "layers__0__blocks__0__attn__relative_position_bias_table"


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (_changed("resnet50", conv1__weight=(128, 3, 7, 7)), "wider than a ResNet-50 in every layer, conv1 too, and no timm network is"),
        (_changed("resnet50", conv1__weight=(64, 3, 5, 5)), r"a ResNet of 3-4-6-3 bottleneck blocks whose conv1 is \[64, 3, 5, 5\]"),
        (_changed("resnet50", conv1__weight=(64, 1, 7, 7)), "is no architecture of this toolkit"),
        (_changed("resnet50", conv1__weight=(64,)), "is no architecture of this toolkit"),
        (_changed("resnet18", layer1__0__conv2__weight=(96, 64, 3, 3)), "96 channels in 1 groups inside"),
        (_changed("resnet18", layer5__0__conv1__weight=(9, 9, 3, 3)), "a ResNet of 2-2-2-2-1 basic blocks"),
        (_changed("vit_small_patch14_reg4_dinov2", reg_token=(1, 5, 384)), "is not a plain ViT"),
        (_changed("vit_small_patch16_dinov3", reg_token=(1, 5, 384)), "is not a plain ViT"),
        (_changed("swin_tiny_patch4_window7_224", **{_TABLE: (225, 3)}), "a Swin transformer of 2-2-6-2 blocks"),
        (shapes_of("deit3_small_patch16_224"), "is not a plain ViT"),
        (shapes_of("convnext_nano"), "a ConvNeXt of 2-2-8-2 blocks"),
        (shapes_of("convnextv2_tiny"), "a ConvNeXt of 3-3-9-3 blocks"),
        (_changed("vit_tiny_patch16_224", pos_embed=(1, 198, 192)), "no ViT of a size that is told from shapes"),
        (_changed("vit_tiny_patch16_224", pos_embed=(1, 1, 192)), "no ViT of a size that is told from shapes"),
        (_changed("vit_tiny_patch16_224", pos_embed=(0,)), "is not a plain ViT"),
        (_changed("vit_tiny_patch16_224", cls_token=None), "no ViT of a size that is told from shapes"),
        (shapes_of("resnet50t"), "stem has convolutions of 24, 32, 64 channels is none that is told"),
        (shapes_of("resnet50s"), "cannot be told from the names of the tensors"),
        (shapes_of("resnet50c"), "cannot be told from the names of the tensors"),
        (shapes_of("ecaresnet50d"), "stem has convolutions of 32, 32, 64 channels is none that is told"),
        ({}, r"cannot be told from the names of the tensors \(none"),
        ({"conv1.weight": (64, 3, 7, 7), "layer1.weight": (3,)}, "is no architecture of this toolkit"),
    ],
)
def test_what_is_not_told_is_said(shapes, sentence):
    with pytest.raises(UserError, match=sentence):
        infer_architecture(shapes)
