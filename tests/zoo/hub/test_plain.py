"""Repositories that hold weights and no zoo.json: pinned, checked, made into zoo models that compute what their makers' library does."""

from __future__ import annotations

import io
import json
from functools import partial

import pytest
import timm
import torch
from hub_typed import WEIGHTS, content, pulled, refused
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from transfer.conversion import convert
from zoo.model_folder.folder import load_zoo_model
from zoo.model_folder.manifest import read_config, read_manifest


def network(arch: str, seed: int = 0, **arguments):
    torch.manual_seed(seed)
    return with_statistics(timm.create_model(arch, **arguments).eval())


def with_statistics(made):
    """Running statistics that are not those of a fresh network."""
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return made


def saved(made, folder, *, pickled: bool = False) -> dict[str, bytes]:
    """The files that timm itself pushes, without the card."""
    save_for_hf(made, folder, safe_serialization=not pickled)
    return content(folder)


def features(made, side: int) -> torch.Tensor:
    with torch.no_grad():
        return made(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3)))


CASES = {
    "resnet": ("test_resnet", {}, 160),
    "vit": ("test_vit", {}, 160),
    "convnext": ("test_convnext", {}, 160),
    "another number of classes": ("test_vit2", {"num_classes": 10}, 160),
    "without classifier": ("test_resnet", {"num_classes": 0}, 160),
    "another size": ("vit_tiny_patch16_224", {"img_size": 96}, 96),
    "mean of patch tokens": ("test_vit", {"global_pool": "avg"}, 160),
    "another number of heads": ("test_vit", {"num_heads": 4}, 160),
}


@pytest.mark.parametrize("case", CASES)
def test_what_timm_pushes_is_pulled_and_computes_the_same(hub, commands, tmp_path, case):
    arch, arguments, side = CASES[case]
    made = network(arch, **arguments)
    name = f"timm/{arch}.{case.replace(' ', '_')}"
    files = saved(made, tmp_path / "saved")
    commit = hub.store.publish(name, files)
    done = commands.zoo("pull", name)
    folder = pulled(done)
    ours, manifest = load_zoo_model(folder)
    made.reset_classifier(0)
    assert torch.equal(features(ours, side), features(made, side))
    # And through the file that timm reads.
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(features(again, side), features(made, side))
    config = json.loads(files["config.json"])["pretrained_cfg"]
    assert (manifest.arch, manifest.image_size, manifest.licence) == (arch, side, config["license"])
    assert [*manifest.mean, *manifest.std] == [*config["mean"], *config["std"]]
    assert (manifest.interpolation, manifest.crop_pct) == (config["interpolation"], config["crop_pct"])
    # What is not known is said, and what is known of the origin.
    assert (manifest.method, manifest.epochs, manifest.data, manifest.results) == (None, None, None, ())
    assert manifest.source["unknown"] == ["method", "epochs", "data"]
    assert (manifest.source["repository"], manifest.source["revision"]) == (name, commit)
    assert manifest.source["url"] == f"{hub.url}/{name}/tree/{commit}"
    assert f"note: '{name}' is no zoo model: one was made here of its weights, which were recognised as timm's" in done.err
    assert "note: its zoo.json was made here; not known: method, epochs, data" in done.err
    assert read_config(folder).num_classes == 0


def test_it_is_pinned_hashed_and_opened_without_network(hub, commands, tmp_path):
    name = "timm/test_resnet.pinned"
    files = saved(network("test_resnet"), tmp_path / "saved")
    commit = hub.store.publish(name, files)
    folder = pulled(commands.zoo("pull", name))
    hub.seen.clear()
    assert pulled(commands.zoo("pull", name, "--offline")) == folder
    assert pulled(commands.zoo("pull", f"{name}@{commit}", "--offline")) == folder
    # A commit that was pulled asks nobody, and neither do commands that open the model.
    assert pulled(commands.zoo("pull", f"{name}@{commit}")) == folder
    program = f"""
from zoo.model_spec import open_model
model = open_model("hub:{name}")
print(model.arch, model.metadata["source"]["revision"])
"""
    assert commands.python(program).last == f"test_resnet {commit}"
    assert hub.seen == []
    assert content(pulled(commands.zoo("pull", name, "--out", tmp_path / "copy"))) == content(folder)
    assert "GET cdn" not in hub.routes_since()
    # Other weights under the same name are refused, and taken on demand.
    other = saved(network("test_resnet", seed=1), tmp_path / "other")
    hub.store.publish(name, other)
    refused(commands.zoo("pull", name), rf"'{name}' is another model than when it was first pulled .* model\.safetensors had sha256")
    newer = pulled(commands.zoo("pull", name, "--update"))
    assert newer != folder
    assert read_manifest(newer).tensors_sha256 != read_manifest(folder).tensors_sha256
    # Damage is found, and mended with network.
    (newer / WEIGHTS).write_bytes(b"\0" + (newer / WEIGHTS).read_bytes()[1:])
    refused(commands.zoo("pull", name, "--offline"), r"model\.safetensors is not the file that zoo\.json describes")
    assert pulled(commands.zoo("pull", name)) == newer
    assert pulled(commands.zoo("pull", name, "--offline")) == newer


