"""Backbones: key names, parameter counts and features against torchvision and hand-computed values."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from zoo.backbones import (
    WeightsError,
    checked,
    create_backbone,
    create_empty_backbone,
    is_timm_native,
    load_backbone,
    load_state,
    native_size,
)
from zoo.errors import UserError
from zoo.model_folder.importing import Preprocessing, import_checkpoint
from zoo.model_folder.manifest import read_manifest
from zoo.model_spec import open_model


def parameter_count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_resnets_have_torchvisions_keys_shapes_and_features(arch):
    reference = torchvision.models.get_model(arch, weights=None)
    reference.fc = nn.Identity()
    backbone = create_backbone(arch)
    ours, theirs = backbone.state_dict(), reference.state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: tensor.shape for key, tensor in theirs.items()}
    reference.load_state_dict(ours)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(backbone.eval()(images), reference.eval()(images), rtol=1e-6, atol=1e-6)


def test_resnet50_has_the_published_number_of_tensors_and_parameters():
    backbone = create_backbone("resnet50")
    assert len(backbone.state_dict()) == 318
    assert parameter_count(backbone) == 23_508_032
    assert backbone.num_features == 2048


@pytest.mark.parametrize(
    ("arch", "with_10_classes"),
    # ResNet-18 and -50 for CIFAR-10 as the literature counts them; ResNet-34 = torchvision's 21,284,672 without fc, less the
    # difference of the stems (64*3*(49-9) = 7,680), plus a 512x10 classifier.
    [("resnet18_small", 11_173_962), ("resnet34_small", 21_284_672 - 7_680 + 5_130), ("resnet50_small", 23_520_842)],
)
def test_small_stem_parameter_counts(arch, with_10_classes):
    assert parameter_count(timm.create_model(arch, num_classes=10)) == with_10_classes


def test_small_stem_changes_the_stem_alone():
    small, large = create_backbone("resnet18_small").eval(), create_backbone("resnet18").eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in small.state_dict().items()}
    expected = {key: tuple(tensor.shape) for key, tensor in large.state_dict().items()} | {"conv1.weight": (64, 3, 3, 3)}
    assert shapes == expected
    assert (small.conv1.stride, small.conv1.padding) == ((1, 1), (1, 1))
    assert small.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 512, 4, 4)
    assert large.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 512, 1, 1)


def test_small_stem_reports_the_reduction_of_each_stage():
    stages = timm.create_model("resnet18_small", features_only=True)
    sides = [stage.shape[-1] for stage in stages(torch.zeros(1, 3, 32, 32))]
    assert [32 // reduction for reduction in stages.feature_info.reduction()] == sides == [32, 32, 16, 8, 4]


def test_small_stem_equals_a_network_put_together_by_hand():
    small = create_backbone("resnet18_small").eval()
    by_hand = torchvision.models.resnet18()
    by_hand.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    by_hand.maxpool, by_hand.fc = nn.Identity(), nn.Identity()
    by_hand.load_state_dict(small.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(small(images), by_hand.eval()(images), rtol=1e-6, atol=1e-6)


def test_vision_transformer_gives_its_class_token():
    backbone = create_backbone("vit_tiny_patch16_224", image_size=32).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = backbone.forward_features(images)
        assert tokens.shape == (2, 1 + 4, 192)
        torch.testing.assert_close(backbone(images), tokens[:, 0], rtol=0, atol=0)


def test_vision_transformer_without_class_token_gives_the_mean_of_its_patches():
    backbone = create_backbone("vit_medium_patch16_gap_240", image_size=32).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = backbone.forward_features(images)
        assert tokens.shape == (2, 4, 512)
        torch.testing.assert_close(backbone(images), tokens.mean(1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("arch", ["mobilenetv3_small_100", "convnext_atto", "swin_tiny_patch4_window7_224", "xcit_nano_12_p16_224"])
def test_num_features_is_the_length_of_a_feature(arch):
    backbone = create_backbone(arch, image_size=64).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, backbone.num_features)


def test_checking_the_size_leaves_mode_and_statistics_alone():
    backbone = create_backbone("resnet10t", image_size=32)
    assert backbone.training
    assert backbone.bn1.num_batches_tracked == 0
    assert torch.equal(backbone.bn1.running_mean, torch.zeros(64))


@pytest.mark.parametrize(
    ("arch", "image_size", "sentence"),
    [
        ("resnet81", None, "no architecture 'resnet81'; did you mean 'resnet"),
        ("resnet18_smal", None, "did you mean 'resnet18_small"),
        ("", None, "no architecture ''"),
        ("resnet50.a1_in1k", None, "names weights, not an architecture: use 'resnet50'"),
        ("vit_tiny_patch16_224", 8, "patches of 16 px, larger than images of 8 px"),
        ("vit_tiny_patch16_224", 40, "40 px is not a multiple"),
        ("inception_v3", 32, "does not take images of 32 px .* its own size is 299 px"),
        ("crossvit_9_240", 48, "does not take images of 48 px .* its own size is 240 px"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(arch, image_size, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        create_backbone(arch, image_size=image_size)
    assert "\n" not in str(refusal.value)


def test_small_stems_are_the_ones_timm_does_not_know():
    assert not is_timm_native("resnet18_small")
    assert is_timm_native("resnet18")


def test_an_empty_backbone_costs_no_random_number():
    before = torch.get_rng_state()
    create_empty_backbone("resnet10t")
    assert torch.equal(torch.get_rng_state(), before)


def test_load_state_names_every_kind_of_misfit_and_changes_nothing():
    backbone = create_backbone("resnet10t")
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    state = {key: tensor + 1 for key, tensor in before.items()}
    del state["layer1.0.conv1.weight"]
    state["fc.weight"] = torch.zeros(10, 512)
    state["bn1.weight"] = torch.zeros(65)
    state["bn1.bias"] = torch.zeros(64, dtype=torch.int64)
    with pytest.raises(UserError) as refusal:
        load_state(backbone, state, "somewhere.pt")
    assert str(refusal.value) == (
        "the weights of somewhere.pt do not fit 'resnet10t': 1 missing (layer1.0.conv1.weight); 1 not part of it (fc.weight); "
        "1 of another shape (bn1.weight (65,) for (64,)); 1 of another type (bn1.bias torch.int64 for torch.float32)"
    )
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())


def test_load_state_names_a_few_of_many_missing_keys():
    backbone = create_backbone("resnet10t")
    with pytest.raises(UserError, match=r"missing \(bn1.bias, .* and \d+ more\)"):
        load_state(backbone, {}, "nothing")


def test_batch_counters_may_be_absent_altogether_but_not_in_part():
    backbone = create_backbone("resnet10t")
    backbone.bn1.num_batches_tracked.fill_(5)
    whole = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    counters = [key for key in whole if key.endswith("num_batches_tracked")]
    load_state(backbone, {key: tensor for key, tensor in whole.items() if key not in counters}, "an old file")
    assert backbone.bn1.num_batches_tracked == 0
    with pytest.raises(UserError, match=f"1 missing .{counters[-1]}"):
        load_state(backbone, {key: tensor for key, tensor in whole.items() if key != counters[-1]}, "a broken file")


def test_half_precision_weights_are_widened_exactly():
    backbone = create_backbone("resnet10t")
    half = {key: tensor.bfloat16() if tensor.is_floating_point() else tensor for key, tensor in backbone.state_dict().items()}
    load_state(backbone, half, "a half-precision file")
    assert torch.equal(backbone.state_dict()["conv1.0.weight"], half["conv1.0.weight"].float())


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet18_small"])
def test_residual_blocks_start_as_torchvisions_do(arch: str) -> None:
    last = "bn3" if arch == "resnet50" else "bn2"
    weights = [p for name, p in create_backbone(arch).named_parameters() if name.endswith(f"{last}.weight")]
    assert weights
    assert all(torch.equal(weight, torch.ones_like(weight)) for weight in weights)


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit", "resnet10_small", "test_efficientnet"])
@pytest.mark.parametrize("copy", [True, False])
def test_a_backbone_of_given_weights_has_them_and_leaves_the_generator_alone(arch, copy):
    torch.manual_seed(3)
    trained = create_backbone(arch)
    state = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    before = torch.get_rng_state()
    backbone = load_backbone(arch, state, "the test", copy=copy)
    assert torch.equal(torch.get_rng_state(), before)
    assert not backbone.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in backbone.state_dict().items())
    images = torch.randn(2, 3, native_size(backbone), native_size(backbone))
    with torch.no_grad():
        assert torch.equal(backbone(images), trained.eval()(images))
    kept = [name for name, tensor in backbone.state_dict().items() if tensor.data_ptr() == state[name].data_ptr() and tensor.numel()]
    assert (len(kept) == 0) if copy else (len(kept) == len(state))


def test_weights_that_share_memory_or_are_views_are_copied_all_the_same():
    trained = create_backbone("resnet10_small")
    state = dict(trained.state_dict())
    first, *others = [name for name in state if name.endswith("bn1.weight") and state[name].shape == state["bn1.weight"].shape]
    state = {name: tensor.clone() for name, tensor in state.items()}
    state[others[0]] = state[first]
    state["conv1.weight"] = torch.cat([state["conv1.weight"], state["conv1.weight"]])[: len(state["conv1.weight"])]
    backbone = load_backbone("resnet10_small", state, "the test", copy=False)
    found = backbone.state_dict()
    assert found[first].data_ptr() != found[others[0]].data_ptr()
    assert found["conv1.weight"].data_ptr() != state["conv1.weight"].data_ptr()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())


def test_weights_that_do_not_fit_name_what_is_missing():
    state = create_backbone("resnet10_small").state_dict()
    del state["conv1.weight"]
    with pytest.raises(WeightsError, match=r"the weights of the test do not fit 'resnet10_small': 1 missing \(conv1\.weight\)") as error:
        load_backbone("resnet10_small", state, "the test")
    assert error.value.missing == ("conv1.weight",)
    assert "bn1.weight" in error.value.wanted


def test_a_large_side_is_checked_without_computing():
    """A ResNet takes images of any size: whether it takes those of 8192 px is known without the 5 GB that one of them needs."""
    network = create_empty_backbone("resnet18")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert checked(network, "resnet18", 8192) is network
    with pytest.raises(UserError, match="'vit_tiny_patch16_224' does not take images of 8192 px"):
        checked(create_empty_backbone("vit_tiny_patch16_224"), "vit_tiny_patch16_224", 8192)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB
    assert not any(tensor.is_meta for tensor in network.state_dict().values())


@pytest.mark.parametrize(("arch", "before", "after"), [("vit_tiny_patch16_224", 64, 96), ("vit_small_patch14_reg4_dinov2", 56, 84)])
def test_another_size_of_images_is_timms_own_interpolation(tmp_path: Path, arch: str, before: int, after: int) -> None:
    """Of a file, a zoo model and a random network of theirs: as timm itself loads these weights into a network for the other size."""
    source = create_backbone(arch, image_size=before)
    with torch.no_grad():
        source.pos_embed.normal_(0, 0.3)
    state = source.state_dict()
    theirs = timm.create_model(arch, num_classes=0, img_size=after).eval()
    theirs.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(dict(state), theirs))
    torch.save(state, tmp_path / "vit.pth")
    images = torch.randn(2, 3, after, after, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = theirs(images)
    opened = open_model(tmp_path / "vit.pth", image_size=after)
    assert f"interpolated from images of {before} px to {after} px" in " ".join(opened.notes)
    imported = import_checkpoint(tmp_path / "vit.pth", tmp_path / "whole", preprocessing=Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)))
    resized = import_checkpoint(
        tmp_path / "vit.pth", tmp_path / "resized", preprocessing=Preprocessing(image_size=after, mean=(0, 0, 0), std=(1, 1, 1))
    )
    assert "resized" not in read_manifest(imported.folder).source
    manifest = read_manifest(resized.folder)
    assert (manifest.image_size, f"from images of {before} px to {after} px" in manifest.source["resized"]) == (after, True)
    for model in (opened, open_model(imported.folder, image_size=after), open_model(resized.folder)):
        with torch.no_grad():
            torch.testing.assert_close(model.module(images), wanted, atol=0, rtol=0)
    with pytest.raises(UserError, match="and 100 px is not a multiple of that"):
        open_model(tmp_path / "vit.pth", image_size=100)
