"""Warnings: features that tell nothing apart, test images in the training split, classes that are never predicted, and the like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from easy_data import easy_data, split
from PIL import Image
from torch import Tensor, nn

import evaluation
from evaluation.extraction import shared
from evaluation.extraction.shared import shared_doubts, shared_images
from evaluation.extraction.spread import feature_doubts
from evaluation.extraction.subsets import hold_out_doubts
from evaluation.statistics.accuracy import count_correct, never_predicted
from evaluation.tasks.finetune.presets import FINETUNE_PRESETS, change_training
from evaluation.tasks.finetune.run import run_finetune
from evaluation.tasks.knn.run import run_knn
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.linear.run import run_linear
from evaluation.tasks.linear.training import diverged_doubts, train_linear
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.semi.presets import SEMI_PRESETS
from evaluation.tasks.semi.run import run_semi
from zoo.data import ArrayImages, Data, FileImages
from zoo.data.entries import FileEntry
from zoo.data.inspection.look import look_at
from zoo.model_spec import open_model
from zoo.models.model import Model
from zoo.results import Result

MODEL = "random:test_resnet"


def warnings_of(result: Result) -> list[str]:
    return list(result.details.get("warnings", []))


def noise(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def test_features_that_tell_nothing_apart() -> None:
    images = "test images"
    assert feature_doubts(noise(200, 16), images) == []
    assert feature_doubts(noise(200, 16) + 8, images) == []  # a mean that is large beside the spread, as of untrained networks
    assert feature_doubts(noise(1, 16), images) == []
    assert "all test images are equal" in feature_doubts(torch.full((200, 16), 0.3), images)[0]
    near = torch.ones(200, 16) + 0.02 * noise(200, 16)
    unit = nn.functional.normalize(near.double(), dim=1)
    spread = 1 - float((unit @ unit.T).mean())  # over all pairs, those of an image with itself included
    assert f"1 - cosine is {spread:.1e} on average" in feature_doubts(near, images)[0]
    line = noise(200, 1) * noise(1, 16, seed=1) + 3 + 0.01 * noise(200, 16, seed=2)
    rows = nn.functional.normalize(line.double(), dim=1).numpy()
    values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
    directions = values.sum() ** 2 / (values**2).sum()
    assert directions < 1.5
    assert f"lie on one line, in effect ({directions:.2f} directions of 16)" in feature_doubts(line, images)[0]
    # As many images as columns, and fewer: the smaller matrix of products has the same eigenvalues.
    assert "on one line" in feature_doubts(line[:12], images)[0]
    dead = noise(200, 16)
    dead[:, 4:] = 0
    assert feature_doubts(dead, images) == ["12 of 16 features are the same for all test images"]


class Collapsed(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), 8) + 1e-4 * images.mean((1, 2, 3))[:, None]


def test_a_collapsed_model_is_said_once_a_split() -> None:
    model = Model(Collapsed().eval(), "collapsed", "python", "collapsed", None, "0" * 64, mean=(0.5,) * 3, std=(0.5,) * 3)
    found = warnings_of(run_knn(model, easy_data()))
    for images in ("train images", "test images"):
        assert sum(f"the features of {images} are nearly the same for all of them" in text for text in found) == 1
    assert any("never predicted" in text for text in found)
    assert not any("features of" in text for text in warnings_of(run_knn(open_model("pixels"), easy_data())))


def test_test_images_that_are_training_images_are_counted_in_memory() -> None:
    train, test = split("train", 30, 0), split("test", 12, 1)
    assert shared_images(train, test) is None
    pixels = test.pixels.copy()
    pixels[[3, 7]] = train.pixels[[20, 4]]
    copied = ArrayImages("easy", "test", pixels, test.levels)
    found = shared_images(train, copied)
    assert found == shared.SharedImages(2, 3, 20)
    assert shared_doubts({"train": train, "test": copied}) == [
        "2 of 12 test images are in the training split too (first: easy test #3 is easy train #20)"
    ]
    assert shared_doubts({"test": copied}) == []
    smaller = ArrayImages("easy", "test", pixels[:, :8, :8], test.levels)
    assert shared_images(train, smaller) is None


def test_files_are_compared_where_their_sizes_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files(name: str, pixels: np.ndarray) -> FileImages:
        paths = [tmp_path / f"{name}{number}.bmp" for number in range(len(pixels))]
        for path, image in zip(paths, pixels, strict=True):
            Image.fromarray(image).save(path)  # of one size in bytes
        return FileImages("own", name, [FileEntry(str(path)) for path in paths], {})

    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    train, test = files("train", pixels[:6]), files("test", pixels[4:])
    assert shared_images(train, test) == shared.SharedImages(2, 0, 4)
    (tmp_path / "test0.bmp").write_bytes(b"")
    (tmp_path / "train0.bmp").write_bytes(b"")
    assert shared_images(train, test) == shared.SharedImages(1, 1, 5)
    (tmp_path / "train5.bmp").unlink()
    assert shared_images(train, test) is None
    monkeypatch.setattr(shared, "SMALL", 10)
    assert shared_images(train, files("test", pixels[:5])) is None  # `zoo data` looks at large sets


def test_the_shared_images_are_in_the_result_of_every_task_that_has_both_splits() -> None:
    train, test = split("train", 60, 0), split("test", 30, 0)  # the same noise: all of them
    splits = {"train": train, "test": test}
    data = Data(
        "easy",
        "easy",
        splits={name: (lambda images=images: images) for name, images in splits.items()},
        roles={"train": "train", "test": "test"},
        image_size=16,
    )
    pixels = train.pixels.copy()
    pixels[:30] = test.pixels
    splits["train"] = ArrayImages("easy", "train", pixels, train.levels)
    data = replace(data, splits={name: (lambda images=images: images) for name, images in splits.items()})
    told = "30 of 30 test images are in the training split too (first: easy test #0 is easy train #0)"
    model = open_model(MODEL)
    results = [
        run_knn(model, data),
        run_linear(model, data, preset=LINEAR_PRESETS["moco"].change(epochs=1)),
        run_semi(model, data, preset=SEMI_PRESETS["frozen"].change(percent=50)),
    ]
    assert all(told in warnings_of(result) for result in results)


def test_classes_that_are_never_predicted_are_named() -> None:
    outputs = torch.eye(6)[[0, 0, 1, 1, 0]]
    found = count_correct(outputs, [0, 2, 1, 3, 4])
    assert never_predicted(found, "abcdef") == ["3 of the 5 classes of the test images are never predicted (c, d, e)"]
    assert never_predicted(count_correct(outputs, [0, 0, 1, 1, 5]), "abcdef") == [
        "1 of the 3 classes of the test images is never predicted (f)"
    ]
    assert never_predicted(count_correct(outputs, [0, 0, 1, 1, 0]), "abcdef") == []


def test_classifiers_that_diverged_are_named() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    features = torch.from_numpy(rng.standard_normal((3, 8))[labels] + rng.standard_normal((90, 8))).float()
    preset = LINEAR_PRESETS["moco"].change(lr=[0.1, 1e38], epochs=3)
    training = train_linear(features, labels, features, labels, preset=preset)
    assert training.diverged == (1e38,)
    assert diverged_doubts(training, 3) == ["the classifier diverged at 1 of 2 learning rates (1e+38)"]
    wild = train_linear(features, labels, features, labels, preset=preset.change(lr=[1e4], epochs=1))
    assert wild.losses[-1, 0] > np.log(3)
    (doubt,) = diverged_doubts(wild, 3)
    loss = f"{wild.losses[-1, 0]:.3g}"
    assert doubt.startswith(f"at learning rate 10000 the training loss of the last epoch, {loss}, is above that of guessing, 1.1")
    calm = train_linear(features, labels, features, labels, preset=preset.change(lr=[0.1], epochs=3))
    assert diverged_doubts(calm, 3) == []
    result = run_linear(open_model("pixels"), easy_data(), preset=preset, runtime=Runtime())
    assert "the classifier diverged at 1 of 2 learning rates (1e+38)" in warnings_of(result)


def _unequal(task_train: int) -> Data:
    """One class has most of the training images, so that a tenth of each class is of that class alone."""
    labels = np.concatenate([np.zeros(task_train, np.int64), [1, 2]])
    train = split("train", 3 * len(labels), 0)
    train = train.subset(np.array([np.flatnonzero(train.labels == label)[number] for number, label in enumerate(labels)]))
    splits = {"train": train, "test": split("test", 31, 1)}
    return Data(
        "easy", "easy", splits={name: (lambda images=images: images) for name, images in splits.items()},
        roles={"train": "train", "test": "test"}, image_size=16,
    )


def test_a_hold_out_smaller_than_the_number_of_classes_is_said() -> None:
    assert hold_out_doubts(0, 10) == hold_out_doubts(10, 10) == []
    told = "2 images held out for 3 classes: what they choose is mostly chance (a larger --holdout, or more labels, would help)"
    assert hold_out_doubts(2, 3) == [told]
    data, model = _unequal(20), open_model(MODEL)
    assert told in warnings_of(run_linear(model, data, preset=LINEAR_PRESETS["moco"].change(epochs=1)))
    assert told in warnings_of(run_linear(model, data, preset=LINEAR_PRESETS["logreg"].change(c=[0.1, 1])))
    short = change_training(FINETUNE_PRESETS["standard"], epochs=1, batch=8, holdout=0.1)
    assert told in warnings_of(run_finetune(model, data, preset=short))
    nothing_held = LINEAR_PRESETS["moco"].change(epochs=1, holdout=0)
    assert told not in warnings_of(run_linear(model, data, preset=nothing_held))


def test_the_share_of_labels_that_is_really_used_is_recorded_and_said() -> None:
    data, model = easy_data(24), open_model(MODEL)
    result = run_semi(model, data, preset=SEMI_PRESETS["swav"].change(percent=1, epochs=1))
    assert (result.protocol["percent"], result.protocol["percent_labelled"], result.counts["labelled"]) == (1.0, 12.5, 3)
    assert "1 % of the labels were asked for, and 3 of 24 (12.5 %) are used" in warnings_of(result)
    enough = run_semi(model, data, preset=SEMI_PRESETS["frozen"].change(percent=50))
    assert enough.protocol["percent_labelled"] == 50
    assert not any("were asked for" in text for text in warnings_of(enough))


def test_batch_norm_that_stays_in_training_mode_is_recorded() -> None:
    file = Path(__file__).parent / "own_network.py"
    stuck = run_knn(open_model(f"python:{file}:stuck"), easy_data())
    assert stuck.protocol["batch_norm"] == "training"
    assert any("1 batch norm uses each batch's own statistics" in text for text in warnings_of(stuck))
    assert run_knn(open_model(MODEL), easy_data()).protocol["batch_norm"] == "eval"


def test_a_single_class_is_said(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for part in ("train", "val"):
        (tmp_path / part / "cat").mkdir(parents=True)
        for number in range(4):
            Image.fromarray(draws.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(tmp_path / part / "cat" / f"{number}.png")
    result = evaluation.knn("pixels", f"folder:{tmp_path}", k=[1])
    assert result.metrics["top1_k1"] == 100.0
    assert any("all images are of one class, 'cat'" in warning for warning in warnings_of(result))
    found = look_at(f"folder:{tmp_path}").findings
    assert [finding.text for finding in found if finding.kind == "a single class"] == [
        "all images are of one class, 'cat', so there is nothing to tell apart; is there a folder for each class?"
    ]
