"""Keyed random numbers are NumPy's Philox, address by address."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.randomness import generator, uniforms


@pytest.mark.parametrize("count", [1, 3, 4, 13])
def test_batched_numbers_are_numpys_bit_for_bit(count: int) -> None:
    index = [0, 1, 5, 2**40, 2**63]
    batch = uniforms(7, "crop", count, index=index, epoch=3, view=1)
    for row, i in zip(batch, index, strict=True):
        assert np.array_equal(row, generator(7, "crop", i, 3, 1).random(count))


def test_every_part_of_the_address_matters() -> None:
    base = uniforms(1, "crop", 4, index=[2], epoch=3, view=4)
    others = [
        uniforms(2, "crop", 4, index=[2], epoch=3, view=4),
        uniforms(1, "flip", 4, index=[2], epoch=3, view=4),
        uniforms(1, "crop", 4, index=[3], epoch=3, view=4),
        uniforms(1, "crop", 4, index=[2], epoch=4, view=4),
        uniforms(1, "crop", 4, index=[2], epoch=3, view=5),
    ]
    assert all(not np.intersect1d(base, other).size for other in others)


def test_numbers_are_uniform() -> None:
    u = uniforms(0, "test", 10, index=np.arange(20_000))
    assert u.min() >= 0
    assert u.max() < 1
    assert np.allclose(u.mean(0), 0.5, atol=0.01)
    assert np.abs(np.corrcoef(u.T) - np.eye(10)).max() < 0.03


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        uniforms(-1, "crop", 1, index=[0])
