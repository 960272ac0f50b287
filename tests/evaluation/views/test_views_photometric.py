"""Each photometric operation against ``torchvision.transforms.v2.functional`` on float tensors, with random parameters per sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from evaluation.views.parameters import BRIGHTNESS, CONTRAST, HUE, JITTER_ORDERS, SATURATION, Photometric, draw_photometric
from evaluation.views.photometric import (
    BLUR_CUTOFF,
    apply_photometric_,
    blur_,
    grayscale_,
    invert_,
    jitter_,
    normalise_,
    permute_channels_,
    shift_hue_,
    solarize_,
)
from evaluation.views.settings import ViewSettings

BATCH, SIDE = 64, 20
# The toolkit's tolerance is 2/255; in float32 the operations are the same up to rounding (and up to luma weights that differ by 1e-4).
TOLERANCE = 2e-4
ADJUST = {
    BRIGHTNESS: functional.adjust_brightness,
    CONTRAST: functional.adjust_contrast,
    SATURATION: functional.adjust_saturation,
    HUE: functional.adjust_hue,
}


def random_images(batch=BATCH, side=SIDE, seed=0):
    """Random colours; among them a black, a white and a gray image, pure primaries, and pixels on a coarse grid (ties between channels)."""
    rng = np.random.default_rng(seed)
    images = rng.random((batch, 3, side, side), dtype=np.float32)
    images[0], images[1] = 0.0, 1.0
    images[2] = images[2, :1]
    images[3] = np.round(images[3])
    images[4] = np.round(images[4] * 3) / 3
    images[5] *= 1e-3
    return torch.from_numpy(images)


def neutral(batch=BATCH, **changes):
    """Parameters that change nothing, but for ``changes``."""
    nothing = Photometric(
        jitter=np.zeros(batch, dtype=bool),
        factors=np.tile([1.0, 1.0, 1.0, 0.0], (batch, 1)),
        order=np.tile(np.arange(4), (batch, 1)),
        channels=np.tile(np.arange(3), (batch, 1)),
        grayscale=np.zeros(batch, dtype=bool),
        sigma=np.zeros(batch),
        solarize=np.zeros(batch, dtype=bool),
        invert=np.zeros(batch, dtype=bool),
    )
    return replace(nothing, **changes)


def factors_of(operation, batch=BATCH):
    factors = np.tile([1.0, 1.0, 1.0, 0.0], (batch, 1))
    low, high = (-0.5, 0.5) if operation == HUE else (0.0, 2.0)
    values = np.random.default_rng(1).uniform(low, high, batch)
    # The ends of the range and the value that changes nothing, each on an ordinary image.
    values[6:9] = (low, high, 0.0 if operation == HUE else 1.0)
    factors[:, operation] = values
    return factors


def random_orders(batch=BATCH):
    return JITTER_ORDERS[np.random.default_rng(2).integers(0, 24, batch)]


def flags(batch=BATCH):
    return np.random.default_rng(3).random(batch) < 0.6


def reference_jitter(images, parameters):
    views = []
    for row, image in enumerate(images):
        for operation in parameters.order[row] if parameters.jitter[row] else ():
            image = ADJUST[operation](image, float(parameters.factors[row, operation]))
        views.append(image)
    return torch.stack(views)


@pytest.mark.parametrize("operation", [BRIGHTNESS, CONTRAST, SATURATION, HUE])
def test_each_adjustment(operation):
    images = random_images()
    parameters = neutral(jitter=np.ones(BATCH, dtype=bool), factors=factors_of(operation), order=random_orders())
    expected = reference_jitter(images, parameters)
    assert (expected - images).abs().amax(dim=(1, 2, 3)).median() > 0.05
    torch.testing.assert_close(jitter_(images, parameters), expected, atol=TOLERANCE, rtol=0)


def test_jitter_in_each_samples_order_on_flagged_samples():
    images = random_images(batch=256)
    factors = np.random.default_rng(4).uniform((0.2, 0.2, 0.2, -0.5), (1.8, 1.8, 1.8, 0.5), (256, 4))
    parameters = neutral(256, jitter=flags(256), factors=factors, order=random_orders(256))
    expected, before = reference_jitter(images, parameters), images.clone()
    jitter_(images, parameters)
    torch.testing.assert_close(images, expected, atol=2e-3, rtol=0)
    assert torch.equal(images[~parameters.jitter], before[~parameters.jitter])


def test_the_order_matters():
    images = torch.rand((1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    ones, factors = np.ones(2, dtype=bool), np.tile([1.6, 0.5, 1.5, 0.3], (2, 1))
    jittered = jitter_(images, neutral(2, jitter=ones, factors=factors, order=np.array([[0, 1, 2, 3], [3, 2, 1, 0]])))
    assert (jittered[0] - jittered[1]).abs().max() > 0.05


def test_hue_by_hand():
    colours = torch.tensor([[1.0, 0, 0], [0.8, 0.2, 0.2], [0.5, 0.5, 0.5], [0, 0, 0], [0, 1, 1]]).view(5, 3, 1)
    turned = shift_hue_(colours, torch.tensor([1 / 3, 0.5, 0.3, 0.3, -1 / 6]))
    expected = torch.tensor([[0, 1, 0], [0.2, 0.8, 0.8], [0.5, 0.5, 0.5], [0, 0, 0], [0, 1, 0]])
    torch.testing.assert_close(turned[..., 0], expected, atol=1e-6, rtol=0)


def test_hue_over_the_whole_colour_cube():
    """Every colour of a 17-level cube, every shift on a grid that includes both half turns."""
    level = torch.linspace(0, 1, 17)
    cube = torch.cartesian_prod(level, level, level).T.contiguous()
    shifts = torch.linspace(-0.5, 0.5, 21)
    turned = shift_hue_(cube.expand(21, 3, -1).clone(), shifts)
    expected = torch.stack([functional.adjust_hue(cube[..., None], shift)[..., 0] for shift in shifts.tolist()])
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)


def test_contrast_of_a_black_image_and_factor_zero():
    images = torch.rand((3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    images[1] = 0.0
    parameters = neutral(3, jitter=np.ones(3, dtype=bool), factors=np.array([[1, 0, 1, 0], [1, 1.9, 1, 0], [0, 1, 1, 0]], dtype=float))
    mean = (images[0] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0).mean()
    jitter_(images, parameters)
    torch.testing.assert_close(images[0], mean.expand(3, SIDE, SIDE), atol=1e-6, rtol=0)
    assert not images[1].any()
    assert not images[2].any()


def test_grayscale():
    images, gray = random_images(), flags()
    expected = images.clone()
    expected[gray] = functional.rgb_to_grayscale(images[gray], num_output_channels=3)
    torch.testing.assert_close(grayscale_(images, gray), expected, atol=TOLERANCE, rtol=0)
    assert torch.equal(images[~gray], expected[~gray])


def test_grayscale_keeps_gray():
    gray = torch.linspace(0, 1, 300).view(3, 1, 10, 10).repeat(1, 3, 1, 1)
    torch.testing.assert_close(grayscale_(gray.clone(), np.ones(3, dtype=bool)), gray, atol=1e-7, rtol=0)


def test_channel_permutation():
    images = random_images()
    channels = np.array([np.random.default_rng(row).permutation(3) for row in range(BATCH)])
    expected = torch.stack([functional.permute_channels(image, order.tolist()) for image, order in zip(images, channels, strict=True)])
    assert torch.equal(permute_channels_(images, channels), expected)


@pytest.mark.parametrize(("side", "largest"), [(20, 2.0), (33, 1.0), (7, 2.0), (48, 3.0), (100, 2.0)])
def test_blur(side, largest):
    images = random_images(side=side)
    sigma = np.where(flags(), np.random.default_rng(5).uniform(0.1, largest, BATCH), 0.0)
    kernel = 2 * min(int(np.ceil(BLUR_CUTOFF * largest)), side - 1) + 1
    expected = torch.stack(
        [functional.gaussian_blur(i, [kernel, kernel], [s, s]) if s else i for i, s in zip(images, sigma.tolist(), strict=True)]
    )
    torch.testing.assert_close(blur_(images, sigma, largest), expected, atol=1e-5, rtol=0)


def test_blur_of_a_single_pixel_image_changes_nothing():
    images = torch.tensor([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]).view(2, 3, 1, 1)
    torch.testing.assert_close(blur_(images.clone(), np.array([1.0, 2.0]), 2.0), images, atol=1e-6, rtol=0)


def test_invert():
    images = random_images()
    chosen = np.arange(BATCH) % 3 == 0
    expected = images.clone()
    expected[chosen] = functional.invert(images[chosen])
    assert torch.equal(invert_(images, chosen), expected)


def test_solarize():
    images, inverted = random_images(), flags()
    images[10, :, 0, 0] = torch.tensor([0.5, 0.49999, 0.50001])
    expected = images.clone()
    expected[inverted] = functional.solarize(images[inverted], 0.5)
    assert torch.equal(solarize_(images, inverted), expected)


def test_normalise():
    images, mean, std = random_images(), [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    expected = functional.normalize(images, mean, std)
    torch.testing.assert_close(normalise_(images, torch.tensor(mean), torch.tensor(std)), expected, atol=1e-6, rtol=0)


def reference_chain(images, parameters, largest):
    kernel = 2 * int(np.ceil(BLUR_CUTOFF * largest)) + 1
    views = []
    for row, image in enumerate(reference_jitter(images, parameters)):
        image = functional.permute_channels(image, parameters.channels[row].tolist())
        if parameters.grayscale[row]:
            image = functional.rgb_to_grayscale(image, num_output_channels=3)
        if parameters.sigma[row]:
            image = functional.gaussian_blur(image, [kernel, kernel], [float(parameters.sigma[row])] * 2)
        if parameters.solarize[row]:
            image = functional.solarize(image, 0.5)
        views.append(functional.invert(image) if parameters.invert[row] else image)
    return torch.stack(views)


def chain_parameters(batch, solarize=0.0):
    settings = ViewSettings(size=SIDE, jitter=0.8, channel_permutation=0.5, grayscale=0.2, blur=0.5, solarize=solarize, invert=0.3)
    return draw_photometric(settings, np.arange(batch), seed=0, epoch=0, view=0)


def test_the_whole_chain_is_the_operations_in_order():
    images, parameters = random_images(256), chain_parameters(256)
    expected = reference_chain(images, parameters, 2.0)
    torch.testing.assert_close(apply_photometric_(images, parameters, 2.0), expected, atol=TOLERANCE * 2, rtol=0)


def test_samples_taken_in_slices_are_those_of_one_slice(monkeypatch):
    """A CPU takes as many samples at a time as stay in its cache."""
    images, parameters = random_images(), chain_parameters(BATCH, solarize=0.5)
    together = apply_photometric_(images.clone(), parameters, 2.0)
    monkeypatch.setattr("evaluation.views.photometric._VALUES_IN_CACHE", 7 * images[0].numel() // torch.get_num_threads())
    apart = apply_photometric_(images, parameters, 2.0)
    # Products may order their sums by the size of a batch, and solarizing jumps at one half.
    assert ((apart - together).abs() > 1e-5).float().mean() < 1e-4


def test_solarize_comes_last():
    """Solarizing jumps at one half, where rounding decides: all but a few pixels agree."""
    images, parameters = random_images(256), chain_parameters(256, solarize=0.5)
    expected = reference_chain(images, parameters, 2.0)
    assert ((apply_photometric_(images, parameters, 2.0) - expected).abs() > TOLERANCE * 2).float().mean() < 1e-3


def test_autocast_does_not_change_pixels():
    parameters = chain_parameters(32)
    plain = apply_photometric_(random_images(32), parameters, 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(apply_photometric_(random_images(32), parameters, 2.0), plain)


@pytest.mark.cuda
def test_cuda_equals_cpu():
    parameters = chain_parameters(256)
    views = apply_photometric_(random_images(256).cuda(), parameters, 2.0)
    torch.testing.assert_close(views.cpu(), apply_photometric_(random_images(256), parameters, 2.0), atol=1e-4, rtol=0)
