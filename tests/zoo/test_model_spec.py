"""Opening models by one word."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

import zoo
from zoo.errors import UserError
from zoo.hashing import tensors_sha256
from zoo.model_spec import open_model
from zoo.models.runs import read_checkpoint


def images(side: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def features(network: torch.nn.Module, side: int = 32) -> torch.Tensor:
    with torch.no_grad():
        return network(images(side))


def test_random_weights_depend_on_the_seed_alone_and_leave_the_callers_stream_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = open_model("random:resnet10t:3")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert open_model("random:resnet10t:3").tensors_sha256 == first.tensors_sha256
    assert open_model("random:resnet10t:4").tensors_sha256 != first.tensors_sha256
    assert open_model("random:resnet10t").tensors_sha256 == open_model("random:resnet10t:0").tensors_sha256


def test_a_random_model_is_what_timm_draws_at_that_seed():
    model = open_model("random:resnet10t:3")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        reference = timm.create_model("resnet10t", num_classes=0).eval()
    assert model.tensors_sha256 == tensors_sha256(reference.state_dict())
    assert torch.equal(features(model.module), features(reference))
    assert not model.module.training
    assert (model.kind, model.name, model.arch, model.num_features) == ("random", "random:resnet10t:3", "resnet10t", 512)
    assert (model.input_size, model.fixed_input, model.mean, model.std, model.file_sha256) == (None, False, None, None, None)


def test_a_network_of_fixed_size_is_built_for_the_size_asked_for():
    model = open_model("random:vit_tiny_patch16_224", image_size=32)
    assert (model.input_size, model.fixed_input) == (32, True)
    assert features(model.module).shape == (2, 192)
    assert open_model("random:test_vit").input_size == 160
    assert open_model("random:test_resnet", image_size=32).input_size is None


def test_pixels_are_the_image_itself():
    model = open_model("pixels")
    assert torch.equal(features(model.module), images().reshape(2, -1))
    assert model.tensors_sha256 == hashlib.sha256(b"pixels: the normalised image, flattened").hexdigest()
    assert (model.kind, model.num_features, model.mean) == ("pixels", None, None)


@pytest.mark.parametrize("encoder", ["query", "key"])
def test_a_run_opens_at_its_newest_checkpoint_with_the_encoder_asked_for(make_run, make_backbone, encoder):
    run = make_run(steps=(10, 20))
    model = open_model(str(run), weights_encoder=encoder)
    reference = make_backbone(seed=20 + (encoder == "key"))
    assert torch.equal(features(model.module), features(reference))
    assert model.tensors_sha256 == tensors_sha256(reference.state_dict())
    assert (model.kind, model.name, model.arch, model.num_features) == ("run", "run", "test_resnet", 96)
    assert (model.mean, model.std, model.input_size, model.crop_pct) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 32, 1.0)
    assert (model.metadata["step"], model.metadata["encoder"], model.metadata["recipe"]["lr"]) == (20, encoder, 0.03)


def test_one_checkpoint_of_a_run_opens_by_its_path(make_run, make_backbone):
    run = make_run(steps=(10, 20))
    model = open_model(str(run / "checkpoints" / "step_00000010.pt"))
    assert torch.equal(features(model.module), features(make_backbone(seed=10)))


def test_of_a_damaged_newest_checkpoint_the_one_before_is_taken_and_said(make_run, make_backbone):
    run = make_run(steps=(10, 20))
    newest = run / "checkpoints" / "step_00000020.pt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    model = open_model(str(run))
    assert torch.equal(features(model.module), features(make_backbone(seed=10)))
    (note,) = model.notes
    assert note.startswith(f"warning: the checkpoint {newest} is damaged")
    assert note.endswith(f"going on from the one before it, {run / 'checkpoints' / 'step_00000010.pt'}")
    # Asked for by its own name it is refused.
    with pytest.raises(UserError, match="is damaged or not one"):
        open_model(str(newest))


def test_large_training_images_are_tested_on_the_usual_crop(make_run):
    assert open_model(str(make_run(image_size=128))).crop_pct == 0.875


def test_zoo_load_gives_the_module(make_run, make_backbone):
    assert torch.equal(features(zoo.load(str(make_run()))), features(make_backbone(seed=10)))


def test_a_run_whose_recipe_is_for_another_architecture_is_refused(make_run):
    run = make_run(recipe_arch="resnet18")
    with pytest.raises(UserError, match=r"is for 'resnet18', but its checkpoint .* is of 'test_resnet'"):
        open_model(str(run))


def test_a_checkpoint_whose_tensors_are_of_another_architecture_is_refused(make_run):
    run = make_run(recipe_arch="resnet10t")
    path = run / "checkpoints" / "step_00000010.pt"
    torch.save(read_checkpoint(path) | {"arch": "resnet10t"}, path)
    with pytest.raises(UserError, match=r"encoder 'query'\) do not fit 'resnet10t': .*of another shape"):
        open_model(str(run))


def test_a_checkpoint_that_lacks_a_tensor_is_refused_by_the_tensors_name(make_run):
    run = make_run()
    path = run / "checkpoints" / "step_00000010.pt"
    checkpoint = read_checkpoint(path)
    del checkpoint["model"]["encoder_q.layer2.0.conv1.weight"]
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"1 missing \(layer2\.0\.conv1\.weight\)"):
        open_model(str(run))
    open_model(str(run), weights_encoder="key")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("no/such/folder", "there is no model 'no/such/folder', neither a file nor a folder"),
        (str(Path(__file__).parent), "is no model: a zoo model folder holds zoo.json"),
        (__file__, r"test_model_spec\.py' is no model: .* is no checkpoint: it begins with"),
        ("random:", "no architecture ''"),
        ("random:resnet18:minus", "has no valid seed"),
        ("random:resnet18:-1", "has no valid seed"),
        ("random:resnet18:9223372036854775808", "has no valid seed"),
        ("random:resnet1800", "no architecture 'resnet1800'; did you mean 'resnet18"),
        ("timm:resnet1800", "timm has no network 'resnet1800'; did you mean"),
        ("timm:resnet18.mine", r"no pretrained weights 'resnet18\.mine'; it has: resnet18\.a1_in1k"),
        ("timm:resnet18_small", "no pretrained weights for 'resnet18_small'; 'random:resnet18_small'"),
        ("torchvision:vgg11", "whose keys timm shares: resnet18, resnet34"),
        ("torchvision:resnet50.V9", "has no weights 'V9' for resnet50; it has: IMAGENET1K_V1, IMAGENET1K_V2"),
    ],
)
def test_what_is_no_model_is_one_sentence(spec, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        open_model(spec)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def torch_cache(tmp_path, monkeypatch):
    """torch's download cache, with a file in place of the ResNet-18 weights that torchvision would download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder / Path(torchvision.models.ResNet18_Weights.DEFAULT.url).name