def test_weights_of_timm_in_a_pickle(hub, commands, tmp_path):
    made = network("test_resnet", seed=5)
    files = saved(made, tmp_path / "saved", pickled=True)
    assert set(files) == {"config.json", "pytorch_model.bin"}
    hub.store.publish("timm/test_resnet.pickled", files)
    ours, _ = load_zoo_model(pulled(commands.zoo("pull", "timm/test_resnet.pickled")))
    made.reset_classifier(0)
    assert torch.equal(features(ours, 160), features(made, 160))


def test_wrong_bytes_of_the_store(hub, commands, tmp_path):
    name = "timm/test_resnet.corrupt"
    hub.store.publish(name, saved(network("test_resnet", seed=2), tmp_path / "saved"))
    hub.fail("cdn", "corrupt", times=9)
    refused(
        commands.zoo("pull", name), r"model\.safetensors of .* has the wrong bytes \(sha256 .*, also when it was downloaded a second time"
    )
    hub.faults.clear()
    pulled(commands.zoo("pull", name))


def altered(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    config = json.loads(files["config.json"])
    for key, value in changes.items():
        (config["pretrained_cfg"] if key in config["pretrained_cfg"] else config)[key] = value
    return {**files, "config.json": json.dumps(config).encode()}


REFUSED = {
    "unknown architecture": ({"architecture": "resnet5000"}, "is for 'resnet5000', which timm .* does not have"),
    "another architecture": ({"architecture": "test_vit"}, "is not the 'test_vit' that .*config.json describes"),
    "arguments": ({"model_args": {"block": "evil"}}, "has model_args that are not read: {'block': 'evil'}"),
    "channels": ({"input_size": [1, 160, 160]}, "images of 1 x 160 x 160, and the zoo's networks take square images of 3 channels"),
    "types": ({"mean": "0.5"}, "is not a config.json of timm: 'mean'"),
    "classes": ({"num_classes": "many"}, "is not a config.json of timm: 'num_classes'"),
    "a class count that is not the file's": ({"num_classes": 7}, "is not the 'test_resnet' that"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(hub, commands, tmp_path, case):
    changes, sentence = REFUSED[case]
    files = altered(saved(network("test_resnet"), tmp_path / "saved"), **changes)
    if "num_classes" in changes:
        config = json.loads(files["config.json"])
        config["num_classes"] = changes["num_classes"]
        files["config.json"] = json.dumps(config).encode()
    name = f"timm/refused{len(case)}"
    hub.store.publish(name, files)
    refused(commands.zoo("pull", name), f"'{name}' is no zoo model, and none can be made of it: .*{sentence}")
    refused(commands.zoo("pull", name, "--offline"), "was not pulled before")


def test_a_checkpoint_that_a_reader_knows(hub, commands, tmp_path):
    made = network("resnet18", num_classes=0)
    save_file({key: tensor.contiguous() for key, tensor in made.state_dict().items()}, tmp_path / "weights.safetensors")
    weights = (tmp_path / "weights.safetensors").read_bytes()
    preprocessor = {
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
        "resample": 3,
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
    }
    hub.store.publish("lab/backbone", {"weights.safetensors": weights, "preprocessor_config.json": json.dumps(preprocessor).encode()})
    folder = pulled(commands.zoo("pull", "lab/backbone"))
    ours, manifest = load_zoo_model(folder)
    assert torch.equal(features(ours, 64), features(made, 64))
    assert (manifest.mean, manifest.std, manifest.interpolation) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "bicubic")
    assert (manifest.image_size, manifest.crop_pct) == (224, 224 / 256)
    assert (manifest.licence, manifest.source["unknown"]) == (None, ["method", "epochs", "data", "licence"])
    assert load_file(folder / WEIGHTS).keys() == made.state_dict().keys()
    hub.store.publish("lab/two", {"a.safetensors": weights, "b.safetensors": weights})
    refused(commands.zoo("pull", "lab/two"), r"several files of weights \(a\.safetensors, b\.safetensors\); choose one: `zoo import http")
    hub.store.publish("lab/strange", {"config.json": b'{"model_type": "strange"}', WEIGHTS: weights[:100]})
    refused(commands.zoo("pull", "lab/strange"), "none can be made of it: .*model.safetensors")


def weights_of(made, folder) -> bytes:
    save_file({key: tensor.contiguous() for key, tensor in made.state_dict().items()}, folder / "weights.safetensors")
    return (folder / "weights.safetensors").read_bytes()


def transformers_files(folder, arch: str, **settings) -> dict[str, bytes]:
    """A network with other numbers than a fresh one, in transformers' names, with its config.json changed."""
    convert(f"random:{arch}", "transformers", folder, verify=False)
    tensors = load_file(folder / WEIGHTS)
    for name, tensor in tensors.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
    save_file(tensors, folder / WEIGHTS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return content(folder)


def test_heads_and_epsilon_are_taken_from_the_config(hub, commands, tmp_path):
    files = transformers_files(tmp_path / "saved", "vit_tiny_patch16_224", num_attention_heads=6, layer_norm_eps=1e-12)
    hub.store.publish("lab/heads", files)
    done = commands.zoo("pull", "lab/heads")
    ours, manifest = load_zoo_model(pulled(done))
    assert manifest.source["model_args"]["num_heads"] == 6
    made = network("vit_tiny_patch16_224", num_classes=0, num_heads=6, norm_layer=partial(torch.nn.LayerNorm, eps=1e-12))
    made.load_state_dict(ours.state_dict())
    assert torch.equal(features(ours, 224), features(made, 224))
    assert "built with 6 heads" in done.err


ANOTHER_FUNCTION = {
    "another activation": ("vit_tiny_patch16_224", {"hidden_act": "softplus"}, "softplus"),
    "stride elsewhere": ("resnet50", {"downsample_in_bottleneck": True}, "stride in the first convolution of a block"),
    "large epsilon": ("vit_tiny_patch16_224", {"layer_norm_eps": 0.1}, r"the epsilon of norms 0\.1"),
    "no epsilon": ("vit_tiny_patch16_224", {"layer_norm_eps": "small"}, "the epsilon of norms 'small'"),
    "no number of heads": ("vit_tiny_patch16_224", {"num_attention_heads": [3]}, "num_attention_heads"),
}


@pytest.mark.parametrize("case", ANOTHER_FUNCTION)
def test_settings_that_make_another_function_are_refused(hub, commands, tmp_path, case):
    arch, settings, sentence = ANOTHER_FUNCTION[case]
    name = f"lab/{case.replace(' ', '-')}"
    hub.store.publish(name, transformers_files(tmp_path / "saved", arch, **settings))
    refused(commands.zoo("pull", name), f"none can be made of it: .*{sentence}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_what_transformers_saves_computes_the_same(hub, commands, tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "vit":
        # With timm's epsilon; that of transformers shows beside random weights.
        config = transformers.ViTConfig(hidden_size=192, num_attention_heads=6, intermediate_size=768, image_size=96, layer_norm_eps=1e-6)
        theirs = transformers.ViTModel(config).eval()
    else:
        theirs = transformers.ResNetModel(
            transformers.ResNetConfig(hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
        ).eval()
    with_statistics(theirs).save_pretrained(tmp_path / "saved")
    transformers.ViTImageProcessor(size={"height": 96, "width": 96}).save_pretrained(tmp_path / "saved")
    hub.store.publish(f"lab/hf_{kind}", content(tmp_path / "saved"))
    ours, manifest = load_zoo_model(pulled(commands.zoo("pull", f"lab/hf_{kind}")))
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        output = theirs(images)
        wanted = output.last_hidden_state[:, 0] if kind == "vit" else output.pooler_output.flatten(1)
    torch.testing.assert_close(ours(images), wanted, rtol=1e-4, atol=1e-4)
    assert (manifest.image_size, manifest.crop_pct, manifest.mean) == (96, 1.0, (0.5, 0.5, 0.5))


class Settings:
    """A class that no reader knows."""


def test_trust_pickle_reaches_pull(hub, commands):
    Settings.__module__, file = "their_code", io.BytesIO()
    try:
        import sys
        import types

        sys.modules["their_code"] = types.ModuleType("their_code")
        sys.modules["their_code"].Settings = Settings  # type: ignore[attr-defined]
        torch.save({"state_dict": network("resnet18", num_classes=0).state_dict(), "settings": Settings()}, file)
    finally:
        del sys.modules["their_code"]
    hub.store.publish("lab/pickled", {"checkpoint.pth": file.getvalue()})
    refused(commands.zoo("pull", "lab/pickled"), "their_code.*Settings")
    done = commands.zoo("pull", "lab/pickled", "--trust-pickle")
    assert read_manifest(pulled(done)).arch == "resnet18"
