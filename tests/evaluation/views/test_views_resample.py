"""The device resampler against torchvision's antialiased ``resized_crop`` on float tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from evaluation.views.resample import interpolation_matrix, resample, to_planes

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def random_images(batch, height, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), dtype=np.uint8))


def random_boxes(batch, height, width, seed=0):
    """Boxes of every size, one pixel and the whole image among them."""
    rng = np.random.default_rng(seed)
    shapes = np.stack([rng.integers(1, height + 1, batch), rng.integers(1, width + 1, batch)], axis=1)
    shapes[0], shapes[1], shapes[2] = (1, 1), (height, width), (height, 1)
    corners = rng.integers(0, np.array([height, width]) - shapes + 1)
    return torch.from_numpy(np.concatenate([corners, shapes], axis=1)), torch.from_numpy(rng.random(batch) < 0.5)


def torchvision_views(images, boxes, flip, size, interpolation):
    views = []
    for image, box, flipped in zip(images.permute(0, 3, 1, 2).float() / 255, boxes.tolist(), flip.tolist(), strict=True):
        view = functional.resized_crop(image, *box, [size, size], MODES[interpolation], antialias=True)
        views.append(functional.horizontal_flip(view) if flipped else view)
    return torch.stack(views).clamp(0, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width", "size"),
    # The last ones are resized one by one.
    [(32, 32, 32), (33, 47, 32), (17, 50, 31), (96, 64, 24), (20, 12, 64), (5, 7, 1), (150, 90, 64), (64, 65, 64)],
)
def test_equals_torchvision(height, width, size, interpolation):
    images = random_images(48, height, width)
    boxes, flip = random_boxes(48, height, width)
    views = resample(to_planes(images), boxes, flip, size, interpolation)
    assert views.dtype == torch.float32
    assert views.is_contiguous()
    expected = torchvision_views(images, boxes, flip, size, interpolation)
    torch.testing.assert_close(views, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equals_torchvision_at_the_size_of_photographs(interpolation):
    images = random_images(6, 375, 500)
    boxes, flip = random_boxes(6, 375, 500)
    views = resample(to_planes(images), boxes, flip, 224, interpolation)
    torch.testing.assert_close(views, torchvision_views(images, boxes, flip, 224, interpolation), atol=3e-5, rtol=0)


def test_whole_image_at_its_own_size_is_the_image():
    images = random_images(3, 16, 16)
    boxes, flip = torch.tensor([[0, 0, 16, 16]] * 3), torch.tensor([False, True, False])
    views = resample(to_planes(images), boxes, flip, 16)
    expected = images.permute(0, 3, 1, 2).float() / 255
    expected[1] = expected[1].flip(-1)
    torch.testing.assert_close(views, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width", "size"), [(20, 24, 16), (80, 70, 60)])
def test_vertical_flip_turns_the_view_upside_down(height, width, size):
    images = random_images(4, height, width)
    boxes, flip = random_boxes(4, height, width)
    upright = resample(to_planes(images), boxes, flip, size)
    turned = resample(to_planes(images), boxes, flip, size, vertical_flip=torch.tensor([True, False, True, False]))
    torch.testing.assert_close(turned[0::2], upright[0::2].flip(-2), atol=1e-6, rtol=0)
    assert torch.equal(turned[1::2], upright[1::2])


def test_no_pixel_outside_the_box_is_seen():
    images = random_images(8, 20, 20)
    boxes = torch.tensor([[6, 7, 9, 5]] * 8)
    inside = torch.zeros_like(images)
    inside[:, 6:15, 7:12] = images[:, 6:15, 7:12]
    flip = torch.zeros(8, dtype=torch.bool)
    for size in (4, 32, 400):
        assert torch.equal(resample(to_planes(images), boxes, flip, size), resample(to_planes(inside), boxes, flip, size))


def test_matrix_by_hand():
    """Two pixels of a row of four, to four pixels: centres at .25, .75, 1.25, 1.75 of the crop, whose pixels lie at .5 and 1.5."""
    weights = interpolation_matrix(torch.tensor([1]), torch.tensor([2]), 4, 4, flip=torch.tensor([True]))
    expected = [[0, 0, 1, 0], [0, 0.25, 0.75, 0], [0, 0.75, 0.25, 0], [0, 1, 0, 0]]
    torch.testing.assert_close(weights[0], torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [32, 80])
def test_autocast_does_not_change_pixels(side):
    images = random_images(4, side, side)
    boxes, flip = random_boxes(4, side, side)
    plain = resample(to_planes(images), boxes, flip, side)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resample(to_planes(images), boxes, flip, side), plain)


@pytest.mark.cuda
def test_cuda_equals_cpu():
    images = random_images(64, 40, 56)
    boxes, flip = random_boxes(64, 40, 56)
    views = resample(to_planes(images.cuda()), boxes.cuda(), flip.cuda(), 32)
    torch.testing.assert_close(views.cpu(), resample(to_planes(images), boxes, flip, 32), atol=1e-5, rtol=0)