def test_torchvision_weights_give_torchvisions_features(torch_cache, make_backbone):
    reference = torchvision.models.resnet18()
    reference.load_state_dict(make_backbone("resnet18").state_dict(), strict=False)
    torch.save(reference.state_dict(), torch_cache)
    reference.fc = torch.nn.Identity()
    model = open_model("torchvision:resnet18")
    torch.testing.assert_close(features(model.module, 64), features(reference.eval(), 64), rtol=1e-6, atol=1e-6)
    assert (model.name, model.kind, model.arch) == ("torchvision:resnet18.imagenet1k_v1", "torchvision", "resnet18")
    assert (model.input_size, model.crop_pct, model.interpolation) == (224, 0.875, "bilinear")
    assert (model.mean, model.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_damaged_download_of_torchvision_is_one_sentence(torch_cache):
    torch_cache.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"weights of 'torchvision:resnet18' cannot be loaded \(") as refusal:
        open_model("torchvision:resnet18")
    assert "\n" not in str(refusal.value)


def test_only_a_run_has_an_encoder_to_choose():
    with pytest.raises(UserError, match="'pixels' has one encoder only; 'key' can be chosen where the model is a run"):
        open_model("pixels", weights_encoder="key")


OPEN_AND_HASH = """
import sys
from zoo.errors import UserError
from zoo.model_spec import open_model
for spec in sys.argv[1:]:
    try:
        model = open_model(spec)
        print(model.name, model.arch, model.input_size, model.num_features, model.tensors_sha256)
    except UserError as error:
        print(error)
"""


def test_timm_weights_come_from_the_hubs_cache_without_network(tmp_path, make_backbone):
    # The Hub's client reads its settings when it is imported, so this takes a process of its own: with a real cache, and no network.
    backbone = make_backbone("test_resnet")
    head = {"fc.weight": torch.zeros(1000, 96), "fc.bias": torch.zeros(1000)}
    whole = backbone.state_dict() | head
    without_one = {name: tensor for name, tensor in whole.items() if name != "layer2.0.conv1.weight"}
    for repository, state in (("test_resnet.r160_in1k", whole), ("test_vit.r160_in1k", without_one)):
        folder = tmp_path / f"models--timm--{repository}"
        snapshot = folder / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("a" * 40)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, snapshot / "model.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AND_HASH, "timm:test_resnet", "timm:test_vit", "timm:test_resnet.r160_in1k", "timm:test_vit2"],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    default, wrong, tagged, absent = done.stdout.splitlines()
    assert default == tagged == f"timm:test_resnet.r160_in1k test_resnet 160 96 {tensors_sha256(backbone.state_dict())}"
    assert wrong.startswith("the weights of 'timm:test_vit' cannot be loaded (Error(s) in loading state_dict")
    assert absent.startswith("the weights of 'timm:test_vit2' cannot be loaded (")
    assert "without network, put the file in the cache first" in absent
