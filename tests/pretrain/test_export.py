"""From a run to a zoo model: the same features bit for bit, through the zoo and through timm."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from typer.testing import CliRunner

import zoo
from pretrain.runs.export import export_run
from zoo.commands.cli import app
from zoo.errors import UserError
from zoo.model_folder.manifest import read_manifest
from zoo.model_spec import open_model
from zoo.results import save_result


@pytest.mark.parametrize(("arch", "image_size"), [("resnet18", 32), ("resnet18_small", 32), ("vit_tiny_patch16_224", 32)])
def test_features_after_export_and_reload_are_those_of_the_run(tmp_path, make_run, make_backbone, arch, image_size):
    run = make_run(arch=arch, image_size=image_size)
    folder = export_run(run, tmp_path / "model")
    images = torch.randn(4, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    reloaded = [zoo.load(str(folder)), timm.create_model(f"local-dir:{folder}", pretrained=True).eval(), zoo.load(str(run))]
    with torch.no_grad():
        wanted = make_backbone(arch, image_size=image_size, seed=10)(images)
        assert all(torch.equal(network(images), wanted) for network in reloaded)


def test_the_key_encoder_and_an_older_checkpoint_when_asked(tmp_path, make_run, make_backbone):
    run = make_run(steps=(10, 20))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    older = run / "checkpoints" / "step_00000010.pt"
    made = {
        21: export_run(run, tmp_path / "key", encoder="key"),
        10: export_run(run, tmp_path / "older", checkpoint=older),
        11: export_run(run, tmp_path / "older key", checkpoint=older, encoder="key"),
    }
    with torch.no_grad():
        for seed, folder in made.items():
            assert torch.equal(zoo.load(str(folder))(images), make_backbone(seed=seed)(images))
    assert read_manifest(tmp_path / "older key").encoder == "key"


def test_the_folder_says_where_the_model_comes_from(tmp_path, make_run):
    said = read_manifest(export_run(make_run(), tmp_path / "model", licence="MIT"))
    assert (said.name, said.arch, said.method, said.encoder) == ("test_resnet.moco_2ep", "test_resnet", "moco", "query")
    assert (said.epochs, said.steps, said.image_size, said.licence) == (2, 10, 32, "MIT")
    assert (said.mean, said.std) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    assert said.recipe["method"] == {"name": "moco", "temperature": 0.2}
    assert said.source == {"run": "run", "checkpoint": "step_00000010.pt", "commit": "abc1234", "versions": {"torch": "2.9"}}


def test_nothing_published_names_the_machine(tmp_path, make_run):
    folder = export_run(make_run(), tmp_path / "model")
    for path in folder.iterdir():
        assert b"somebody" not in path.read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()
    said = read_manifest(folder)
    assert (said.data, said.recipe["data"], said.recipe["init"]) == ("cifar10", "cifar10", "start")


def test_results_of_the_run_go_on_the_card(tmp_path, make_run, make_result):
    run = make_run()
    save_result(make_result(open_model(str(run)).tensors_sha256), tmp_path / "knn.json")
    folder = export_run(run, tmp_path / "model", results=[tmp_path / "knn.json"])
    assert "57.25" in (folder / "README.md").read_text()
    with pytest.raises(UserError, match="was measured with the weights of"):
        export_run(run, tmp_path / "key", encoder="key", results=[tmp_path / "knn.json"])
    assert not (tmp_path / "key").exists()


def test_the_command_writes_and_refuses(tmp_path, make_run):
    run, out = make_run(), tmp_path / "model"
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(out), "--name", "mine.v1"], catch_exceptions=False)
    assert done.output == f"{out}: a zoo model; `zoo info {out}` shows it\n"
    assert json.loads((out / "zoo.json").read_text())["name"] == "mine.v1"
    with pytest.raises(UserError, match="exists already"):
        CliRunner().invoke(app, ["export", str(run), "--out", str(out)], catch_exceptions=False)
    assert CliRunner().invoke(app, ["export", str(run), "--out", str(out), "--overwrite"]).exit_code == 0
    assert read_manifest(out).name == "test_resnet.moco_2ep"


def test_what_cannot_be_exported_leaves_nothing(tmp_path, make_run):
    run, out = make_run(), tmp_path / "model"
    with pytest.raises(UserError, match="is not a run folder"):
        export_run(tmp_path, out)
    with pytest.raises(UserError, match="does not belong to the run"):
        export_run(run, out, checkpoint=make_run("other") / "checkpoints" / "step_00000010.pt")
    with pytest.raises(UserError, match="no encoder 'teacher'; it has: query, key"):
        export_run(run, out, encoder="teacher")
    with pytest.raises(UserError, match="'two words' cannot name a zoo model"):
        export_run(run, out, name="two words")
    newest = run / "checkpoints" / "step_00000020.pt"
    newest.write_bytes((run / "checkpoints" / "step_00000010.pt").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"step_00000020\.pt is damaged .*step_00000010\.pt: remove the damaged file, or name the good one"):
        export_run(run, out)
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]
