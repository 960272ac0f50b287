"""The packages in Python by the commands' own words: the same numbers as the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import evaluation
import pretrain
import transfer
import zoo
from evaluation.commands.cli import app
from zoo.data import open_data
from zoo.errors import UserError
from zoo.results import load_result

MODEL = "random:resnet10_small:3"


def by_command(tmp_path: Path, *words: str) -> dict[str, float]:
    out = tmp_path / "result.json"
    done = CliRunner().invoke(
        app, ["--model", MODEL, "--data", "digits", "--out", str(out), "--overwrite", "--no-cache", *words], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return dict(load_result(out).metrics)


def test_tasks_are_the_commands(tmp_path: Path) -> None:
    assert evaluation.knn(MODEL, "digits", k=[1, 5]).metrics == by_command(tmp_path, "--task", "knn", "--k", "1,5")
    found = evaluation.linear(zoo.open_model(MODEL), open_data("digits"), preset="logreg", c=[1.0], seed=2)
    assert found.metrics == by_command(tmp_path, "--task", "linear", "--preset", "logreg", "--c", "1", "--seed", "2")
    assert evaluation.cluster(MODEL, "digits", clusters=[5], split="val").metrics == by_command(
        tmp_path, "--task", "cluster", "--clusters", "5", "--split", "val"
    )
    with pytest.raises(UserError, match="unknown knn preset"):
        evaluation.knn(MODEL, "digits", preset="dinoo")


def test_features_are_those_of_the_network() -> None:
    features = evaluation.extract(MODEL, "digits", "test", device="cpu")
    model, data = zoo.open_model(MODEL), open_data("digits")
    images = data.role("test")
    assert features.features.shape == (len(images), model.num_features)
    assert images.pixels is not None
    pixels = torch.from_numpy(images.pixels[:4]).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.mean or data.mean, model.std or data.std))
    with torch.no_grad():
        torch.testing.assert_close(features.features[:4], model.module((pixels - mean) / std), atol=1e-4, rtol=1e-4)


def test_a_training_and_a_conversion(tmp_path: Path) -> None:
    outcome = pretrain.train(
        "simclr_cifar10_cpu",
        out=tmp_path / "run",
        data="shapes:train=32,test=8",
        backbone="resnet10_small",
        batch=16,
        epochs=1,
        device="cpu",
        trackers=[],
        keys={"views.size": 16, "views.blur": 0, "knn.every_epochs": 0},
    )
    assert (outcome.step, outcome.steps, outcome.stopped) == (2, 2, None)
    done = transfer.convert("random:resnet18", "torchvision", tmp_path / "weights.pth")
    assert done.checks[0].startswith("checked by a forward pass")


def test_names_that_are_offered_are_there_and_typed() -> None:
    for package in (zoo, evaluation, pretrain, transfer):
        assert all(callable(getattr(package, name)) or isinstance(getattr(package, name), type) for name in package.__all__)
        assert (Path(package.__file__).parent / "py.typed").is_file()
    assert json.dumps(sorted(evaluation.__all__)) == json.dumps(evaluation.__all__)
