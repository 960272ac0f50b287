"""Torch datasets of (image, label) in the evaluation."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from evaluation.tasks.knn.run import run_knn
from zoo.data import open_data, torch_data
from zoo.errors import UserError
from zoo.model_spec import open_model


class Pairs(Dataset):
    """Images and labels of a split, the images in one of the forms that datasets have."""

    def __init__(self, images, form, *, targets=False):
        self.images, self.form = images, form
        if targets:
            self.targets = images.labels.tolist()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.form(self.images.pixels[index]), int(self.images.labels[index])


FORMS = {
    "pillow": Image.fromarray,
    "array": lambda pixels: pixels,
    "uint8": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
    "float": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1).float() / 255,
}


@pytest.mark.parametrize("form", FORMS)
def test_knn_is_that_of_the_same_images_by_name(form):
    data = open_data("shapes:train=60,test=20,size=16")
    train, test = data.role("train"), data.role("test")
    own = torch_data(Pairs(train, FORMS[form]), Pairs(test, FORMS[form], targets=True), classes=train.classes, mean=data.mean, std=data.std)
    model = open_model("random:test_resnet", image_size=16)
    by_name, by_torch = run_knn(model, data, image_size=16), run_knn(model, own, image_size=16)
    assert by_torch.metrics == by_name.metrics
    assert own.role("train").labels.tolist() == train.labels.tolist()


def test_a_subset_and_a_list_of_labels_that_lies():
    train = open_data("shapes:train=30,test=9,size=16").role("train")
    part = torch_data(Subset(Pairs(train, Image.fromarray, targets=True), [7, 3, 20])).role("train")
    assert part.labels.tolist() == train.labels[[7, 3, 20]].tolist()
    np.testing.assert_array_equal(np.asarray(part.subset(np.array([2, 0])).read(0)), train.pixels[20])
    liar = Pairs(train, Image.fromarray)
    liar.targets = [0] * len(train)
    assert torch_data(liar).role("train").labels.tolist() == train.labels.tolist()


def test_several_labels_and_none():
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    rows = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1]])
    images = torch_data(TensorDataset(pixels, rows)).role("train")
    assert images.multilabel.values.tolist() == [[1, -1], [1, 1], [-1, -1], [-1, 1]]
    assert torch_data(TensorDataset(pixels)).roles == {"pretrain": "train"}


def test_what_is_no_image_or_label():
    for image, label, wrong in (
        (torch.randn(3, 8, 8), 0, "leave normalisation out of the dataset"),
        (torch.rand(5, 8, 8), 0, "5 bands"),
        ("x", 0, "is str, not a Pillow image"),
        (Image.new("F", (8, 8)), 0, "has the mode F"),
    ):
        with pytest.raises(UserError, match=wrong):
            torch_data([(image, label)]).role("train").read(0)
    with pytest.raises(UserError, match="not a whole number from 0 on"):
        torch_data([(Image.new("RGB", (8, 8)), -1)])
    with pytest.raises(UserError, match="is empty"):
        torch_data([])
