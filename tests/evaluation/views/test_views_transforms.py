"""ContrastiveCrop as a torchvision transform: the sampler's law, torchvision's pixels, torch's seeding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import beta, chisquare
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from evaluation.views import ContrastiveCrop
from evaluation.views.samplers import ContrastiveCrop as Sampler
from zoo.errors import UserError

BOX = (0.1, 0.5, 0.3, 0.9)


def pixels(height=60, width=80, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sampled(size, box, *, alpha=0.6, inclusive=False, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)):
    """The sampler's crop from the numbers that torch's generator gives next."""
    uniforms = torch.rand(1, 22, dtype=torch.float64).numpy()
    return Sampler(scale, ratio, alpha, inclusive)(np.array([size]), uniforms, np.array([box], dtype=np.float32))[0].tolist()


def as_image(kind):
    image = Image.fromarray(pixels())
    tensor = functional.pil_to_tensor(image)
    return {"pil": image, "image": tv_tensors.Image(tensor), "tensor": tensor, "float": tensor.float() / 255}[kind]


@pytest.mark.parametrize("kind", ["pil", "image", "tensor", "float"])
@pytest.mark.parametrize(
    "options",
    [{}, {"alpha": 0.1, "inclusive": True}, {"scale": (0.05, 0.2), "ratio": (0.5, 2.0), "interpolation": InterpolationMode.BICUBIC}],
)
def test_is_the_samplers_crop_and_torchvisions_pixels(kind, options):
    image, transform = as_image(kind), ContrastiveCrop(24, **options)
    law = {key: value for key, value in options.items() if key != "interpolation"}
    interpolation = options.get("interpolation", InterpolationMode.BILINEAR)
    for seed in range(5):
        torch.manual_seed(seed)
        view = transform(image, BOX)
        torch.manual_seed(seed)
        crop = sampled((60, 80), BOX, **law)
        expected = functional.resized_crop(image, *crop, [24, 24], interpolation=interpolation, antialias=True)
        assert type(view) is type(image)
        np.testing.assert_array_equal(np.asarray(view), np.asarray(expected))


def test_one_pair_or_two_arguments_and_any_kind_of_box():
    image, transform = as_image("tensor"), ContrastiveCrop((24, 16))
    views = []
    for inputs in ((image, BOX), ((image, BOX),), ([image, BOX],), (image, torch.tensor(BOX)), (image, np.array(BOX)), (image, list(BOX))):
        torch.manual_seed(3)
        views.append(transform(*inputs))
    assert views[0].shape == (3, 24, 16)
    assert all(torch.equal(view, views[0]) for view in views)


def test_leading_axes_share_the_crop():
    video = torch.stack([as_image("float")] * 3)
    view = ContrastiveCrop(16)(video, BOX)
    assert view.shape == (3, 3, 16, 16)
    assert torch.equal(view[0], view[2])


@pytest.mark.parametrize("inclusive", [False, True])
def test_law_of_the_offsets(inclusive):
    """A 24-pixel crop in 32 pixels: eight places, nine with the far end, by the Beta law."""
    torch.manual_seed(0)
    transform = ContrastiveCrop(8, scale=(0.5625, 0.5625), ratio=(1.0, 1.0), alpha=0.6, inclusive=inclusive)
    drawn = np.array([transform.draw((32, 32), (0, 0, 1, 1)) for _ in range(4000)])
    assert (drawn[:, 2:] == 24).all()
    places = 8 + inclusive
    for axis in (0, 1):
        counts = np.bincount(drawn[:, axis], minlength=places)
        assert chisquare(counts, 4000 * np.diff(beta.cdf(np.arange(places + 1) / places, 0.6, 0.6))).pvalue > 1e-3
    assert abs(np.corrcoef(drawn[:, :2].T)[0, 1]) < 0.06


@pytest.mark.parametrize("compose", [v1.Compose, v2.Compose])
def test_first_in_a_composition(compose):
    steps = [v2.RandomHorizontalFlip(1.0), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    image = as_image("pil")
    torch.manual_seed(1)
    view = compose([ContrastiveCrop(24), *steps])((image, BOX))
    torch.manual_seed(1)
    expected = functional.horizontal_flip(functional.resized_crop(image, *sampled((60, 80), BOX), [24, 24]))
    torch.testing.assert_close(torch.Tensor(view), functional.pil_to_tensor(expected) / 255, atol=1e-6, rtol=0)


class Pairs(Dataset):
    """Two crops of each image, by its own box."""

    def __init__(self, count):
        self.boxes = np.tile(np.array(BOX, dtype=np.float32), (count, 1))
        self.crop = ContrastiveCrop(12)

    def __len__(self):
        return len(self.boxes)

    def __getitem__(self, index):
        image = torch.from_numpy(pixels(seed=index)).permute(2, 0, 1)
        return self.crop(image, self.boxes[index]), self.crop(image, self.boxes[index])


def test_in_a_data_loader():
    def epoch(seed, workers):
        torch.manual_seed(seed)
        return [torch.cat(views) for views in DataLoader(Pairs(8), batch_size=4, num_workers=workers)]

    one, same, other = epoch(0, 2), epoch(0, 2), epoch(1, 2)
    assert [batch.shape for batch in one] == [(8, 3, 12, 12)] * 2
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    # Workers are seeded apart, and so are the two views.
    assert not torch.equal(one[0][:4], one[0][4:])
    torch.manual_seed(0)
    numbers = list(DataLoader(CropsAlone(), batch_size=4, num_workers=2))
    assert not torch.equal(numbers[0], numbers[1])


class CropsAlone(Pairs):
    def __init__(self):
        super().__init__(8)

    def __getitem__(self, index):
        return torch.tensor(self.crop.draw((500, 400), self.boxes[index]))


@pytest.mark.parametrize(
    "box",
    [
        (0.5, 0.1, 0.4, 0.9),
        (0.1, 0.9, 0.4, 0.1),
        (-0.1, 0, 1, 1),
        (0, 0, 1, 1.01),
        (0, 0, float("nan"), 1),
        (0, 0, 32, 32),
        (0, 0, 1),
        ((0, 0, 1, 1),),
        0.5,
    ],
)
def test_boxes_without_meaning_are_refused(box):
    with pytest.raises(UserError, match=r"ContrastiveCrop's box must be four numbers \(top, left, bottom, right\) in shares"):
        ContrastiveCrop(24)(as_image("tensor"), box)


def test_a_box_may_be_a_point():
    torch.manual_seed(0)
    transform = ContrastiveCrop(8, scale=(0.01, 0.01), ratio=(1.0, 1.0))
    assert transform.draw((100, 100), (0.5, 0.25, 0.5, 0.25)) == [45, 20, 10, 10]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "ContrastiveCrop.size must be at least 1 and at most 8192, not 0"),
        ({"size": (8, 8, 8)}, "one side or a height and a width"),
        ({"scale": (0.5, 0.2)}, "ContrastiveCrop.scale"),
        ({"ratio": (0.0, 1.0)}, "ContrastiveCrop.ratio"),
        ({"alpha": 0.0}, "ContrastiveCrop.alpha"),
    ],
)
def test_parameters_without_meaning_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        ContrastiveCrop(**{"size": 24, **options})


def test_an_image_without_its_box_is_refused():
    for inputs in ((as_image("tensor"),), (as_image("pil"),), (as_image("pil"), BOX, 1)):
        with pytest.raises(UserError, match="takes an image and its box"):
            ContrastiveCrop(24)(*inputs)


def test_says_its_settings():
    text = repr(ContrastiveCrop(24, alpha=0.1))
    assert text.startswith("ContrastiveCrop(size=[24, 24], scale=(0.2, 1.0)")
    assert "alpha=0.1, inclusive=False" in text
