"""What a recipe leaves to its device: resolved once, written down, and exact on resume; the loop with a GPU's options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.training.log import read_log
from pretrain.fitting.device_choices import with_device_choices
from pretrain.loop import Outcome, train
from pretrain.recipe_files import RECIPES, read_recipe_file
from pretrain.recipes import load_recipe, resume_recipe, typed
from pretrain.settings import PrecisionName
from zoo.errors import UserError
from zoo.models.runs import checkpoints, latest_checkpoint, read_checkpoint, read_recipe

TINY = """
data: shapes:train=40,test=30,size=16
backbone: test_resnet
method: {name: moco, queue: 32, dim: 16, momentum: 0.9}
views: {size: 16, blur: 0.3, blur_sigma: [0.1, 1.0]}
batch: 8
epochs: 2
optimizer: {lr: 0.05}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
checkpoint: {every_epochs: 1, every_steps: 3, keep: 9}
"""
VIT = ("backbone=test_vit", "views.size=32", "method.queue=8")


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_log(run / "log.jsonl")]


def same(value: Any, other: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return torch.equal(value, other)
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(same(value[key], other[key]) for key in value)
    if isinstance(value, (list, tuple)):
        return len(value) == len(other) and all(map(same, value, other))
    return bool(value == other)


def resumed_from_the_middle(recipe: str, tmp_path: Path, *overrides: str) -> tuple[Path, Path]:
    """Two runs: one that ran through, and one that goes on from its checkpoint of step 3."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for run in (whole, broken):
        assert train(load_recipe(recipe, overrides), run) == Outcome(10, 10, None)
    for path in checkpoints(broken)[1:]:
        path.unlink()
    assert train(resume_recipe(read_recipe(broken), []), broken, resume=True) == Outcome(10, 10, None)
    return whole, broken


def test_every_recipe_that_names_none_leaves_precision_and_layout_to_the_device() -> None:
    naming = {name for name in RECIPES.names() if {"precision", "channels_last"} & read_recipe_file(RECIPES.find(name)).keys()}
    # Those for a CPU, where channels_last was measured, and one whose published setting is bf16.
    assert {name for name in naming if not name.endswith(("_shapes", "_cpu", "_2h"))} == {"shapes_demo", "hcsc_vit_small_imagenet"}
    for name in ("moco_imagenet", "hcsc_ccrop_cifar10"):
        assert name not in naming
        recipe = load_recipe(name)
        assert (recipe.precision, recipe.channels_last) == (PrecisionName.auto, "auto")


def test_choices_are_resolved_once_and_recorded(recipe: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(load_recipe(recipe, ["epochs=1"]), run)
    recorded = read_recipe(run)
    assert (recorded["precision"], recorded["channels_last"], recorded["micro_batch"]) == ("fp32", False, None)
    assert (recorded["tf32"], recorded["deterministic"], recorded["compile"]) == (False, False, False)
    # A run of before these keys were there goes on as it was.
    for key in ("tf32", "deterministic", "compile", "activation_checkpointing"):
        del recorded[key]
    assert typed(with_device_choices(resume_recipe(recorded, []))).precision is PrecisionName.fp32


def test_the_default_is_the_full_precision_that_a_cpu_always_had(recipe: str, tmp_path: Path) -> None:
    train(load_recipe(recipe, ["epochs=1"]), tmp_path / "auto")
    train(load_recipe(recipe, ["epochs=1", "precision=fp32", "channels_last=false"]), tmp_path / "named")
    one, other = (read_checkpoint(latest_checkpoint(tmp_path / name)) for name in ("auto", "named"))
    assert same(one, other)
    assert losses(tmp_path / "auto") == losses(tmp_path / "named")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("channels_last=maybe", "channels_last is true, false or auto, not 'maybe'"),
        ("micro_batch=most", "micro_batch is a number of images or auto, not 'most'"),
        ("device=mps", "Invalid value 'mps', expected one of .*auto, cpu, cuda"),
        ("activation_checkpointing=true", "for vision transformers: 'test_resnet' has batch norm"),
    ],
)
def test_values_without_meaning_are_refused(recipe: str, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(load_recipe(recipe, [override]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_vision_transformer_that_recomputes_is_the_one_that_does_not(recipe: str, tmp_path: Path) -> None:
    for name, value in (("plain", "false"), ("recomputed", "true")):
        train(load_recipe(recipe, [*VIT, "epochs=1", f"activation_checkpointing={value}"]), tmp_path / name)
    assert losses(tmp_path / "plain") == losses(tmp_path / "recomputed")


@pytest.mark.slow
def test_a_compiled_run_learns_what_the_plain_one_does_and_resumes_exactly(recipe: str, tmp_path: Path) -> None:
    more = ("method.name=simclr", *VIT[:2])
    whole, broken = resumed_from_the_middle(recipe, tmp_path, *more, "compile=true")
    assert losses(whole) == losses(broken)
    assert same(*(read_checkpoint(latest_checkpoint(run)) for run in (whole, broken)))
    train(load_recipe(recipe, more), tmp_path / "plain")
    assert losses(whole)[0] == pytest.approx(losses(tmp_path / "plain")[0], rel=1e-4)
    assert losses(whole)[-1] == pytest.approx(losses(tmp_path / "plain")[-1], rel=0.05)


@pytest.mark.cuda
@pytest.mark.parametrize("method", ["moco", "hcsc", "csml", "byol"])
def test_a_deterministic_run_on_a_gpu_resumes_exactly(recipe: str, tmp_path: Path, method: str) -> None:
    more = {
        "hcsc": ["method.queue=32", "method.levels=[6,3]", "method.warmup_epochs=1"],
        "csml": ["method.queue=32", "method.refresh_epochs=1", "method.cross_epochs=1", "views.size=64", "method.level4=patch"],
    }.get(method, [])
    whole, broken = resumed_from_the_middle(recipe, tmp_path, f"method.name={method}", *more, "device=cuda", "deterministic=true")
    assert read_recipe(whole)["precision"] == "bf16"
    assert losses(whole) == losses(broken)
    assert same(*(read_checkpoint(latest_checkpoint(run)) for run in (whole, broken)))
    assert all("device_memory" in row for row in read_log(whole / "log.jsonl") if row["step"] == 9)


@pytest.mark.cuda
def test_a_gpu_takes_bf16_and_channels_last_unless_told_otherwise(recipe: str, tmp_path: Path) -> None:
    train(load_recipe(recipe, ["device=cuda", "epochs=1"]), tmp_path / "run")
    recorded = read_recipe(tmp_path / "run")
    assert (recorded["precision"], recorded["channels_last"]) == ("bf16", True)
