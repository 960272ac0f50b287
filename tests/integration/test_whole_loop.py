"""The whole loop as a user types it: pre-train, export, evaluate the run and the exported model, put the result on the card."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import timm
import torch

import evaluation.commands.cli
import pretrain.cli
import zoo
import zoo.commands.cli
from zoo.results import load_result

RECIPE = """
data: shapes:train=90,test=45,size=16
backbone: test_resnet
method: {name: simclr, dim: 16}
views: {size: 16, blur: 0.0}
batch: 30
epochs: 1
optimizer: {lr: 0.05}
device: cpu
knn: {every_epochs: 0}
"""


def test_the_numbers_survive_export_and_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)

    def typed(line: str) -> str:
        command, *words = line.split()
        mains = {"pretrain": pretrain.cli.main, "evaluate": evaluation.commands.cli.main, "zoo": zoo.commands.cli.main}
        monkeypatch.setattr(sys, "argv", [command, *words])
        with pytest.raises(SystemExit) as left:
            mains[command]()
        output = capsys.readouterr()
        assert not left.value.code, output.err
        return output.out

    Path("tiny.yaml").write_text(RECIPE)
    data = "shapes:train=90,test=45,size=16"
    typed("pretrain tiny.yaml --out run")
    typed("zoo export run --out model")
    table = typed(f"evaluate --task knn --data {data} --model pixels --model run --model model --k 5,20 --out results --pictures pictures")
    run, model = (load_result(Path("results") / f"{name}.json") for name in ("run", "model"))
    assert run.counts == model.counts
    assert run.model.tensors_sha256 == model.model.tensors_sha256
    assert model.model.file_sha256 == json.loads(Path("model/zoo.json").read_text())["file_sha256"]
    assert f"{model.headline.value:.2f}" in table
    assert sorted(path.name for path in Path("pictures").iterdir()) == ["model.png", "pixels.png", "run.png"]

    typed("zoo add-result model results/model.json")
    assert f"{model.headline.value:.2f}" in Path("model/README.md").read_text()
    assert f"{model.headline.value:.2f}" in typed("zoo info model")

    images = torch.rand(4, 3, 16, 16)
    by_zoo = zoo.load("model")
    by_timm = timm.create_model("local-dir:model", pretrained=True).eval()
    with torch.inference_mode():
        assert torch.equal(by_zoo(images), zoo.load("run")(images))
        assert torch.equal(by_zoo(images), by_timm(images))
