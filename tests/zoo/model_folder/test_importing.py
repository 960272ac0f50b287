"""From somebody else's checkpoint to a zoo model, by function, by command, and straight into what takes a model."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import timm
import torch
from fake_checkpoints import ARCH, FAKES, behind, linear
from typer.testing import CliRunner

from zoo.backbones import load_backbone
from zoo.catalogue import CatalogueEntry, Home
from zoo.commands.cli import app
from zoo.errors import UserError
from zoo.model_folder.folder import load_zoo_model, write_zoo_model
from zoo.model_folder.importing import Preprocessing, check_hash, import_checkpoint
from zoo.model_folder.manifest import read_manifest
from zoo.model_spec import open_model
from zoo.models.selection import Hints, read_selection

CIFAR = Preprocessing(32, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


@pytest.fixture(scope="module")
def right(make_backbone):
    return make_backbone(ARCH, image_size=32).state_dict()


@pytest.fixture(scope="module")
def right_large(make_backbone):
    """Of a network for ImageNet."""
    return make_backbone("resnet18", image_size=64).state_dict()


@pytest.fixture
def hcsc(tmp_path, right):
    path = tmp_path / "hcsc 200eps.pth.tar"
    torch.save(FAKES["hcsc"].build(right), path)
    return path


def invoke(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_folder_holds_the_tensors_and_says_where_they_are_from(hcsc, right, tmp_path):
    done = import_checkpoint(hcsc, tmp_path / "model", preprocessing=CIFAR, licence="MIT", data="cifar10")
    backbone, manifest = load_zoo_model(tmp_path / "model")
    assert all(torch.equal(tensor, right[name]) for name, tensor in backbone.state_dict().items())
    assert (manifest.name, manifest.method, manifest.encoder, manifest.epochs) == (f"{ARCH}.hcsc_200eps", "hcsc", "query", 200)
    assert (manifest.image_size, manifest.mean, manifest.std) == (32, CIFAR.mean, CIFAR.std)
    assert (manifest.licence, manifest.data, manifest.crop_pct, manifest.timm_native) == ("MIT", "cifar10", 1.0, False)
    source = manifest.source
    assert source["checkpoint"] == hcsc.name
    assert source["sha256"] == hashlib.sha256(hcsc.read_bytes()).hexdigest()
    assert (source["format"], source["format_confirmed"]) == ("hcsc", False)
    assert str(tmp_path) not in manifest.to_json()
    # The network that was read is not kept in memory twice.
    assert all(parameter.is_meta for parameter in done.reading.backbone.parameters())


def test_timm_gives_the_same_features(tmp_path, right_large):
    torch.save(
        {"state_dict": behind("module.encoder.", right_large) | behind("module.", linear("predictor.", 0, 1))}, tmp_path / "simsiam.pth"
    )
    done = import_checkpoint(tmp_path / "simsiam.pth", tmp_path / "model", name="resnet18.mine")
    assert done.assumed == (
        "images of 224 px",
        "ImageNet's mean and standard deviation",
        "bilinear resizing and a centre crop of 0.875 of the side",
    )
    theirs = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    ours = timm.create_model("resnet18", num_classes=0)
    ours.load_state_dict(right_large)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(theirs(images), ours.eval()(images))


def test_a_small_stem_must_be_told_its_images(hcsc, tmp_path):
    with pytest.raises(UserError, match="give --image-size, --mean and --std"):
        import_checkpoint(hcsc, tmp_path / "model")
    with pytest.raises(UserError, match="give --image-size, --mean and --std"):
        import_checkpoint(hcsc, tmp_path / "model", preprocessing=replace(CIFAR, std=None))
    assert list(tmp_path.iterdir()) == [hcsc]


def test_mocos_notebook_says_its_statistics_itself(tmp_path, right):
    torch.save(FAKES["moco cifar notebook"].build(right), tmp_path / "notebook.pth")
    import_checkpoint(tmp_path / "notebook.pth", tmp_path / "model", preprocessing=Preprocessing(image_size=32))
    manifest = read_manifest(tmp_path / "model")
    assert (manifest.mean, manifest.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def test_a_run_that_was_moved_keeps_how_its_images_were_prepared(make_run, tmp_path):
    path = (make_run(arch=ARCH) / "checkpoints" / "step_00000010.pt").rename(tmp_path / "alone.pt")
    done = import_checkpoint(path, tmp_path / "model", encoder="key")
    manifest = read_manifest(tmp_path / "model")
    assert (manifest.image_size, manifest.mean, manifest.std, manifest.encoder) == (32, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "key")
    assert (manifest.epochs, done.assumed, manifest.source["format_confirmed"]) == (2, (), True)


@pytest.fixture
def entry(hcsc):
    return CatalogueEntry(
        name=f"{ARCH}.hcsc_9ep",
        arch=ARCH,
        method="hcsc",
        epochs=9,
        data="cifar10",
        licence="MIT",
        reader="hcsc",
        home=Home(url="https://example.org/a.pth"),
        sha256=hashlib.sha256(hcsc.read_bytes()).hexdigest(),
        image_size=32,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        interpolation="bicubic",
        crop_pct=0.9,
    )


def test_the_catalogue_says_what_the_file_does_not(hcsc, entry, tmp_path):
    done = import_checkpoint(hcsc, tmp_path / "model", entry=entry, url="https://example.org/a.pth")
    manifest = read_manifest(tmp_path / "model")
    assert (manifest.name, manifest.epochs, manifest.data, manifest.licence) == (entry.name, 9, "cifar10", "MIT")
    assert (manifest.image_size, manifest.mean, manifest.std, manifest.interpolation, manifest.crop_pct) == (
        *(32, entry.mean, entry.std, "bicubic"),
        0.9,
    )
    assert manifest.source["url"] == "https://example.org/a.pth"
    assert done.assumed == ()


def test_a_file_of_another_hash_is_refused(hcsc, entry, tmp_path):
    md5 = hashlib.md5(hcsc.read_bytes()).hexdigest()
    check_hash(hcsc, replace(entry, home=Home(url="https://example.org/a.pth", md5_prefix=md5[:8], sha256_prefix=entry.sha256[:8])))
    for wrong in (
        replace(entry, sha256="0" * 64),
        replace(entry, home=Home(url="https://example.org/a.pth", md5_prefix="00000000")),
        replace(entry, sha256=None, home=Home(url="https://example.org/a.pth", sha256_prefix="00000000")),
    ):
        with pytest.raises(
            UserError, match=r"is not the file of 'resnet10_small\.hcsc_9ep': its (sha256|md5) is .*, and it should begin with 0000"
        ):
            import_checkpoint(hcsc, tmp_path / "model", entry=wrong)
    assert not (tmp_path / "model").exists()


def test_the_format_of_the_entry_is_insisted_on(hcsc, entry, tmp_path):
    with pytest.raises(UserError, match="is not SimSiam pre-training checkpoint"):
        import_checkpoint(hcsc, tmp_path / "model", entry=replace(entry, reader="simsiam"))


def test_an_existing_folder_is_refused_before_the_file_is_read(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="exists already"):
        import_checkpoint(tmp_path / "absent.pth", tmp_path / "model")


def test_releasing_leaves_the_same_folder(make_backbone, make_manifest, tmp_path):
    kept = make_backbone()
    write_zoo_model(tmp_path / "kept", kept, make_manifest())
    released = make_backbone()
    write_zoo_model(tmp_path / "released", released, make_manifest(), release=True)
    assert (tmp_path / "kept" / "model.safetensors").read_bytes() == (tmp_path / "released" / "model.safetensors").read_bytes()
    assert not next(kept.parameters()).is_meta
    assert next(released.parameters()).is_meta


# The command.


def test_the_command_says_what_it_did(hcsc, tmp_path):
    options = ("--image-size", 32, "--mean", "0.5,0.4,0.3", "--std", "0.2,0.25,0.3")
    text = invoke("import", hcsc, "--out", tmp_path / "model", *options).splitlines()
    assert text[0].startswith(f"{tmp_path / 'model'}: a zoo model ({ARCH})")
    assert text[1].startswith("recognised hcsc (HCSC pre-training checkpoint) by 'state_dict', every name behind 'module.'")
    assert "no file of its authors has confirmed this layout yet" in text[2]
    assert "matched 78, missing 0, unexpected 0" in text
    assert "dropped, other parts: 85 (queue 1, queue_ptr 1, encoder_k 82, queue_index 1)" in text
    assert any(line.startswith("assumed, since nothing says otherwise: bilinear resizing") for line in text)
    facts = invoke("info", tmp_path / "model")
    assert "hcsc (query encoder)" in facts


def test_the_command_takes_over_what_the_catalogue_says(hcsc, entry, tmp_path, monkeypatch):
    home = f'[[model]]\nname = "{entry.name}"\nmethod = "hcsc"\nepochs = 9\nreader = "hcsc"\nimage_size = 32\ncrop_pct = 1.0\n'
    (tmp_path / "mine.toml").write_text(f'{home}url = "https://example.org/hcsc%20200eps.pth.tar"\n')
    monkeypatch.setenv("ZOO_CATALOGUE", str(tmp_path / "mine.toml"))
    invoke("import", hcsc, "--out", tmp_path / "model", "--name", entry.name)
    assert read_manifest(tmp_path / "model").epochs == 9


def test_the_command_points_at_the_catalogue(tmp_path, right_large):
    torch.save(right_large, tmp_path / "resnet50-0676ba61.pth")
    text = invoke("import", tmp_path / "resnet50-0676ba61.pth", "--out", tmp_path / "model")
    assert "its file name is that of resnet50.tv_in1k in the catalogue: --name resnet50.tv_in1k takes over" in text
    # And a file that is not what its name says is not believed.
    with pytest.raises(UserError, match="is not a whole resnet50"):
        invoke("import", tmp_path / "resnet50-0676ba61.pth", "--out", tmp_path / "other", "--name", "resnet50.tv_in1k")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--mean", "0.5,0.4"), r"--mean takes three numbers, R,G,B"),
        (("--std", "58,57,57"), r"--std is of pixels in \[0, 1\], and '58,57,57' is not"),
        (("--std", "0,0.2,0.2"), r"--std is of pixels in \[0, 1\]"),
        (("--mean", "nan,0,0"), r"--mean is of pixels in \[0, 1\]"),
        (("--format", "hscs"), r"there is no format 'hscs'; did you mean 'hcsc"),
        (("--arch", "resnet1000"), r"there is no architecture 'resnet1000'"),
        (("--interpolation", "nearest"), r"--interpolation is bilinear or bicubic"),
        (("--name", "a b"), r"'a b' cannot name a zoo model"),
    ],
)
def test_wrong_options_are_one_sentence_and_leave_nothing(hcsc, tmp_path, options, sentence):
    usual = {"--image-size": "32", "--mean": "0.5,0.4,0.3", "--std": "0.2,0.2,0.2"}
    given = [part for pair in (usual | dict([options])).items() for part in pair]
    with pytest.raises(UserError, match=sentence):
        invoke("import", hcsc, "--out", tmp_path / "model", *given)
    assert list(tmp_path.iterdir()) == [hcsc]


# Straight from the file.


@pytest.fixture(scope="module")
def right_vit(make_backbone):
    state = make_backbone("vit_tiny_patch16_224", image_size=32).state_dict()
    return load_backbone("vit_tiny_patch16_224", state, "the test", image_size=32, arguments={"num_heads": 12})


def test_a_network_with_other_heads_is_kept_as_it_is(right_vit, tmp_path):
    """12 heads where timm's has 3: `model_args` in config.json, which timm reads; the features are those of the 12."""
    path = tmp_path / "mocov3.pth"
    torch.save({"state_dict": behind("module.base_encoder.", right_vit.state_dict())}, path)
    output = invoke("import", path, "--out", tmp_path / "model", "--heads", 12)
    assert "note: built with 12 heads, as --heads says, where timm's network of this width has 3" in output
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model_args"] == {"num_heads": 12}
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    opened = open_model(tmp_path / "model")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    with torch.no_grad():
        wanted = right_vit.eval()(images)
        assert torch.equal(opened.module(images), wanted)
        assert torch.equal(theirs(images), wanted)
        other = open_model(f"file:{path}", heads=3)
        assert not torch.allclose(other.module(images), wanted, atol=1e-2)
    # One network's cached features and claims are not the other's, though every tensor is the same.
    assert (opened.arch, other.arch) == ("vit_tiny_patch16_224(num_heads=12)", "vit_tiny_patch16_224")
    assert open_model(path, heads=12).arch == opened.arch
    card = (tmp_path / "model" / "README.md").read_text()
    assert 'timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, num_heads=12)' in card


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_heads": 3}, "contradicts itself: config.json has the model_args {'num_heads': 3}, zoo.json {'num_heads': 12}"),
        ({"num_heads": True}, "model_args that are not read"),
        ({"block_fn": "x"}, "model_args that are not read"),
        ([1], "'model_args' is [1], and an object is expected"),
        (None, "contradicts itself"),
    ],
)
def test_arguments_in_a_folder_are_checked(right_vit, tmp_path, arguments, sentence):
    path = tmp_path / "mocov3.pth"
    torch.save({"state_dict": behind("module.base_encoder.", right_vit.state_dict())}, path)
    import_checkpoint(path, tmp_path / "model", hints=Hints(heads=12))
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text()) | {"model_args": arguments}
    if arguments is None:
        del config["model_args"]
    file.write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        load_zoo_model(tmp_path / "model")
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("heads", "sentence"),
    [(5, "--heads 5 does not divide the width of"), (None, "say which with --heads 12 or --heads 3")],
)
def test_heads_that_cannot_be(right_vit, tmp_path, heads, sentence):
    path = tmp_path / "mocov3.pth"
    torch.save({"state_dict": behind("module.base_encoder.", right_vit.state_dict())}, path)
    with pytest.raises(UserError, match=sentence):
        import_checkpoint(path, tmp_path / "model", hints=Hints(heads=heads))
    assert not (tmp_path / "model").exists()


