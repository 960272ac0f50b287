"""Zoo model folders: written whole or not at all, given back bit for bit, and refused when anything in them was changed."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import UserError
from zoo.hashing import file_sha256, tensors_sha256
from zoo.model_folder.folder import load_zoo_model, write_zoo_model
from zoo.model_folder.manifest import read_manifest
from zoo.model_spec import open_model


def images(side: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("arch", ["resnet18_small", "test_vit", "mobilenetv3_small_050"])
def test_zoo_and_timm_give_back_every_tensor_and_feature(tmp_path, make_backbone, arch, make_manifest):
    backbone = make_backbone(arch)
    folder = write_zoo_model(tmp_path / "model", backbone, make_manifest(arch))
    opened = open_model(str(folder))
    through_timm = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    headless = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        wanted = backbone(images())
        for network in (opened.module, through_timm, headless, zoo.load(str(folder))):
            assert network.state_dict().keys() == backbone.state_dict().keys()
            assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in backbone.state_dict().items())
            assert torch.equal(network(images()), wanted)
    assert opened.num_features == wanted.shape[1]


def test_what_is_written_is_what_the_files_say(zoo_folder, make_backbone):
    backbone = make_backbone()
    said = read_manifest(zoo_folder)
    assert said.file_sha256 == file_sha256(zoo_folder / "model.safetensors")
    assert said.tensors_sha256 == tensors_sha256(backbone.state_dict()) == tensors_sha256(load_file(zoo_folder / "model.safetensors"))
    assert (said.num_features, said.parameters, said.timm_native, said.fixed_input) == (96, 372_688, True, False)
    with safe_open(zoo_folder / "model.safetensors", "pt") as weights:
        assert weights.metadata() == {"format": "pt"}
    assert json.loads((zoo_folder / "zoo.json").read_text())["schema"] == 1
    assert sorted(path.name for path in zoo_folder.iterdir()) == ["README.md", "config.json", "model.safetensors", "zoo.json"]
    modes = {path.stat().st_mode & 0o777 for path in zoo_folder.iterdir()}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {0o666 & ~umask}


def test_timm_prepares_images_as_the_model_was_trained(zoo_folder):
    config = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{zoo_folder}", pretrained=True))
    assert (tuple(config["input_size"]), config["crop_pct"], config["interpolation"]) == ((3, 32, 32), 1.0, "bilinear")
    assert (tuple(config["mean"]), tuple(config["std"])) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def test_timm_gives_the_backbone_a_head_or_another_stem_when_asked(zoo_folder, make_backbone):
    with_head = timm.create_model(f"local-dir:{zoo_folder}", pretrained=True, num_classes=5)
    assert with_head.fc.weight.shape == (5, 96)
    assert torch.equal(with_head.layer3[0].conv1.weight, make_backbone().layer3[0].conv1.weight)
    gray = timm.create_model(f"local-dir:{zoo_folder}", pretrained=True, in_chans=1)
    torch.testing.assert_close(gray.conv1[0].weight, make_backbone().conv1[0].weight.sum(1, keepdim=True))


def test_opening_tells_what_the_folder_says_and_costs_no_random_number(zoo_folder):
    before = torch.get_rng_state()
    model = open_model(str(zoo_folder))
    assert torch.equal(torch.get_rng_state(), before)
    assert (model.kind, model.name, model.arch, model.input_size) == ("zoo", "test_resnet.moco_2ep", "test_resnet", 32)
    assert (model.mean, model.std, model.crop_pct) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 1.0)
    assert (model.file_sha256, model.tensors_sha256) == (read_manifest(zoo_folder).file_sha256, read_manifest(zoo_folder).tensors_sha256)
    assert model.metadata == json.loads((zoo_folder / "zoo.json").read_text())
    assert not model.module.training


def test_writing_leaves_the_backbone_and_the_random_stream_alone(tmp_path, make_backbone, make_manifest):
    backbone = make_backbone().train()
    before, stream = tensors_sha256(backbone.state_dict()), torch.get_rng_state()
    write_zoo_model(tmp_path / "model", backbone, make_manifest())
    assert backbone.training
    assert tensors_sha256(backbone.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), stream)


def test_a_fixed_size_is_kept_and_said(tmp_path, make_backbone, make_manifest):
    backbone = make_backbone("deit_tiny_patch16_224", image_size=48)
    folder = write_zoo_model(tmp_path / "vit", backbone, make_manifest("deit_tiny_patch16_224", 48))
    model = open_model(str(folder))
    assert (model.input_size, model.fixed_input) == (48, True)
    other = open_model(str(folder), image_size=64)
    assert (other.input_size, other.tensors_sha256) == (64, model.tensors_sha256)
    assert other.notes == (
        f"{model.name}: its positions were interpolated from images of 48 px to 64 px (bicubic, antialiased), as timm does",
    )
    with pytest.raises(UserError, match="'deit_tiny_patch16_224' cuts images into patches of 16 px, and 50 px is not a multiple of that"):
        open_model(str(folder), image_size=50)


def flip_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


ACCIDENTS = [
    (flip_one_byte, "it was cut short or altered: sha256"),
    (cut_short, "it was cut short or altered: sha256"),
    (lambda path: path.write_bytes(b""), "it is empty"),
    (lambda path: path.write_bytes(b"\n<!DOCTYPE html><html>404</html>"), "it is a web page"),
    (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "it is a Git LFS pointer"),
    (lambda path: path.write_bytes(bytes(range(256)) * 8), "it does not begin like safetensors"),
]


@pytest.mark.parametrize(("harm", "sentence"), ACCIDENTS)
@pytest.mark.parametrize("hash_follows", [False, True])
def test_a_changed_weights_file_is_refused(zoo_folder, harm, sentence, hash_follows):
    weights = zoo_folder / "model.safetensors"
    old = read_manifest(zoo_folder).file_sha256
    harm(weights)
    if hash_follows:  # whoever changed the file changed its hash in zoo.json as well
        text = (zoo_folder / "zoo.json").read_text().replace(old, file_sha256(weights))
        (zoo_folder / "zoo.json").write_text(text)
        sentence = (
            "contradicts itself: the tensors" if harm is flip_one_byte else "is not a safetensors file .*" + sentence.partition(":")[0]
        )
    with pytest.raises(UserError, match=sentence) as refusal:
        zoo.load(str(zoo_folder))
    assert "\n" not in str(refusal.value)


def edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        ("config.json", {"architecture": "resnet18"}, "contradicts itself: config.json says 'resnet18', zoo.json 'test_resnet'"),
        ("zoo.json", {"arch": "resnet18"}, "contradicts itself: config.json says 'test_resnet', zoo.json 'resnet18'"),
        ("zoo.json", {"schema": 2}, "has schema 2, and this version reads schema 1"),
        ("zoo.json", {"std": [1, 1, 1]}, "it has an unknown 'std'"),
        ("zoo.json", {"arch": ...}, "it lacks 'arch'"),
        ("zoo.json", {"name": "../evil"}, "cannot name a zoo model"),
        ("zoo.json", {"image_size": "32"}, "not a valid zoo.json: 'image_size' is \"32\", and a whole number is expected"),
        ("zoo.json", {"image_size": 0}, "'image_size' is 0, and a number that is at least 1 and at most 8192 is expected"),
        ("zoo.json", {"normalisation": {"mean": [0.5, 0.5], "std": [1, 1, 1]}}, "not a valid zoo.json"),
        ("zoo.json", {"normalisation": [1]}, r"'normalisation' is \[1\], and an object is expected"),
        ("zoo.json", {"normalisation": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "has a std that is not above 0"),
        ("zoo.json", {"image_size": 20_000}, "'image_size' is 20000, and a number that is at least 1 and at most 8192 is expected"),
        ("zoo.json", {"image_size": True}, "'image_size' is true, and a whole number is expected"),
        ("zoo.json", {"method": 3}, "'method' is 3, and text is expected"),
        ("zoo.json", {"epochs": -1}, "'epochs' is -1, and a number that is at least 0 is expected"),
        ("zoo.json", {"fixed_input": "no"}, "'fixed_input' is \"no\", and true or false is expected"),
        ("zoo.json", {"schema": True}, "has schema True"),
        ("config.json", {"architecture": 3}, "'architecture' is 3, and text is expected"),
        ("config.json", {"pretrained_cfg": {"mean": 1}}, "config.json is not a config.json of timm: it lacks 'input_size'"),
        ("zoo.json", {"tensors_sha256": "0" * 63}, "tensors_sha256 is not 64 hex digits"),
        ("zoo.json", {"tensors_sha256": "0" * 64}, "contradicts itself: the tensors"),
        ("zoo.json", {"results": [1]}, "one of its results is none, since it has no schema"),
        ("zoo.json", {"results": 1}, "not a valid zoo.json"),
    ],
)
def test_files_that_contradict_each_other_are_refused(zoo_folder, file, changes, sentence):
    edit(zoo_folder / file, **changes)
    with pytest.raises(UserError, match=sentence) as refusal:
        open_model(str(zoo_folder))
    assert "\n" not in str(refusal.value)


def test_both_files_naming_another_architecture_do_not_help(zoo_folder):
    edit(zoo_folder / "config.json", architecture="resnet10t")
    edit(zoo_folder / "zoo.json", arch="resnet10t")
    with pytest.raises(UserError, match="do not fit 'resnet10t'"):
        open_model(str(zoo_folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_says_which(zoo_folder, name):
    (zoo_folder / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}, so it is not a whole zoo model folder"):
        open_model(str(zoo_folder))


@pytest.mark.parametrize("text", ["{", "[1]", "\x00", "[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(zoo_folder, text):
    (zoo_folder / "zoo.json").write_text(text)
    with pytest.raises(UserError, match=r"zoo\.json( is not valid JSON|: Expected `object`)") as refusal:
        open_model(str(zoo_folder))
    assert "\n" not in str(refusal.value)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_existing_folder_is_replaced_only_when_asked_and_only_whole(zoo_folder, make_backbone, make_manifest):
    before = snapshot(zoo_folder)
    with pytest.raises(UserError, match="exists already; choose another --out, or give --overwrite"):
        write_zoo_model(zoo_folder, make_backbone(seed=1), make_manifest())
    assert snapshot(zoo_folder) == before
    (zoo_folder / "leftover.txt").write_text("of the old model")
    write_zoo_model(zoo_folder, make_backbone(seed=1), make_manifest(), overwrite=True)
    assert open_model(str(zoo_folder)).tensors_sha256 == tensors_sha256(make_backbone(seed=1).state_dict())
    assert not (zoo_folder / "leftover.txt").exists()
    assert [path.name for path in zoo_folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_not_a_zoo_model_is_never_overwritten(tmp_path, make_backbone, kind, make_manifest):
    target = tmp_path / "photos"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "zoo.json").write_text("{}")
    if kind == "folder":
        target.mkdir()
        (target / "holiday.jpg").write_bytes(b"precious")
    elif kind == "file":
        target.write_bytes(b"precious")
    else:
        target.symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"is not a folder with a zoo\.json, so it is not overwritten"):
        write_zoo_model(target, make_backbone(), make_manifest(), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "photos"]
    assert (elsewhere / "zoo.json").read_text() == "{}"


def test_an_empty_folder_may_be_filled(tmp_path, make_backbone, make_manifest):
    (tmp_path / "model").mkdir()
    write_zoo_model(tmp_path / "model", make_backbone(), make_manifest(), overwrite=True)
    assert open_model(str(tmp_path / "model")).name == "test_resnet.moco_2ep"


@pytest.fixture
def small_files():
    """No file of this process may grow beyond 200 kB: the system refuses the write, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("existing", [False, True])
