"""Warnings about wrong inputs: normalisation, order of channels, mode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typed import run

from evaluation.extraction.inputs import input_warnings
from zoo.data import ArrayImages, Level
from zoo.model_spec import open_model
from zoo.models.model import Model
from zoo.models.transforms import EvalTransform, normalise

FILE = Path(__file__).parents[1] / "own_network.py"
CPU = torch.device("cpu")


def photographs(count: int = 80) -> ArrayImages:
    """Images with the colours of nature: dark and bright ones, more red than blue."""
    rng = np.random.default_rng(0)
    base = rng.normal(110, 45, (count, 1, 1, 1)) + rng.normal(0, 30, (count, 16, 16, 1)) + rng.normal([12, 2, -14], 12, (count, 16, 16, 3))
    pixels = base.clip(0, 255).astype(np.uint8)
    return ArrayImages("photographs", "test", pixels, {"class": Level(np.arange(count) % 10, tuple("abcdefghij"))})


def trained(name: str = "declared") -> Model:
    """A network whose batch norm has seen such images as it declares."""
    model = open_model(f"python:{FILE}:{name}")
    images = normalise(torch.from_numpy(photographs().pixels), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model.module.train()
    for _ in range(60):
        model.module(images)
    return replace(model, module=model.module.eval())


def transform(mean: tuple[float, float, float], std: tuple[float, float, float], channels: str = "rgb") -> EvalTransform:
    return EvalTransform(16, 16, "bilinear", mean, std, channels)  # type: ignore[arg-type]


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_the_right_input_is_not_doubted() -> None:
    model = trained()
    declared = replace(model, declared=replace(model.declared, mean=IMAGENET[0], std=IMAGENET[1]))
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    assert input_warnings(declared, photographs(), transform(*IMAGENET), CPU) == []
    assert all(torch.equal(value, before[key]) for key, value in model.module.state_dict().items())
    assert not model.module.training


def test_what_differs_from_the_declared_is_named() -> None:
    model = open_model(f"python:{FILE}:declared")
    found = input_warnings(model, photographs(), transform((0.5, 0.4, 0.3), (0.3, 0.3, 0.3), "bgr"), CPU)
    assert found == [
        "it declares the std (0.2, 0.25, 0.3) and gets images normalised by (0.3, 0.3, 0.3)",
        "it declares channels in the order rgb and gets bgr",
    ]
    silent = open_model(f"python:{FILE}:own")
    (one,) = input_warnings(silent, photographs(), transform(*IMAGENET), CPU)
    assert one.startswith("it declares no mean and std, so those of the data are used, (0.485, 0.456, 0.406)")


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), ((0.9, 0.9, 0.9), (0.05, 0.05, 0.05))], ids=["none", "another"]
)
def test_batch_norms_betray_a_wrong_normalisation_that_nobody_declared(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    model = replace(trained("own"), mean=mean, std=std)
    (one,) = input_warnings(model, photographs(), transform(mean, std), CPU)
    assert one.startswith("what its first batch norm saw in training looks like images normalised by ImageNet's mean and std")


def test_a_network_that_stays_in_training_mode_is_named() -> None:
    model = open_model(f"python:{FILE}:stuck")
    (one,) = input_warnings(model, photographs(), transform((0.5, 0.4, 0.3), (0.2, 0.25, 0.3)), CPU)
    assert one == (
        "it stays in training mode when it is put into eval mode (Stuck, conv, norm and 1 more); "
        "1 batch norm uses each batch's own statistics, so that its features depend on --batch-size"
    )


def test_features_that_depend_on_the_batch_or_on_chance_are_noticed() -> None:
    class Mixing(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            rows = images.mean((2, 3))
            return rows - rows.mean(0)

    class Noisy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(images.mean((2, 3)), training=True)

    made = {"of another": Mixing(), "draws at random": Noisy()}
    texts = {
        key: input_warnings(Model(network, "toy", "random", "toy", 3, "0"), photographs(), transform(*IMAGENET), CPU)
        for key, network in made.items()
    }
    (mixed,) = texts["of another"]
    assert mixed.startswith("the features of an image depend on the others in its batch, though in eval mode")
    assert texts["draws at random"] == ["it gives other features each time, though in eval mode: some layer draws at random"]


def test_the_command_prints_warnings_and_the_result_keeps_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zoo.results import load_result

    words = ["--model", f"python:{FILE}:declared", "--features", "flatten", "--data", "digits", "--channels", "bgr", "--k", "5"]
    assert run(*words, "--out", tmp_path / "knn.json") == 0
    captured = capsys.readouterr()
    text = "it declares channels in the order rgb and gets bgr"
    assert f"warning: declared: {text}" in captured.err
    assert f"warning: declared: {text}" in captured.out
    result = load_result(tmp_path / "knn.json")
    assert result.details["warnings"] == [text]
    assert (result.protocol["channels"], result.protocol["layer"]) == ("bgr", "flatten")
    assert result.details["feature_width"] == 8
