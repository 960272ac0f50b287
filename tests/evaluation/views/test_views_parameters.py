"""Random parameters: where they are drawn, their law, and that nothing but the address matters."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from evaluation.views.parameters import Photometric, draw_crops, draw_photometric
from evaluation.views.samplers import make_sampler
from evaluation.views.settings import ViewSettings
from zoo.randomness import generator

ALL = ViewSettings(size=32, blur=0.4, solarize=0.3, channel_permutation=0.6)
MANY = np.arange(20000)


def photometric(settings=ALL, index=MANY, seed=0, epoch=0, view=0) -> Photometric:
    return draw_photometric(settings, index, seed=seed, epoch=epoch, view=view)


def assert_same(one, other):
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def crops(index, settings=ALL, **address):
    sizes = np.full((len(index), 2), 32)
    return draw_crops(make_sampler(settings), settings, sizes, index, **{"seed": 0, "epoch": 0, "view": 0, **address})


def test_a_sample_does_not_depend_on_its_batch():
    index = np.array([7, 123456, 3, 99])
    together = photometric(index=index, seed=5, epoch=3, view=1)
    boxes = crops(index, seed=5, epoch=3, view=1)
    for row, sample in enumerate(index):
        assert_same(together.take(np.array([row])), photometric(index=np.array([sample]), seed=5, epoch=3, view=1))
        alone = crops(np.array([sample]), seed=5, epoch=3, view=1)
        np.testing.assert_array_equal(boxes.boxes[row], alone.boxes[0])
        assert boxes.flip[row] == alone.flip[0]


@pytest.mark.parametrize("address", [{"seed": 1}, {"epoch": 1}, {"view": 1}])
def test_every_part_of_the_address_matters(address):
    index = np.arange(1000)
    assert (photometric(index=index, **address).factors != photometric(index=index).factors).all()
    assert (crops(index, **address).boxes != crops(index).boxes).any(axis=1).mean() > 0.9


def test_crops_and_colours_are_drawn_at_their_own_purposes():
    numbers = generator(3, "crop", 17, 2, 1).random(23)
    assert crops(np.array([17]), seed=3, epoch=2, view=1).flip[0] == (numbers[0] < 0.5)
    numbers = generator(3, "photometric", 17, 2, 1).random(12)
    drawn = photometric(index=np.array([17]), seed=3, epoch=2, view=1)
    np.testing.assert_allclose(
        drawn.factors[0], [0.6 + 0.8 * numbers[1], 0.6 + 0.8 * numbers[2], 0.6 + 0.8 * numbers[3], 0.2 * numbers[4] - 0.1]
    )
    assert drawn.jitter[0] == (numbers[0] < 0.8)


def test_a_switch_leaves_the_other_choices_alone():
    one, other = photometric(ALL), photometric(replace(ALL, blur=0.0, grayscale=1.0, channel_permutation=0.0))
    np.testing.assert_array_equal(one.factors, other.factors)
    np.testing.assert_array_equal(one.order, other.order)
    np.testing.assert_array_equal(one.jitter, other.jitter)
    np.testing.assert_array_equal(one.solarize, other.solarize)
    np.testing.assert_array_equal(crops(np.arange(500)).boxes, crops(np.arange(500), replace(ALL, flip=0.0)).boxes)


def test_probabilities():
    drawn = photometric()
    assert drawn.jitter.mean() == pytest.approx(0.8, abs=0.012)
    assert drawn.grayscale.mean() == pytest.approx(0.2, abs=0.012)
    assert drawn.solarize.mean() == pytest.approx(0.3, abs=0.014)
    assert (drawn.sigma > 0).mean() == pytest.approx(0.4, abs=0.015)
    # One of the six channel orders is the identity.
    assert (drawn.channels != np.arange(3)).any(axis=1).mean() == pytest.approx(0.6 * 5 / 6, abs=0.015)
    assert crops(MANY).flip.mean() == pytest.approx(0.5, abs=0.015)


def test_probabilities_of_zero_and_one_are_exact():
    never = photometric(ViewSettings(jitter=0.0, grayscale=0.0, blur=0.0, solarize=0.0, channel_permutation=0.0))
    assert not never.jitter.any()
    assert not never.grayscale.any()
    assert not never.sigma.any()
    assert not never.solarize.any()
    assert (never.channels == np.arange(3)).all()
    always = photometric(ViewSettings(jitter=1.0, grayscale=1.0, blur=1.0, solarize=1.0))
    assert always.jitter.all()
    assert always.grayscale.all()
    assert (always.sigma > 0).all()
    assert always.solarize.all()


def test_strengths_are_uniform_in_their_ranges():
    drawn = photometric(replace(ALL, brightness=1.5, contrast=0.4, saturation=0.2, hue=0.3, blur=1.0, blur_sigma=[0.5, 3.0]))
    for values, low, high in (
        (drawn.factors[:, 0], 0.0, 2.5),
        (drawn.factors[:, 1], 0.6, 1.4),
        (drawn.factors[:, 2], 0.8, 1.2),
        (drawn.factors[:, 3], -0.3, 0.3),
        (drawn.sigma, 0.5, 3.0),
    ):
        assert kstest((values - low) / (high - low), "uniform").pvalue > 1e-3


def test_orders_are_uniform_permutations():
    drawn = photometric()
    assert (np.sort(drawn.order, axis=1) == np.arange(4)).all()
    _, counts = np.unique(drawn.order @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24
    assert chisquare(counts).pvalue > 1e-3
    permuted = photometric(replace(ALL, channel_permutation=1.0))
    _, counts = np.unique(permuted.channels @ [9, 3, 1], return_counts=True)
    assert len(counts) == 6
    assert chisquare(counts).pvalue > 1e-3
