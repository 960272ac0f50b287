"""A network's own classifier: which output is which class."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from evaluation.commands.cli import _opened
from evaluation.tasks.model_source import ModelSource
from evaluation.tasks.top1.run import outputs_of_names, outputs_of_numbers, run_top1
from zoo.data import open_data
from zoo.models.model import Model

CLASSES = 12


class Perfect(nn.Module):
    """Tells the class of an image of one grey by the grey: output i is the i-th of ``order``."""

    def __init__(self, order):
        super().__init__()
        self.register_buffer("greys", torch.tensor([20.0 * number for number in order]))

    def forward(self, images):
        return -(images.mean((1, 2, 3), keepdim=False)[:, None] * 255 - self.greys).abs()


def folders(root, name_of):
    for split in ("train", "val"):
        for number in range(CLASSES):
            folder = root / split / name_of(number)
            folder.mkdir(parents=True)
            Image.new("RGB", (16, 16), (20 * number,) * 3).save(folder / "0.png")
    return open_data(f"folder:{root}")


def model(order):
    return Model(
        module=Perfect(order), name="perfect", arch="perfect", kind="python", num_features=CLASSES, mean=(0.0,) * 3, std=(1.0,) * 3,
        tensors_sha256="0" * 64,
    )


def test_folders_0_to_11_with_a_perfect_network_give_100(tmp_path):
    data = folders(tmp_path, str)
    assert data.role("test").classes[:4] == ("0", "1", "10", "11")
    result = run_top1(model(range(CLASSES)), data, image_size=16)
    assert result.metrics["top1"] == 100
    assert result.metrics["top1_outputs_sorted_as_text"] == pytest.approx(100 * 2 / CLASSES)
    # And a network that was trained on such folders in the order of their names.
    as_text = run_top1(model(sorted(range(CLASSES), key=str)), data, image_size=16)
    assert as_text.metrics["top1_outputs_sorted_as_text"] == 100


def test_other_names_are_in_the_order_of_the_folders(tmp_path):
    result = run_top1(model(range(CLASSES)), folders(tmp_path, "class{:02d}".format), image_size=16)
    assert result.metrics["top1"] == 100
    assert "top1_outputs_sorted_as_text" not in result.metrics


def test_a_network_that_knows_its_classes_answers_by_their_names(tmp_path):
    """In whatever order the data have them; other names, and other numbers of them, are no names of its outputs."""
    data = folders(tmp_path, "class{:02d}".format)
    names = [f"class{number:02d}" for number in range(CLASSES)]
    backwards = list(range(CLASSES))[::-1]
    known = replace(model(backwards), classes=tuple(names[number] for number in backwards))
    result = run_top1(known, data, image_size=16)
    assert result.metrics["top1"] == 100
    assert result.protocol["outputs"].startswith("by the classes' names")
    assert run_top1(model(backwards), data, image_size=16).metrics["top1"] == 0
    assert run_top1(replace(model(range(CLASSES)), classes=tuple("abcdefghijkl")), data, image_size=16).metrics["top1"] == 100
    assert outputs_of_names(("a", "b"), ("a", "b")) is None
    assert outputs_of_names(("a", "b", "c"), ("a", "b")) is None
    assert outputs_of_names((), ("a", "b")) is None
    assert outputs_of_names(("b", "c", "a"), ("a", "b", "c")) == [2, 0, 1]


def test_folders_of_numbers_are_outputs_also_of_a_network_with_other_names(tmp_path):
    """ImageNet's classes in folders 0, 1, ...; but of one that was trained on such folders the outputs are in the order of their names."""
    data = folders(tmp_path, str)
    assert run_top1(replace(model(range(CLASSES)), classes=tuple("abcdefghijkl")), data, image_size=16).metrics["top1"] == 100
    order = sorted(range(CLASSES), key=str)
    own = run_top1(replace(model(order), classes=tuple(map(str, order))), data, image_size=16)
    assert own.metrics == {"top1": 100.0, "top5": 100.0}


def test_a_network_without_a_classifier_to_take_off_is_opened_once():
    """A function that draws its weights anew would be two networks."""
    source = ModelSource("x", {"spec": f"python:{Path(__file__)}:drawn"})
    opened = _opened(source, [(16, False), (16, True), (32, True)])
    assert opened[16, False] is opened[16, True] is not opened[32, True]


def drawn():
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * 3, 4))


def test_which_names_are_numbers_of_outputs():
    assert outputs_of_numbers(("0", "1", "10", "2", "3", "4", "5", "6", "7", "8", "9")) == [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]
    for names in (("0", "1", "2"), ("00", "01", "02"), ("1", "2", "3"), ("0", "10", "2"), ("a", "0"), ("0", "00")):
        assert outputs_of_numbers(names) is None
