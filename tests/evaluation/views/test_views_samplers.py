"""The crop samplers' law: against a scalar loop on the same uniform numbers, and against torchvision in distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop

from evaluation.views.samplers import RandomResizedCrop, make_sampler
from evaluation.views.settings import ViewSettings
from zoo.errors import UserError
from zoo.randomness import uniforms

SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)


def draw(sampler, sizes, seed=0):
    numbers = uniforms(seed, "test", sampler.draws, index=np.arange(len(sizes)))
    return sampler(sizes, numbers), numbers


def scalar_crop(height, width, u, scale, ratio):
    """The reference: one image at a time, in Python's own arithmetic."""
    for attempt in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * u[2 * attempt])
        aspect = math.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * u[2 * attempt + 1])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return math.floor(u[20] * (height - h + 1)), math.floor(u[21] * (width - w + 1)), h, w
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(("scale", "ratio"), [(SCALE, RATIO), ((0.9, 1.0), (0.5, 2.0)), ((0.05, 0.14), RATIO), ((1.0, 1.0), (0.9, 1.1))])
def test_equals_the_scalar_loop(scale, ratio):
    sizes = np.random.default_rng(0).integers(1, 400, (3000, 2))
    sizes[:500] = 32
    sizes[500:600] = (10, 300)
    sizes[600:700] = (300, 10)
    boxes, numbers = draw(RandomResizedCrop(scale, ratio), sizes)
    expected = [scalar_crop(int(h), int(w), u.tolist(), scale, ratio) for (h, w), u in zip(sizes, numbers, strict=True)]
    np.testing.assert_array_equal(boxes, expected)
    assert boxes.dtype == np.int64


def test_fallback_is_the_largest_central_crop():
    boxes, _ = draw(RandomResizedCrop((1.0, 1.0), (1.0, 1.0)), np.array([[10, 31], [31, 10]]))
    assert boxes.tolist() == [[0, 10, 10, 10], [10, 0, 10, 10]]


def test_boxes_lie_inside_their_images():
    sizes = np.random.default_rng(1).integers(1, 50, (20000, 2))
    boxes, _ = draw(RandomResizedCrop(SCALE, RATIO), sizes)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all()


def test_the_largest_uniform_number_stays_inside():
    sampler = RandomResizedCrop(SCALE, RATIO)
    numbers = np.full((64, sampler.draws), 0.5)
    numbers[:, 20:] = 1 - 2.0**-53
    sizes = np.stack([np.arange(20, 84)] * 2, axis=1)
    boxes = sampler(sizes, numbers)
    np.testing.assert_array_equal(boxes[:, :2] + boxes[:, 2:], sizes)


def test_offsets_are_uniform_with_both_far_edges():
    boxes, _ = draw(RandomResizedCrop(SCALE, RATIO), np.full((40000, 2), 32))
    for axis in (0, 1):
        offsets = boxes[boxes[:, 2 + axis] == 24, axis]
        counts = np.bincount(offsets, minlength=9)
        assert len(counts) == 9
        assert chisquare(counts).pvalue > 1e-3


def test_mean_overlap_of_two_crops():
    """20,000 pairs on 32 px: the reference's own functions gave .496."""
    one, other = (draw(RandomResizedCrop(SCALE, RATIO), np.full((20000, 2), 32), seed)[0] for seed in (1, 2))
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    iou = common / (one[:, 2:].prod(axis=1) + other[:, 2:].prod(axis=1) - common)
    assert iou.mean() == pytest.approx(0.496, abs=0.005)


def test_has_torchvisions_distribution():
    torch.manual_seed(0)
    image = torch.empty(3, 40, 56)
    theirs = np.array([TorchvisionCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(4000)])
    ours, _ = draw(RandomResizedCrop(SCALE, RATIO), np.tile([40, 56], (4000, 1)))
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    np.testing.assert_allclose(np.corrcoef(ours.T), np.corrcoef(theirs.T), atol=0.07)


def test_sampler_by_name():
    settings = ViewSettings(scale=[0.3, 0.5], ratio=[0.5, 2.0])
    assert make_sampler(settings) == RandomResizedCrop((0.3, 0.5), (0.5, 2.0))
    with pytest.raises(
        UserError, match=r"no crop sampler 'resized' \(views.crop\); there are: random_resized_crop, contrastive_crop, simccrop"
    ):
        make_sampler(ViewSettings(crop="resized"))
