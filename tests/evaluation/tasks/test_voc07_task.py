"""The task voc07: support vector machines and HCSC's linear layer on a small folder in the archives' layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from left_running import everything_ends
from PIL import Image
from typed import refusal, run

from evaluation.tasks.again import words_again
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.voc07.precision import average_precision, per_image_precision
from evaluation.tasks.voc07.presets import VOC07_PRESETS, SvmPreset, change
from evaluation.tasks.voc07.probe import CORNERS, CornerCrop
from evaluation.tasks.voc07.run import run_voc07
from evaluation.tasks.voc07.svm import SvmSettings, evaluate_svm
from zoo.data import open_data
from zoo.data.sets.voc07 import CLASSES
from zoo.errors import UserError
from zoo.model_folder.again import PLACE
from zoo.model_spec import open_model
from zoo.results import load_result

PER_SPLIT = {"train": 60, "val": 40, "test": 60}
WORDS = ("--task", "voc07", "--model", "random:test_resnet", "--image-size", "16", "--no-cache")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 20 colours, one for each class; of two colours where they show two classes."""
    root = tmp_path_factory.mktemp("voc")
    folder = root / "VOCdevkit" / "VOC2007"
    lists, images = folder / "ImageSets" / "Main", folder / "JPEGImages"
    lists.mkdir(parents=True)
    images.mkdir()
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (20, 3))
    marks: dict[str, np.ndarray] = {}
    splits: dict[str, list[str]] = {}
    for split, count in PER_SPLIT.items():
        splits[split] = []
        for index in range(count):
            name = f"{split}{index:03}"
            row = np.full(20, -1)
            shown = [index % 20, *([int(rng.integers(20))] if index % 3 == 0 else [])]
            row[shown] = 1
            if index % 7 == 0:
                row[(index + 5) % 20] = 0 if row[(index + 5) % 20] == -1 else 1
            pixels = np.concatenate([np.tile(colours[one], (24, 30 // len(shown), 1)) for one in shown], axis=1)
            pixels = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(images / f"{name}.jpg", quality=95)
            marks[name] = row
            splits[split].append(name)
    splits["trainval"] = splits["train"] + splits["val"]
    for split, names in splits.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for column, one in enumerate(CLASSES):
            (lists / f"{one}_{split}.txt").write_text("".join(f"{name} {marks[name][column]:2d}\n" for name in names))
    return root


def test_svms_on_features_are_those_of_the_arrays(root: Path) -> None:
    from evaluation.extraction.features import extract_features
    from zoo.models.transforms import EvalTransform

    model, data = open_model("random:test_resnet", image_size=16), open_data(f"voc07:{root}")
    preset = change(VOC07_PRESETS["pcl"], shots=[1, 3])
    result = run_voc07(model, data, preset=preset, image_size=16)
    assert (result.task, result.preset, result.headline.metric) == ("voc07", "pcl@16", "map_area")
    transform = EvalTransform(18, 16, "bilinear", data.mean, data.std)
    train, test = (extract_features(model.module, data.role(role), transform).features.numpy() for role in ("train", "test"))
    labels, truth = data.role("train").multilabel, data.role("test").multilabel
    assert labels is not None
    assert truth is not None
    expected = evaluate_svm(train, labels, test, truth, SvmSettings((0.5,), difficult_are_negative=True))
    assert result.metrics["map_area"] == pytest.approx(expected.map_area)
    assert result.metrics["map_11point"] == pytest.approx(expected.map_11point)
    assert result.details["per_class"]["ap_area"] == pytest.approx(expected.area.tolist())
    assert result.details["per_class"]["positives"] == (truth.values == 1).sum(0).tolist()
    assert (result.counts["train_images"], result.counts["test_images"], result.data.classes) == (100, 60, 20)
    assert result.metrics.keys() >= {"low_shot_k1_mean", "low_shot_k1_std", "low_shot_k3_mean", "low_shot_k3_std"}
    area = np.array(result.details["low_shot"]["k3"]["area"])
    assert area.shape == (5, 1)
    assert result.metrics["low_shot_k3_mean"] == pytest.approx(area.mean())
    assert result.protocol["difficult"] == "negative in training, negative in the test"
    assert result.protocol["changed"] == ["shots"]


def test_vissl_chooses_costs_by_validation_and_says_what_the_test_chose(root: Path) -> None:
    vissl = VOC07_PRESETS["vissl"]
    assert isinstance(vissl, SvmPreset)
    assert vissl.costs == (0.01, 0.1, 1, 2, 5, 10, 15, 20, 50, 100, 1000)
    assert (vissl.folds, vissl.positive_weight, vissl.iterations, vissl.draws) == (3, 2, 2000, 5)
    assert vissl.shots == (1, 2, 4, 8, 16, 32, 64, 96)
    # Of the grid three values, for the time that it takes.
    preset = replace(vissl, costs=(0.1, 5.0, 100.0), shots=(1,))
    result = run_voc07(open_model("random:test_resnet", image_size=16), open_data(f"voc07:{root}"), preset=preset, image_size=16)
    assert result.preset == "vissl@16"
    assert len(set(result.details["per_class"]["costs"])) > 1
    assert "low_shot_k1_mean_best_c_on_test" in result.metrics
    assert "low_shot_k1_mean" not in result.metrics
    area = np.array(result.details["low_shot"]["k1"]["area"])
    assert area.shape == (5, 3)
    assert result.metrics["low_shot_k1_mean_best_c_on_test"] == pytest.approx(area.mean(0).max())
    assert result.protocol["difficult"] == "negative in training, left out in the test"


def test_the_command_writes_a_result(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "voc.json"
    assert run(*WORDS, "--data", f"voc07:{root}", "--preset", "pcl", "--shots", "none", "--out", out) == 0
    assert load_result(out).metrics.keys() == {"map_area", "map_11point"}
    shown = capsys.readouterr().out
    assert "voc07 pcl@16 on voc07: 60 test images, 100 training images, 20 classes" in shown
    assert "mean average precision in percent" in shown
    # And the command that is printed for it gives the same numbers.
    words = [word.replace(PLACE, str(root)) for word in words_again(load_result(out))[1:]]
    assert run(*words, "--out", tmp_path / "again.json", "--no-cache") == 0
    assert load_result(tmp_path / "again.json").metrics == load_result(out).metrics


def test_hcscs_layer_reports_its_measure_by_name_and_both_forms(root: Path, tmp_path: Path) -> None:
    model, data = open_model("random:test_resnet", image_size=16), open_data(f"voc07:{root}")
    preset = change(VOC07_PRESETS["hcsc"], epochs=3, checkpoints=tmp_path)
    with everything_ends(workers=6):  # two in each epoch
        result = run_voc07(model, data, preset=preset, image_size=16, runtime=Runtime(workers=2))
    assert (result.preset, result.headline.metric) == ("hcsc@16", "per_image_ap")
    assert result.metrics.keys() == {"per_image_ap", "map_area", "map_11point"}
    assert {role: split.images for role, split in result.data.splits.items()} == {"train": 60, "val": 40, "test": 60}
    curve = result.details["epochs"]["val_per_image_ap"]
    assert len(curve) == 3
    assert result.protocol["selected_epoch"] == int(np.argmax(curve)) + 1
    assert "live" in result.protocol["batch_norm_training"]
    assert result.protocol["mean"] == list(VOC07_PRESETS["hcsc"].mean)  # type: ignore[union-attr]
    assert np.mean(result.details["per_class"]["ap_area"]) == pytest.approx(result.metrics["map_area"])
    # Finished trainings are not made again, and give the same numbers.
    assert run_voc07(model, data, preset=preset, image_size=16, runtime=Runtime(workers=0)).metrics == result.metrics
    assert not any(module.training for module in model.module.modules())
    # It ranks an image's colours better than chance would.
    marks = data.role("test").multilabel
    assert marks is not None
    chance = np.mean([per_image_precision(marks.values == 1, np.random.default_rng(i).random((60, 20))) for i in range(20)])
    assert result.metrics["per_image_ap"] > 100 * chance
    assert average_precision([True], [0.0]) == (1.0, 1.0)


def test_features_come_with_all_labels(root: Path, tmp_path: Path) -> None:
    words = ("--task", "features", "--model", "random:test_resnet", "--data", f"voc07:{root}", "--image-size", 16, "--no-cache")
    assert run(*words, "--npz", tmp_path / "npz", "--split", "val") == 0
    with np.load(tmp_path / "npz" / "random-test_resnet-0.test.npz") as file:
        test = open_data(f"voc07:{root}").role("test").multilabel
        assert test is not None
        np.testing.assert_array_equal(file["multilabel"], test.values)
        assert file["multilabel_classes"].tolist() == list(CLASSES)
        assert file["names"][0] == "VOCdevkit/VOC2007/JPEGImages/test000.jpg"
    assert run(*words, "--npz", tmp_path / "npz", "--split", "train") == 0
    assert (tmp_path / "npz" / "random-test_resnet-0.trainval.npz").is_file()


def test_corner_crops_are_torchvisions() -> None:
    from torchvision.transforms import FiveCrop, Resize

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 57, 3), dtype=np.uint8))
    peers = FiveCrop(30)(Resize(33)(image))
    for corner, peer in zip(CORNERS, peers, strict=False):
        own = CornerCrop(33, 30, "bilinear", (0, 0, 0), (1, 1, 1), corner=corner).crop_pil(image)
        np.testing.assert_array_equal(own, np.asarray(peer))


def test_mistakes_are_one_sentence(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ("--data", f"voc07:{root}")
    assert "task voc07 is for images that may show several classes, not for 'digits'" in refusal(capsys, *WORDS, "--data", "digits")
    assert "is shown by" in refusal(capsys, *WORDS, *data, "--preset", "pcl", "--shots", "30")
    assert "--shots takes different numbers, each at least 1, not 2,2" in refusal(capsys, *WORDS, *data, "--shots", "2,2")
    assert "learns from all images; leave --shots out" in refusal(capsys, *WORDS, *data, "--preset", "hcsc", "--shots", "2")
    assert "voc07 preset 'vissl' has no --epochs" in refusal(capsys, *WORDS, *data, "--epochs", "2")
    assert "task 'knn' has no option --shots" in refusal(capsys, "--model", "pixels", "--data", "digits", "--shots", "2")
    with pytest.raises(UserError, match="'pixels' has no batch norm to be live"):
        run_voc07(open_model("pixels"), open_data(f"voc07:{root}"), preset="hcsc", image_size=16)