def test_a_write_that_the_system_refuses_leaves_nothing(tmp_path, make_backbone, existing, request, make_manifest):
    if existing:
        write_zoo_model(tmp_path / "model", make_backbone(), make_manifest())
        before = snapshot(tmp_path / "model")
    request.getfixturevalue("small_files")
    with pytest.raises(UserError, match="cannot be written") as refusal:
        write_zoo_model(tmp_path / "model", make_backbone(seed=1), make_manifest(), overwrite=True)
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if existing else [])
    assert not existing or snapshot(tmp_path / "model") == before


def test_a_backbone_of_another_architecture_is_refused_and_leaves_nothing(tmp_path, make_backbone, make_manifest):
    with pytest.raises(UserError, match="is said to be a 'resnet10t', but the network is a 'test_resnet'"):
        write_zoo_model(tmp_path / "model", make_backbone(), make_manifest("resnet10t"))
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_network_is_not_exported(tmp_path, make_backbone, make_manifest):
    backbone = make_backbone()
    backbone.layer1[0].bn1.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="features that are not finite: its training diverged"):
        write_zoo_model(tmp_path / "model", backbone, make_manifest())
    assert list(tmp_path.iterdir()) == []


def test_weights_that_share_memory_are_written_apart(tmp_path, make_backbone, make_manifest):
    backbone = make_backbone()
    first = backbone.layer1[0]
    first.bn2.bias = first.bn1.bias
    folder = write_zoo_model(tmp_path / "model", backbone, make_manifest())
    assert torch.equal(load_zoo_model(folder)[0].layer1[0].bn2.bias, first.bn1.bias)


def test_a_name_that_is_no_name_is_refused(make_manifest):
    with pytest.raises(UserError, match="'my model' cannot name a zoo model"):
        make_manifest(name="my model")


def test_timm_would_load_a_folder_with_foreign_keys_in_silence_and_the_zoo_does_not(zoo_folder):
    # The trap that makes the check after writing necessary: as soon as class counts differ, timm's load is not strict.
    renamed = {f"backbone.{name}": tensor for name, tensor in load_file(zoo_folder / "model.safetensors").items()}
    save_file(renamed, zoo_folder / "model.safetensors")
    timm.create_model(f"local-dir:{zoo_folder}", pretrained=True, num_classes=5)
    edit(zoo_folder / "zoo.json", file_sha256=file_sha256(zoo_folder / "model.safetensors"), tensors_sha256=tensors_sha256(renamed))
    with pytest.raises(UserError, match=r"missing \(bn1.bias, .*; \d+ not part of it \(backbone\.bn1"):
        open_model(str(zoo_folder))
