"""Fine-tuning with all labels: its batches, its protocols, what it reports, and going on from checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from easy_data import NAMES, easy_data, split
from torch import nn
from torchvision.transforms import RandomResizedCrop

from evaluation.tasks.finetune.presets import FINETUNE_PRESETS, FineTunePreset, Rates, change_training
from evaluation.tasks.finetune.run import run_finetune
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.semi.presets import SEMI_PRESETS
from evaluation.training.augmented import AugmentedImages, augmentation, fitting_batch
from zoo.data import open_data
from zoo.errors import UserError
from zoo.model_spec import open_model
from zoo.results import Result


def preset(**values: object) -> FineTunePreset:
    return change_training(FINETUNE_PRESETS["standard"], **{"epochs": 4, "batch": 20, "trunk_lr": 0.02, "head_lr": 0.2, **values})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result() -> Result:
    return run_finetune(open_model("random:test_resnet"), easy_data(), preset=preset())


def test_easy_classes_are_learnt_and_counted(result: Result) -> None:
    assert result.task == "finetune"
    assert result.preset == "standard@16"
    assert result.headline.metric == "top1_selected"
    assert result.headline.value > 80
    for name, value in result.metrics.items():
        assert value == 100 * result.counts["correct"][name] / 31
    assert "top5_last" not in result.metrics  # three classes
    assert (result.counts["trained_on"], result.counts["held_out"]) == (54, 6)
    curve = result.details["epochs"]
    assert len(curve["test_top1"]) == len(curve["held_out_top1"]) == 4
    assert curve["test_top1"][-1] == result.metrics["top1_last"]
    assert max(curve["test_top1"]) == result.metrics["top1_best_on_test"]
    selected = result.protocol["selected_epoch"] - 1
    assert selected == int(np.argmax(curve["held_out_top1"]))
    assert curve["test_top1"][selected] == result.metrics["top1_selected"]
    per_class = result.details["per_class"]
    assert sum(per_class["total"]) == 31
    assert sum(per_class["correct"]["top1_selected"]) == result.counts["correct"]["top1_selected"]


def test_the_protocol_says_everything(result: Result) -> None:
    protocol = result.protocol
    assert (protocol["trunk_lr"], protocol["head_lr"], protocol["batch"], protocol["epochs"]) == (0.02, 0.2, 18, 4)
    assert (protocol["optimizer"], protocol["momentum"], protocol["weight_decay"]) == ("sgd", 0.9, 1e-4)
    assert protocol["train_images"] == {"scale": [0.08, 1.0], "ratio": [3 / 4, 4 / 3], "flip": 0.5, "colours": False}
    assert (protocol["backbone"], protocol["batch_norm_training"]) == ("trained", "joint")
    assert protocol["changed"] == ["rates", "epochs", "batch"]


def test_the_model_is_left_as_it_was_and_a_seed_gives_the_same_numbers(result: Result) -> None:
    model = open_model("random:test_resnet")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    again = run_finetune(model, easy_data(), preset=preset())
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert not model.module.training
    assert again.details["epochs"] == result.details["epochs"]
    other = run_finetune(model, easy_data(), preset=preset(), runtime=Runtime(seed=1))
    assert other.details["epochs"] != result.details["epochs"]


def test_without_held_out_images_the_last_epoch_counts() -> None:
    found = run_finetune(open_model("random:test_resnet"), easy_data(), preset=preset(holdout=0.0, epochs=1))
    assert found.headline.metric == "top1_last"
    assert "top1_selected" not in found.metrics
    assert (found.counts["trained_on"], found.counts["held_out"]) == (60, 0)
    assert found.protocol["selected_epoch"] is None


def test_a_stopped_training_goes_on_from_its_checkpoints(result: Result, tmp_path: Path) -> None:
    model, data = open_model("random:test_resnet"), easy_data()
    kept = preset(checkpoints=tmp_path)
    first = run_finetune(model, data, preset=kept)
    assert [path.name for path in tmp_path.iterdir()] == ["random-test_resnet-0.easy.finetune.standard"]
    assert first.metrics == result.metrics
    assert run_finetune(model, data, preset=kept).metrics == first.metrics
    with pytest.raises(UserError, match=r"holds another training: its preset\.epochs is 4, and here it is 5"):
        run_finetune(model, data, preset=change_training(kept, epochs=5))
    with pytest.raises(UserError, match="holds another training: its seed is 0, and here it is 1"):
        run_finetune(model, data, preset=kept, runtime=Runtime(seed=1))


def test_training_images_are_random_resized_crops_that_flip() -> None:
    images = split("train", 6, 0)
    source = AugmentedImages(images, augmentation(16, (0.3, 1.0), (3 / 4, 4 / 3)), mean=(0, 0, 0), std=(1, 1, 1), seed=0, batch=6)
    (crops, index), *rest = source.batches(0)
    assert not rest
    assert sorted(index.tolist()) == list(range(6))
    # The law is torchvision's; a test of the samplers holds them to it. Here: the crop is of that very image.
    whole = torch.from_numpy(images.pixels).float().permute(0, 3, 1, 2) / 255
    assert RandomResizedCrop.get_params(whole[0], [0.3, 1.0], [3 / 4, 4 / 3])
    for crop, position in zip(crops, index.tolist(), strict=True):
        own = [float((crop.mean((1, 2)) - image.mean((1, 2))).abs().sum()) for image in whole]
        assert NAMES[int(np.argmin(own)) % 3] == NAMES[position % 3]
    # Without cropping only flips are left: each image is itself, or its mirror image.
    flips = AugmentedImages(images, augmentation(16, (1.0, 1.0), (1.0, 1.0)), mean=(0, 0, 0), std=(1, 1, 1), seed=0, batch=6)
    mirrored = set()
    for epoch in range(4):
        for crops, index in flips.batches(epoch):
            for crop, position in zip(crops, index.tolist(), strict=True):
                same = torch.allclose(crop, whole[position], atol=1e-5)
                assert same or torch.allclose(crop, whole[position].flip(2), atol=1e-5)
                mirrored.add(same)
    assert mirrored == {True, False}
    bgr = AugmentedImages(images, augmentation(16, (1.0, 1.0), (1.0, 1.0)), mean=(0, 0, 0), std=(1, 1, 1), seed=0, batch=6, channels="bgr")
    (crops, index), *_ = bgr.batches(0)
    (plain, _), *_ = flips.batches(0)
    assert torch.equal(crops, plain.flip(1))


@pytest.mark.parametrize(
    ("images", "batch"), [(12811, 256), (2560, 256), (500, 250), (257, 128), (256, 256), (100, 100), (13, 13), (2500, 250)]
)
def test_few_images_are_cut_into_batches_that_leave_few_out(images: int, batch: int) -> None:
    assert fitting_batch(256, images) == batch
    assert images - images // batch * batch < max(10, batch / 10 + 1, images / 10)
    assert fitting_batch(256, images, 3) % 3 == 0


def test_presets_are_those_of_the_publications() -> None:
    swav, hcsc, hirl, barlow, grid = (SEMI_PRESETS[name] for name in ("swav", "hcsc", "hirl", "barlow", "mmselfsup"))
    assert (swav.rates_for(1), swav.rates_for(10)) == (Rates(0.02, 5), Rates(0.01, 0.2))
    assert (swav.epochs, swav.schedule, swav.milestones, swav.gamma, swav.weight_decay) == (20, "step", (12, 16), 0.2, 0)
    assert hcsc.rates_for(1) == hcsc.rates_for(10) == Rates(0.005, 0.02)
    assert (hcsc.epochs, hcsc.milestones, hcsc.gamma) == (70, (30, 60), 0.1)
    assert (hirl.rates_for(1), hirl.rates_for(10), hirl.epochs) == (Rates(0.02, 0.2), Rates(0.005, 0.1), 70)
    assert (barlow.rates_for(1), barlow.epochs, barlow.schedule) == (Rates(0.005, 0.5), 20, "cosine")
    assert len(grid.grid) == 9
    assert {(rates.trunk, round(rates.head / rates.trunk)) for rates in grid.grid} == {
        (trunk, times) for trunk in (0.1, 0.01, 0.001) for times in (1, 10, 100)
    }
    assert grid.weight_decay == 5e-4
    assert all(one.batch == 256 and one.momentum == 0.9 and not one.legacy_std for one in SEMI_PRESETS.values())
    # Between two shares the nearer one's rates, by their ratio.
    assert (swav.rates_for(3), swav.rates_for(4), swav.rates_for(100)) == (Rates(0.02, 5), Rates(0.01, 0.2), Rates(0.01, 0.2))


def test_milestones_move_with_the_epochs() -> None:
    assert change_training(SEMI_PRESETS["hcsc"], epochs=7).milestones == (3, 6)
    assert change_training(SEMI_PRESETS["swav"], epochs=100).milestones == (60, 80)


def test_the_red_deviation_of_swav_and_hcsc() -> None:
    model, data = open_model("random:test_resnet"), easy_data(12)
    found = run_finetune(model, data, preset=preset(epochs=1, holdout=0.0, legacy_std=True))
    assert found.protocol["std"] == [0.228, 0.224, 0.225]
    assert found.protocol["legacy_std"]
    digits = open_data("shapes:size=8,train=18,test=9")
    with pytest.raises(UserError, match="--legacy-std changes ImageNet's deviation"):
        run_finetune(model, digits, preset=preset(epochs=1, legacy_std=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"batch": 1}, "--batch must be at least 2"),
        ({"trunk_lr": -1.0}, "--trunk-lr must be at least 0, not -1.0"),
        ({"head_lr": float("nan")}, "--head-lr must be at least 0, not nan"),
        ({"weight_decay": -0.1}, "--weight-decay must be at least 0"),
        ({"holdout": 1.0}, "--holdout must be at least 0 and below 1, not 1.0"),
    ],
)
def test_values_without_meaning_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        change_training(FINETUNE_PRESETS["standard"], **values)  # type: ignore[arg-type]


def test_pixels_have_nothing_to_train() -> None:
    with pytest.raises(UserError, match="'pixels' has no weights to fine-tune"):
        run_finetune(open_model("pixels"), easy_data(), preset=preset())


def test_a_frozen_network_is_the_linear_protocol() -> None:
    from dataclasses import replace

    frozen = replace(preset(epochs=12), how="frozen", rates={100: Rates(0.0, 5.0)})
    found = run_finetune(open_model("random:test_resnet"), easy_data(), preset=frozen)
    assert found.protocol["backbone"] == "frozen"
    assert found.headline.value > 60


def test_a_layer_inside_a_network_is_fine_tuned_up_to_there() -> None:
    from dataclasses import replace

    from zoo.models.layers import Layer

    model = open_model("random:test_resnet")
    inner = replace(model, module=Layer(model.module, "layer3"), num_features=None, layer="layer3")
    tuned = run_finetune(inner, easy_data(), preset=preset(epochs=3))
    assert tuned.headline.value > 60
    from evaluation.training.classifier import freeze_unused

    freeze_unused(inner.module.requires_grad_(True), 16)
    frozen = {name for name, parameter in inner.module.named_parameters() if not parameter.requires_grad}
    assert frozen
    assert all(name.startswith("network.layer4") for name in frozen)


class _Nan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3, 4), torch.nan))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) @ self.weight


def test_damaged_weights_stop_the_training() -> None:
    from dataclasses import replace

    model = replace(open_model("random:test_resnet"), module=_Nan(), num_features=4)
    with pytest.raises(UserError, match="the loss became nan at step 0"):
        run_finetune(model, easy_data(), preset=preset())


def test_a_signal_saves_and_leaves_with_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import os
    import signal
    import threading
    import time

    from typed import run

    def stop_after_a_step() -> None:
        while not any(path.stat().st_size for path in tmp_path.rglob("log.jsonl")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=stop_after_a_step, daemon=True).start()
    words = (
        "--task",
        "finetune",
        "--model",
        "random:test_resnet",
        "--data",
        "shapes:size=8,train=18,test=9",
        "--epochs",
        5000,
        "--holdout",
        0,
    )
    assert run(*words, "--checkpoints", tmp_path) == 3
    assert "stopped by SIGUSR1 after step" in capsys.readouterr().err
    assert len(list(tmp_path.rglob("step_*.pt"))) == 1
