"""Evaluation transforms against torchvision's PIL pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from zoo.models.transforms import EvalTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def torchvision_pipeline(resize: int, crop: int, interpolation: str) -> transforms.Compose:
    return transforms.Compose(
        [
            transforms.Resize(resize, interpolation=MODES[interpolation]),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 401), (500, 333), (256, 256), (256, 301), (100, 60), (225, 224), (90, 1000)])
def test_pil_images_become_what_torchvision_makes_of_them(interpolation: str, size: tuple[int, int]) -> None:
    image = Image.fromarray(picture(*size))
    ours = EvalTransform(256, 224, interpolation, MEAN, STD).from_pil(image)
    torch.testing.assert_close(ours, torchvision_pipeline(256, 224, interpolation)(image), rtol=0, atol=0)


@pytest.mark.parametrize(("resize", "crop"), [(64, 57), (65, 64), (33, 32)])
def test_odd_margins_are_split_as_torchvision_splits_them(resize: int, crop: int) -> None:
    image = Image.fromarray(picture(71, 90))
    ours = EvalTransform(resize, crop, "bilinear", MEAN, STD).from_pil(image)
    torch.testing.assert_close(ours, torchvision_pipeline(resize, crop, "bilinear")(image), rtol=0, atol=0)


def test_arrays_at_native_size_are_only_normalised() -> None:
    pixels = np.stack([picture(32, 32, seed) for seed in range(5)])
    transform = EvalTransform(32, 32, "bicubic", MEAN, STD)
    loop = np.empty((5, 3, 32, 32), dtype=np.float32)
    for image in range(5):
        for channel in range(3):
            plane = pixels[image, :, :, channel].astype(np.float32) / np.float32(255)
            loop[image, channel] = (plane - np.float32(MEAN[channel])) / np.float32(STD[channel])
    np.testing.assert_array_equal(transform.from_pixels(pixels).numpy(), loop)
    np.testing.assert_array_equal(torch.stack([transform.from_pil(Image.fromarray(image)) for image in pixels]).numpy(), loop)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_arrays_are_resized_as_pil_does_within_two_levels(interpolation: str) -> None:
    pixels = np.stack([picture(120, 100, seed) for seed in range(3)])
    transform = EvalTransform(72, 64, interpolation, MEAN, STD)
    ours = transform.crop_pixels(pixels).numpy().astype(int)
    pil = np.stack([transform.crop_pil(Image.fromarray(image)) for image in pixels]).astype(int)
    assert ours.shape == pil.shape == (3, 64, 64, 3)
    assert np.abs(ours - pil).max() <= 2
    assert (ours != pil).mean() < 0.02


def test_the_pixels_given_are_not_changed() -> None:
    pixels = picture(32, 32)[None]
    before = pixels.copy()
    EvalTransform(32, 32, "bilinear", MEAN, STD).from_pixels(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        EvalTransform(200, 224, "bilinear", MEAN, STD)


def test_the_settings_say_every_choice() -> None:
    assert EvalTransform(256, 224, "bicubic", MEAN, STD).describe() == {
        "resize": 256,
        "crop": 224,
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "channels": "rgb",
    }
