"""The tasks places205 and features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typed import refusal, run

from evaluation.extraction.features import extract_features
from evaluation.tasks.again import words_again
from evaluation.tasks.finetune.presets import change_training
from evaluation.tasks.places205.presets import PLACES205_PRESETS
from evaluation.tasks.places205.run import run_places205
from evaluation.tasks.runtime import Runtime
from evaluation.training.augmented import AugmentedImages, augmentation
from zoo.data import open_data
from zoo.model_folder.again import PLACE
from zoo.model_spec import open_model
from zoo.models.transforms import EvalTransform
from zoo.results import load_result


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the 205 classes, told apart by brightness, in the archives' layout."""
    root = tmp_path_factory.mktemp("places")
    folder = root / "data" / "vision" / "torralba" / "deeplearning" / "images256"
    lists = root / "trainvalsplit_places205"
    lists.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 12)):
        lines = []
        for index in range(count):
            label, name = ((0, "a/abbey"), (41, "c/coast"), (204, "y/yard"))[index % 3]
            path = folder / name / f"gsun_{split}{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = (30, 120, 220)[index % 3]
            Image.fromarray(rng.integers(shade - 20, shade + 20, (32, 32, 3), dtype=np.uint8)).save(path)
            lines.append(f"{name}/{path.name} {label}\n")
        (lists / f"{split}_places205.csv").write_text("".join(lines))
    return root


def test_a_layer_of_205_classes_is_trained_on_the_frozen_network(places: Path) -> None:
    model = open_model("random:test_resnet")
    before = model.tensors_sha256
    preset = change_training(PLACES205_PRESETS["hcsc"], epochs=4, batch=10)
    result = run_places205(model, open_data(f"places205:{places}"), preset=preset, image_size=28, runtime=Runtime(workers=0))
    assert (result.task, result.preset, result.data.classes) == ("places205", "hcsc@28", 205)
    assert result.headline.metric == "top1_last"
    assert len(result.details["per_class"]["classes"]) == 205
    protocol = result.protocol
    assert (protocol["backbone"], protocol["head_lr"], protocol["schedule"], protocol["period"]) == ("frozen", 3.0, "restarts", 10)
    assert protocol["train_images"]["colours"]
    assert result.metrics["top5_last"] >= 90  # three classes were ever seen
    assert open_model("random:test_resnet").tensors_sha256 == before


def test_the_printed_command_gives_the_same_number(places: Path, tmp_path: Path) -> None:
    words = ("--task", "places205", "--model", "random:test_resnet", "--data", f"places205:{places}", "--image-size", "28")
    assert run(*words, "--epochs", "2", "--batch", "10", "--seed", "1", "--out", tmp_path / "first.json") == 0
    result = load_result(tmp_path / "first.json")
    printed = [word.replace(PLACE, str(places)) for word in words_again(result)[1:]]
    assert run(*printed, "--out", tmp_path / "again.json", "--no-cache") == 0
    assert load_result(tmp_path / "again.json").metrics == result.metrics


def test_training_crops_are_windows_of_224_of_256_at_native_resolution() -> None:
    from zoo.data import ArrayImages

    preset = PLACES205_PRESETS["hcsc"]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), dtype=np.uint8)
    images = ArrayImages("places205", "train", pixels, {})
    source = AugmentedImages(images, augmentation(224, preset.scale, preset.ratio), mean=(0, 0, 0), std=(1, 1, 1), seed=0, batch=4)
    (crops, index), *_ = source.batches(0)
    corners = set()
    for crop, position in zip(crops.numpy(), index.tolist(), strict=True):
        whole = pixels[position].transpose(2, 0, 1) / np.float32(255)
        places = [
            (top, left)
            for candidate in (whole, whole[:, :, ::-1])
            for top in range(33)
            for left in range(33)
            if np.allclose(candidate[:, top, left : left + 224], crop[:, 0], atol=1e-5)
        ]
        assert len(places) == 1
        corners.add(places[0])
    assert len(corners) == 4


def test_other_data_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--task", "places205", "--model", "random:test_resnet", "--data", "digits")
    assert "task places205 is for --data places205:ROOT, not for 'digits'" in refusal(capsys, *words)


def test_features_are_written_with_names_labels_and_where_they_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    for split, count in (("train", 3), ("test", 2)):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = np.random.default_rng(index).integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{index}.png")
    (folder / "hierarchy.json").write_text(json.dumps({"kind": {"animal": ["cat", "dog"]}}))
    words = ("--task", "features", "--model", "random:test_resnet", "--data", f"folder:{folder}", "--no-cache")
    assert run(*words, "--npz", tmp_path / "npz", "--out", tmp_path / "features.json") == 0
    path = tmp_path / "npz" / "random-test_resnet-0.train.npz"
    assert f"written: {path}" in capsys.readouterr().err
    with np.load(path) as file:
        assert file["names"].tolist() == [f"train/{label}/{index}.png" for label in ("cat", "dog") for index in range(3)]
        assert file["labels_class"].tolist() == [0, 0, 0, 1, 1, 1]
        assert file["classes_class"].tolist() == ["cat", "dog"]
        assert (file["labels_kind"].tolist(), file["classes_kind"].tolist()) == ([0] * 6, ["animal"])
        provenance = json.loads(str(file["provenance"]))
        features = file["features"]
    data, model = open_data(f"folder:{folder}"), open_model("random:test_resnet")
    transform = EvalTransform(12, 12, "bicubic", data.mean, data.std)
    np.testing.assert_array_equal(features, extract_features(model.module, data.role("train"), transform).features.numpy())
    assert provenance["model"]["tensors_sha256"] == model.tensors_sha256
    assert provenance["data"]["fingerprint"] == data.role("train").fingerprint()
    assert provenance["transform"] == transform.describe()
    result = load_result(tmp_path / "features.json")
    assert result.metrics == {"feature_width": features.shape[1], "images_train": 6, "images_test": 4}
    assert result.details["files"].keys() == {"train", "test"}
    # What exists is not written over.
    assert f"{path} exists already; choose another --npz" in refusal(capsys, *words, "--npz", tmp_path / "npz")
    assert "say into which folder with --npz DIR" in refusal(capsys, *words)
    assert "has no split 'dev'" in refusal(capsys, *words, "--npz", tmp_path / "more", "--split", "dev")


def test_images_without_labels_have_features_too(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "photos" / "one.png")
    Image.fromarray(np.ones((9, 9, 3), np.uint8)).save(tmp_path / "photos" / "two.png")
    words = ("--task", "features", "--model", "pixels", "--data", f"folder:{tmp_path / 'photos'}", "--no-cache")
    assert run(*words, "--npz", tmp_path / "npz") == 0
    with np.load(tmp_path / "npz" / "pixels.all.npz") as file:
        assert file["names"].tolist() == ["one.png", "two.png"]
        assert not [name for name in file if name.startswith("labels")]
