"""Pulling by a name of the catalogue: from a repository on the Hub, or from the authors' address by download and import."""

from __future__ import annotations

import pytest
import torch
from hub_server import sha256
from typed import WEIGHTS, content, pulled, refused

from zoo.hashing import tensors_sha256
from zoo.manifest import read_manifest


@pytest.fixture(scope="module")
def checkpoint(make_backbone, tmp_path_factory) -> bytes:
    """A checkpoint as MoCo's authors write one."""
    backbone = make_backbone("resnet18", image_size=224, seed=5)
    state = {f"module.encoder_q.{name}": tensor for name, tensor in backbone.state_dict().items()}
    state |= {"module.encoder_q.fc.0.weight": torch.zeros(8, 512), "module.queue": torch.zeros(8, 16)}
    path = tmp_path_factory.mktemp("moco") / "moco.pth.tar"
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {}}, path)
    return path.read_bytes()


@pytest.fixture
def catalogue(hub, checkpoint, tmp_path, monkeypatch):
    """Write a catalogue file of the user's own with one entry; gives the environment that names it."""
    hub.files["moco.pth.tar"] = checkpoint

    def write(name: str, *lines: str) -> dict[str, str]:
        path = tmp_path / "catalogue.toml"
        path.write_text("\n".join(["[[model]]", f'name = "{name}"', 'method = "moco"', 'licence = "MIT"', *lines]) + "\n")
        return {"ZOO_CATALOGUE": str(path)}

    return write


def test_weights_at_their_authors_are_downloaded_and_imported_once(hub, commands, catalogue, checkpoint, make_backbone, tmp_path):
    name = "resnet18.moco_at_authors"
    url = f'url = "{hub.url}/files/moco.pth.tar"'
    environment = catalogue(name, url, 'reader = "moco"', f'sha256 = "{sha256(checkpoint)}"')
    refused(commands.zoo("pull", name, "--offline", **environment), "was not downloaded before, and no network may be used")
    done = commands.zoo("pull", name, **environment)
    folder = pulled(done)
    assert folder == commands.home / "zoo" / "models" / name
    manifest = read_manifest(folder)
    assert manifest.tensors_sha256 == tensors_sha256(make_backbone("resnet18", image_size=224, seed=5).state_dict())
    assert (manifest.name, manifest.licence, manifest.source["sha256"]) == (name, "MIT", sha256(checkpoint))
    assert "was not confirmed by a real file yet" in done.err

    hub.seen.clear()
    assert pulled(commands.zoo("pull", name, **environment)) == folder
    assert pulled(commands.zoo("pull", name, "--offline", "--out", tmp_path / "copy", **environment)) == tmp_path / "copy"
    assert content(tmp_path / "copy") == content(folder)
    program = f"import zoo; zoo.load({name!r}); print('loaded')"
    assert commands.python(program, **environment).last == "loaded"
    assert hub.seen == []

    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    assert content(pulled(commands.zoo("pull", name, **environment))).keys() == content(tmp_path / "copy").keys()
    assert sha256(weights.read_bytes()) == sha256((tmp_path / "copy" / WEIGHTS).read_bytes())


def test_a_file_that_its_authors_exchanged_is_refused(hub, commands, catalogue, checkpoint):
    name = "resnet18.moco_exchanged"
    environment = catalogue(name, f'url = "{hub.url}/files/exchanged.pth"', 'reader = "moco"')
    hub.files["exchanged.pth"] = checkpoint
    folder = pulled(commands.zoo("pull", name, **environment))
    (folder / WEIGHTS).unlink()
    hub.files["exchanged.pth"] = checkpoint + b"\0"
    refused(
        commands.zoo("pull", name, **environment), rf"sha256 [0-9a-f]{{64}}, not {sha256(checkpoint)}.*--update accepts it as it is now"
    )


def test_a_row_with_a_home_on_the_hub(hub, commands, catalogue, model, other_model):
    commit = hub.store.publish("alice/home", content(model))
    hub.store.publish("alice/home", content(other_model))
    name = "test_resnet.at_home"
    where = ['repository = "alice/home"', f'revision = "{commit}"', 'arch = "test_resnet"']
    environment = catalogue(name, *where, f'sha256 = "{sha256(content(model)[WEIGHTS])}"')
    assert content(pulled(commands.zoo("pull", name, **environment))) == content(model)
    hub.seen.clear()
    assert commands.python(f"import zoo; zoo.load({name!r}); print('loaded')", **environment).last == "loaded"
    assert hub.seen == []
    environment = catalogue(name, *where, f'sha256 = "{sha256(content(other_model)[WEIGHTS])}"')
    refused(commands.zoo("pull", name, **environment), "'alice/home@.*' holds other weights than the catalogue says: sha256 ")


def test_what_cannot_be_pulled(hub, commands, catalogue):
    environment = catalogue("resnet50.not_published", 'recipe = "hcsc_shapes"')
    sentence = "published nowhere, as far as we know; `pretrain hcsc_shapes` makes such weights"
    refused(commands.zoo("pull", "resnet50.not_published", **environment), sentence)
    environment = catalogue("resnet50.strange", f'url = "{hub.url}/files/moco.pth.tar"', 'note = "its own layers"')
    refused(commands.zoo("pull", "resnet50.strange", **environment), r"no reader of ours fits .*; they are at http://.* \(its own layers\)")
    environment = catalogue("resnet50.gone", f'url = "{hub.url}/files/gone.pth"', 'reader = "moco"')
    refused(commands.zoo("pull", "resnet50.gone", **environment), r"there is no such file \(HTTP status 404\)")