def test_by_hand(right_large, tmp_path):
    strange = {name.replace("layer", "stage"): tensor for name, tensor in right_large.items()}
    path = tmp_path / "mine.pth"
    torch.save({"state": {"model": {**behind("student.net.", strange), **behind("teacher.net.", strange)}}}, path)
    options = ("--key", "state.model", "--prefix", "student.net.", "--rename", r"^stage(\d)=layer\1", "--drop", "^extra")
    output = invoke("import", path, "--out", tmp_path / "model", *options)
    assert "recognised general" in output
    backbone, manifest = load_zoo_model(tmp_path / "model")
    assert all(torch.equal(tensor, right_large[name]) for name, tensor in backbone.state_dict().items())
    assert manifest.source["selection"] == {
        "key": "state.model",
        "prefix": "student.net.",
        "rename": [r"^stage(\d)=layer\1"],
        "drop": ["^extra"],
    }
    selection = read_selection("state.model", "student.net.", [r"^stage(\d)=layer\1"])
    assert open_model(path, selection=selection).tensors_sha256 == manifest.tensors_sha256
    with pytest.raises(UserError, match="says itself what it holds"):
        open_model(tmp_path / "model", selection=selection)
    with pytest.raises(UserError, match="--heads, --norm-eps and --stem-padding are for a checkpoint file"):
        open_model(tmp_path / "model", heads=3)
    with pytest.raises(UserError, match=r"--heads is for vision transformers, and .*mine.pth is a resnet18"):
        open_model(path, selection=selection, heads=3)


