"""The Pillow path against torchvision's functional operations on PIL images, exactly; and how far the device's operations are from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode, functional

from evaluation.views.parameters import Crops, draw_photometric
from evaluation.views.photometric import apply_photometric_
from evaluation.views.pillow import apply_photometric, cut
from evaluation.views.resample import resample, to_planes
from evaluation.views.settings import ViewSettings

SIDE = 32


def smooth_images(batch, side=SIDE, seed=0):
    """Random blobs with some noise: colours of all kinds, edges and flat parts, as in photographs."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-0.2, 1.2, (batch, 3, 5, 5)).astype(np.float32))
    images = torch.nn.functional.interpolate(coarse, side, mode="bicubic") + 0.03 * torch.from_numpy(
        rng.standard_normal((batch, 3, side, side))
    )
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize(("interpolation", "mode"), [("bilinear", InterpolationMode.BILINEAR), ("bicubic", InterpolationMode.BICUBIC)])
def test_cut_is_torchvisions_resized_crop(interpolation, mode):
    image = Image.fromarray(smooth_images(1, 60)[0].numpy())
    for top, left, height, width, size in ((0, 0, 60, 60, 32), (5, 20, 31, 40, 32), (7, 9, 11, 13, 24), (59, 0, 1, 60, 16)):
        plain = functional.resized_crop(image, top, left, height, width, [size, size], mode)
        flips = np.array([[False, False], [True, False], [False, True], [True, True]])
        crops = Crops(np.tile([top, left, height, width], (4, 1)), flip=flips[:, 0], vertical_flip=flips[:, 1])
        expected = [plain, functional.hflip(plain), functional.vflip(plain), functional.rotate(plain, 180)]
        for row in range(4):
            np.testing.assert_array_equal(np.asarray(cut(image, crops, row, size, interpolation)), np.asarray(expected[row]))


def test_photometric_is_torchvision_on_pil():
    settings = ViewSettings(size=SIDE, channel_permutation=0.5, blur=0.5, solarize=0.3, invert=0.3)
    parameters = draw_photometric(settings, np.arange(64), seed=0, epoch=0, view=0)
    adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation, functional.adjust_hue)
    for row, pixels in enumerate(smooth_images(64)):
        expected = image = Image.fromarray(pixels.numpy())
        for operation in parameters.order[row] if parameters.jitter[row] else ():
            expected = adjust[operation](expected, parameters.factors[row, operation])
        expected = Image.fromarray(np.asarray(expected)[:, :, parameters.channels[row]])
        if parameters.grayscale[row]:
            expected = functional.to_grayscale(expected, 3)
        if parameters.sigma[row]:
            expected = expected.filter(ImageFilter.GaussianBlur(float(parameters.sigma[row])))
        if parameters.solarize[row]:
            expected = functional.solarize(expected, 128)
        if parameters.invert[row]:
            expected = functional.invert(expected)
        np.testing.assert_array_equal(np.asarray(apply_photometric(image, parameters, row)), np.asarray(expected))


def levels_between(images, parameters):
    """Largest difference of the two backends, in 1/255."""
    device = images.permute(0, 3, 1, 2).float().div(255).contiguous()
    apply_photometric_(device, parameters, 2.0)
    pillow = [np.asarray(apply_photometric(Image.fromarray(image.numpy()), parameters, row)) for row, image in enumerate(images)]
    return np.abs(device.permute(0, 2, 3, 1).numpy() * 255 - np.stack(pillow)).max()


OFF = ViewSettings(size=SIDE, jitter=0.0, grayscale=0.0, blur=0.0)
STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


@pytest.mark.parametrize(
    ("changes", "levels"),
    [
        ({"jitter": 1.0, **STILL, "brightness": 0.4}, 1.0),
        ({"jitter": 1.0, **STILL, "contrast": 0.4}, 1.5),
        ({"jitter": 1.0, **STILL, "saturation": 0.4}, 1.5),
        ({"jitter": 1.0, **STILL, "hue": 0.1}, 18.0),
        ({"grayscale": 1.0}, 1.0),
        ({"blur": 1.0}, 12.0),
        ({"channel_permutation": 1.0}, 1e-4),
    ],
)
def test_distance_of_the_backends(changes, levels):
    settings = replace(OFF, **changes)
    parameters = draw_photometric(settings, np.arange(200), seed=0, epoch=0, view=0)
    assert levels_between(smooth_images(200), parameters) <= levels


def test_distance_of_the_crops():
    """Pillow rounds to whole levels after each of its two passes."""
    images = smooth_images(64, 48)
    rng = np.random.default_rng(0)
    shapes = rng.integers(8, 49, (64, 2))
    boxes = np.concatenate([rng.integers(0, 49 - shapes), shapes], axis=1)
    flip, vertical_flip = rng.random((2, 64)) < 0.5
    crops = Crops(boxes, flip, vertical_flip)
    flips = torch.from_numpy(flip), torch.from_numpy(vertical_flip)
    device = resample(to_planes(images), torch.from_numpy(boxes), flips[0], SIDE, vertical_flip=flips[1]).permute(0, 2, 3, 1).numpy() * 255
    for row, image in enumerate(images):
        pillow = np.asarray(cut(Image.fromarray(image.numpy()), crops, row, SIDE, "bilinear"))
        assert np.abs(device[row] - pillow).max() <= 1.5
