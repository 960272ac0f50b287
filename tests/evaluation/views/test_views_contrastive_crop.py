"""The law of ContrastiveCrop and SimCCrop: against a scalar loop on the same numbers, and against published or exact probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import betainc, betaincinv
from scipy.stats import beta

from evaluation.views.samplers import (
    SERIES_ALPHA,
    ContrastiveCrop,
    RandomResizedCrop,
    SimCCrop,
    beta_quantiles,
    crop_shapes,
    make_sampler,
    placement_limits,
)
from evaluation.views.settings import ViewSettings
from zoo.randomness import uniforms

SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
FULL = (0.0, 0.0, 1.0, 1.0)
CENTRE = (0.25, 0.25, 0.75, 0.75)


def table(box, count):
    return np.tile(np.array(box, dtype=np.float32), (count, 1))


def numbers_for(count, seed=0):
    return uniforms(seed, "test", ContrastiveCrop.draws, index=np.arange(count))


def random_boxes(count, seed=0):
    """Boxes of any size and place; among them the whole image, points, and lines along an edge."""
    corners = np.sort(np.random.default_rng(seed).random((count, 2, 2)), axis=1)
    boxes = corners.reshape(count, 4).astype(np.float32)
    boxes[:4] = FULL, (0.5, 0.5, 0.5, 0.5), (0, 0, 0, 1), (1, 0, 1, 1)
    return boxes


def beta_quantile(u, alpha):
    """The value in [0, 1) at which the Beta(alpha, alpha) law has reached ``u``, by bisection of its distribution function."""
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if betainc(alpha, alpha, middle) < u else (low, middle)
    return min(high, math.nextafter(1.0, 0.0))


def scalar_contrastive_crop(height, width, box, u, alpha, inclusive=False, scale=SCALE, ratio=RATIO):
    """The algorithm as it is written: one image, Python's own arithmetic."""
    for attempt in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * u[2 * attempt])
        aspect = math.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * u[2 * attempt + 1])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            corner = []
            for side, length, first, last, number in ((height, h, box[0], box[2], u[20]), (width, w, box[1], box[3], u[21])):
                low = min(max(math.trunc(side * first) - length // 2, 0), side - length)
                high = min(max(math.trunc(side * last) - length // 2, 0), side - length)
                assert low <= high
                corner.append(low + math.trunc((high - low + inclusive) * beta_quantile(number, alpha)))
            return *corner, h, w
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05, 0.1, 0.3, 0.6, 0.999, 1.0, 1.5, SERIES_ALPHA, 2.5, 40.0])
def test_quantiles_of_the_beta_law(alpha):
    """To twelve digits, in the bulk, in both tails and at the ends of the range."""
    tail = np.geomspace(1e-17, 0.5, 2000)
    numbers = np.concatenate([np.random.default_rng(0).random(20_000), tail, 1 - tail, [0.0, 0.5, 1 - 2.0**-53]])
    np.testing.assert_allclose(beta_quantiles(numbers, alpha), betaincinv(alpha, alpha, numbers), atol=1e-12, rtol=0)


@pytest.mark.parametrize("alpha", [0.1, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("inclusive", [False, True])
def test_equals_the_scalar_loop(alpha, inclusive):
    count = 700
    sizes = np.random.default_rng(1).integers(1, 400, (count, 2))
    sizes[:300] = 32
    sizes[300:350] = (10, 300)
    sizes[350:400] = (300, 10)
    boxes, numbers = random_boxes(count), numbers_for(count)
    sampler = ContrastiveCrop(SCALE, RATIO, alpha, inclusive)
    crops = sampler(sizes, numbers, boxes)
    assert [sampler.one(*of_one) for of_one in zip(sizes.tolist(), numbers.tolist(), boxes.tolist(), strict=True)] == crops.tolist()
    expected = [
        scalar_contrastive_crop(int(h), int(w), box.tolist(), u.tolist(), alpha, inclusive)
        for (h, w), box, u in zip(sizes, boxes, numbers, strict=True)
    ]
    np.testing.assert_array_equal(crops, expected)
    assert crops.dtype == np.int64


def test_a_crop_that_never_fits_is_central_whatever_the_box():
    sampler = ContrastiveCrop((1.0, 1.0), (1.0, 1.0), 0.6)
    sizes = np.array([[10, 31], [31, 10]])
    crops = sampler(sizes, numbers_for(2), table((0, 0, 0.1, 0.1), 2))
    assert crops.tolist() == [[0, 10, 10, 10], [10, 0, 10, 10]]
    assert [sampler.one(size, numbers_for(1)[0].tolist(), (0, 0, 0.1, 0.1)) for size in sizes.tolist()] == crops.tolist()


def offset_shares(alpha, inclusive=False, count=80_000, box=FULL):
    """Share of each top of a 24-pixel crop in a 32-pixel image, over an even grid of numbers; the left takes the grid backwards."""
    numbers = np.full((count, ContrastiveCrop.draws), 0.5)
    numbers[:, 20] = (np.arange(count) + 0.5) / count
    numbers[:, 21] = numbers[::-1, 20]
    crops = ContrastiveCrop((0.5625, 0.5625), (1.0, 1.0), alpha, inclusive)(np.full((count, 2), 32), numbers, table(box, count))
    assert (crops[:, 2:] == 24).all()
    np.testing.assert_array_equal(crops[:, 1], crops[::-1, 0])
    return np.bincount(crops[:, 0], minlength=9) / count


@pytest.mark.parametrize(("alpha", "first"), [(0.1, 0.417), (0.6, 0.202), (1.0, 0.125)])
def test_probabilities_of_the_offsets(alpha, first):
    """n = 8 places: P(m) = F((m + 1) / n) - F(m / n), and the far end never. The first is what the published sampler was measured at."""
    shares = offset_shares(alpha)
    assert shares[0] == pytest.approx(first, abs=0.0006)
    assert len(shares) == 9
    np.testing.assert_allclose(shares[:8], np.diff(beta.cdf(np.arange(9) / 8, alpha, alpha)), atol=2e-5)
    assert shares[8] == 0


@pytest.mark.parametrize("alpha", [0.1, 0.6, 1.0])
def test_inclusive_reaches_the_far_end(alpha):
    shares = offset_shares(alpha, inclusive=True)
    np.testing.assert_allclose(shares, np.diff(beta.cdf(np.arange(10) / 9, alpha, alpha)), atol=2e-5)
    np.testing.assert_allclose(shares, shares[::-1], atol=2e-5)


def test_a_box_moves_the_offsets():
    """Box rows 16 .. 20 of 32: the top of a 24-pixel crop lies in 4 .. 8."""
    shares = offset_shares(1.0, box=(0.5, 0.5, 0.625, 0.625))
    np.testing.assert_allclose(shares, [0, 0, 0, 0, 0.25, 0.25, 0.25, 0.25, 0], atol=2e-5)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.6, 5.0])
def test_the_ends_of_the_uniform_range_stay_inside(alpha):
    for inclusive in (False, True):
        sampler = ContrastiveCrop(SCALE, RATIO, alpha, inclusive)
        for number, last in ((0.0, False), (1 - 2.0**-53, True)):
            numbers = np.full((200, sampler.draws), 0.5)
            numbers[:, 20:] = number
            sizes = np.stack([np.arange(20, 220)] * 2, axis=1)
            crops = sampler(sizes, numbers, table(FULL, 200))
            room = sizes - crops[:, 2:]
            np.testing.assert_array_equal(crops[:, :2], (room if inclusive else room - 1) if last else 0 * room)


@pytest.mark.parametrize("seed", [0, 1])
def test_crops_lie_inside_their_images(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, (30_000, 2))
    boxes = random_boxes(30_000, seed)
    for sampler in (
        ContrastiveCrop(SCALE, RATIO, 0.1),
        ContrastiveCrop((0.01, 1.0), (0.2, 5.0), 0.6, inclusive=True),
        SimCCrop(ContrastiveCrop(SCALE, RATIO, 0.1), CENTRE),
    ):
        crops = sampler(sizes, numbers_for(30_000, seed), boxes)
        assert (crops[:, :2] >= 0).all()
        assert (crops[:, 2:] >= 1).all()
        assert (crops[:, :2] + crops[:, 2:] <= sizes).all()


def test_small_crops_have_their_centres_in_the_box():
    count = 20_000
    boxes = random_boxes(count, 3)
    crops = ContrastiveCrop((0.01, 0.05), RATIO, 0.6, inclusive=True)(np.full((count, 2), 100), numbers_for(count), boxes)
    centres, radius = crops[:, :2] + crops[:, 2:] // 2, crops[:, 2:] / 2
    for axis in (0, 1):
        low, high = np.trunc(boxes[:, axis].astype(float) * 100), np.trunc(boxes[:, 2 + axis].astype(float) * 100)
        # At the image's edge the crop must stay inside, and its centre half a crop away.
        assert (centres[:, axis] >= np.minimum(low, 100 - np.ceil(radius[:, axis]))).all()
        assert (centres[:, axis] <= np.maximum(high, np.floor(radius[:, axis]))).all()


def overlap(one, other):
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    return common / (one[:, 2:].prod(axis=1) + other[:, 2:].prod(axis=1) - common)


@pytest.mark.parametrize(
    ("box", "alpha", "expected"),
    [
        (None, 1.0, 0.496),
        (FULL, 1.0, 0.513),
        (FULL, 0.6, 0.491),
        (FULL, 0.1, 0.451),
        (CENTRE, 1.0, 0.515),
        (CENTRE, 0.6, 0.493),
        (CENTRE, 0.1, 0.452),
    ],
)
def test_mean_overlap_of_two_crops(box, alpha, expected):
    """20,000 pairs on 32 px, as the published functions gave it (they and we each have a standard error of about .0015)."""
    sizes = np.full((20_000, 2), 32)
    boxes = None if box is None else table(box, 20_000)
    sampler = ContrastiveCrop(SCALE, RATIO, alpha)
    one, other = (sampler(sizes, numbers_for(20_000, seed), boxes) for seed in (1, 2))
    assert overlap(one, other).mean() == pytest.approx(expected, abs=0.004)


def test_without_boxes_it_is_random_resized_crop():
    sizes, numbers = np.random.default_rng(0).integers(1, 100, (2000, 2)), numbers_for(2000)
    plain = RandomResizedCrop(SCALE, RATIO)(sizes, numbers)
    np.testing.assert_array_equal(ContrastiveCrop(SCALE, RATIO, 0.1)(sizes, numbers), plain)
    # With boxes its shapes stay those of the same numbers.
    np.testing.assert_array_equal(ContrastiveCrop(SCALE, RATIO, 0.1)(sizes, numbers, random_boxes(2000))[:, 2:], plain[:, 2:])


def test_simccrops_limits():
    lengths = np.array([14, 20, 32])
    low, high = placement_limits(np.full((3, 2), 32), np.stack([lengths, lengths], axis=1), table(CENTRE, 3))
    assert low.tolist() == [[1, 1], [0, 0], [0, 0]]
    assert high.tolist() == [[17, 17], [12, 12], [0, 0]]


@pytest.mark.parametrize(
    ("side", "margin", "affected", "kept"),
    [(32, 0.2, 0.0, 1.0), (32, 0.25, 0.104, 0.99), (32, 0.35, 0.538, 0.786), (224, 0.2, 0.001, 1.0), (224, 0.25, 0.130, 0.989)],
)
def test_how_much_a_box_constrains(side, margin, affected, kept):
    """Crops whose range a central box narrows, and the share of positions that it leaves: the table in docs/views.md."""
    sizes, numbers = np.full((20_000, 2), side), numbers_for(20_000)
    shapes, _ = crop_shapes(sizes, numbers, SCALE, RATIO)
    narrow = placement_limits(sizes, shapes, table((margin, margin, 1 - margin, 1 - margin), 20_000))
    wide = placement_limits(sizes, shapes, table(FULL, 20_000))
    positions = [(high - low + 1).prod(axis=1) for low, high in (narrow, wide)]
    assert (np.concatenate(narrow, axis=1) != np.concatenate(wide, axis=1)).any(axis=1).mean() == pytest.approx(affected, abs=0.01)
    assert (positions[0] / positions[1]).mean() == pytest.approx(kept, abs=0.01)


def test_simccrop_is_contrastive_crop_with_the_central_box():
    sizes, numbers = np.random.default_rng(0).integers(1, 100, (2000, 2)), numbers_for(2000)
    sampler = make_sampler(ViewSettings(crop="simccrop", alpha=0.1))
    expected = ContrastiveCrop(SCALE, RATIO, 0.1)(sizes, numbers, table(CENTRE, 2000))
    np.testing.assert_array_equal(sampler(sizes, numbers), expected)
    # A survey's boxes do not reach it.
    np.testing.assert_array_equal(sampler(sizes, numbers, random_boxes(2000)), expected)


@pytest.mark.parametrize(("side", "one_less"), [(32, 0), (64, 0), (96, 31)])
def test_a_box_of_float32_is_rounded_down(side, one_less):
    """A share index / side, stored as float32 and widened, times the side may lie just below the index: 31 of STL-10's 96."""
    boxes = np.repeat((np.arange(side) / side).astype(np.float32)[:, None], 4, axis=1)
    low, high = placement_limits(np.full((side, 2), side), np.ones((side, 2), dtype=np.int64), boxes)
    np.testing.assert_array_equal(low, high)
    np.testing.assert_array_equal(low[:, 0], [math.trunc(side * float(np.float32(index / side))) for index in range(side)])
    assert set((np.arange(side) - low[:, 0]).tolist()) <= {0, 1}
    assert (low[:, 0] < np.arange(side)).sum() == one_less


def test_samplers_by_name():
    settings = ViewSettings(crop="contrastive_crop", alpha=0.1, inclusive=True, scale=[0.3, 0.5], ratio=[0.5, 2.0])
    sampler = make_sampler(settings)
    assert sampler == ContrastiveCrop((0.3, 0.5), (0.5, 2.0), 0.1, True)
    assert sampler.follows_boxes
    central = make_sampler(ViewSettings(crop="simccrop", central_box=[0.1, 0.2, 0.3, 0.4]))
    assert central == SimCCrop(ContrastiveCrop(SCALE, RATIO, 0.6), (0.1, 0.2, 0.3, 0.4))
    assert not central.follows_boxes