def test_a_checkpoint_file_is_a_model(tmp_path, right_large):
    path = tmp_path / "moco.pth.tar"
    torch.save({"state_dict": behind("module.encoder_q.", right_large) | {"module.queue": torch.ones(2, 3)}}, path)
    for spec in (str(path), f"file:{path}"):
        model = open_model(spec)
        assert (model.kind, model.arch, model.num_features, model.name) == ("file", "resnet18", 512, "moco.pth.tar")
        assert (model.mean, model.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert model.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert all(torch.equal(tensor, right_large[name]) for name, tensor in model.module.state_dict().items())
    with pytest.raises(UserError, match="has no key network; it has query"):
        open_model(str(path), weights_encoder="key")


def test_the_key_encoder_of_a_file(hcsc, right):
    model = open_model(f"file:{hcsc}", weights_encoder="key")
    assert torch.equal(model.module.state_dict()["conv1.weight"], right["conv1.weight"] + 1)
    assert (model.mean, model.metadata["encoder"], model.metadata["format"]) == (None, "key", "hcsc")


def test_a_file_that_cannot_be_read_is_no_model(tmp_path):
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    with pytest.raises(UserError, match=r"page\.pth holds no weights: it is a web page"):
        open_model(f"file:{tmp_path / 'page.pth'}")
    with pytest.raises(UserError, match="there is no file"):
        open_model(f"file:{tmp_path / 'absent.pth'}")


# The lists.


def test_list_as_a_table_and_as_json():
    lines = invoke("list", "*.hcsc_*").splitlines()
    assert lines[0].split() == ["Name", "Method", "Epochs", "Crops", "Linear", "kNN", "Licence", "Weights"]
    assert lines[1].split() == ["resnet50.hcsc_200ep", "hcsc", "200", "2x224", "69.2", "60.7", "MIT", "authors'", "URL"]
    assert len(lines) == 7
    entries = json.loads(invoke("list", "csml", "--json"))
    assert [entry["name"] for entry in entries] == ["resnet50.csml"]
    assert (entries[0]["missing"], entries[0]["home"], entries[0]["sha256"], entries[0]["epochs"]) == (True, None, None, None)
    assert entries[0]["published"][0]["source"] == "abstract of arXiv 2012.02733v2"
    assert "not published" in invoke("list", "csml")
    with pytest.raises(UserError, match="has no model like 'nothing'"):
        invoke("list", "nothing")


def test_info_of_a_model_of_the_catalogue():
    text = invoke("info", "resnet50.mocov2_800ep")
    assert "linear on imagenet: top1 71.1  [README of github.com/facebookresearch/moco]" in text
    assert "CC-BY-NC-4.0 (of the whole project; no commercial use)" in text
    assert "md5 begins with a04e12f8" in text
    assert "not yet tried on the real file" in text
    assert json.loads(invoke("info", "resnet50.mocov2_800ep", "--json"))["home"]["md5_prefix"] == "a04e12f8"
    missing = " ".join(invoke("info", "resnet50.mocov2_ccrop_100ep").split())
    assert "published nowhere, as far as we know; `pretrain moco_ccrop_imagenet` would make such a model" in missing
    with pytest.raises(UserError, match=r"no model 'resnet50\.hcsc'; did you mean"):
        invoke("info", "resnet50.hcsc")


def test_info_of_results_of_our_own(tmp_path, monkeypatch, make_result):
    from zoo.results import save_result

    save_result(make_result("c" * 64), tmp_path / "knn.json")
    (tmp_path / "mine.toml").write_text('[[model]]\nname = "resnet18.a"\nmethod = "moco"\nown = ["knn.json"]\n')
    monkeypatch.setenv("ZOO_CATALOGUE", str(tmp_path / "mine.toml"))
    assert "knn on cifar10, dino@32: top1_k20 57.25  [2026-11-21]" in invoke("info", "resnet18.a")


def test_a_copied_checkpoint_of_a_run_is_still_one_of_the_run(make_run):
    """The run's own reader comes first: it knows the recipe."""
    run = make_run()
    assert open_model(str(run / "checkpoints" / "step_00000010.pt")).kind == "run"
    shutil.rmtree(run)
