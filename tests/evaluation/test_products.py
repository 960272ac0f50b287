"""Inner products by MKL and by oneDNN, each against float64, and the same wherever a vector stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation import products
from evaluation.products import FEWEST_ROWS, Products, at_least_fewest
from evaluation.search import full_float32


@pytest.fixture(params=["MKL", "oneDNN"])
def engine(request, monkeypatch):
    if request.param == "oneDNN" and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param == "oneDNN")
    # So few numbers at a time that the smallest cases have several parts.
    monkeypatch.setattr(products, "_AT_ONCE", 4000 // torch.get_num_threads())
    monkeypatch.setattr(products, "_ROWS_AT_ONCE", 100)
    return request.param


def draw(rows, width, seed):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("left", "right", "width"), [(1, 1, 1), (1, 300, 5), (300, 1, 5), (40, 333, 64), (150, 700, 513), (5000, 70, 3)])
@pytest.mark.parametrize("with_offsets", [False, True])
def test_equals_float64(left, right, width, with_offsets):
    a, b, offsets = draw(left, width, 0), draw(right, width, 1), draw(right, 1, 2)[:, 0]
    expected = a.double() @ b.double().T + (offsets.double() if with_offsets else 0)
    found = Products().of(a, b, offsets if with_offsets else None)
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), expected, atol=1e-5 * width**0.5, rtol=0)


@pytest.mark.usefixtures("engine")
def test_nothing_to_multiply():
    made = Products()
    assert made.of(draw(0, 4, 0), draw(3, 4, 1)).shape == (0, 3)
    assert made.of(draw(3, 4, 0), draw(0, 4, 1)).shape == (3, 0)
    assert made.of(torch.empty(2, 0), torch.empty(3, 0), torch.tensor([1.0, 2.0, 3.0])).tolist() == [[1.0, 2.0, 3.0]] * 2


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("width", [3, 64, 512, 1030])
def test_equal_vectors_have_equal_products_wherever_they_stand(width):
    """Bit for bit: what a neighbour's place among its equals hangs on. And the product of i and j is that of j and i."""
    rows = draw(500, width, 0)
    whole = Products().of(rows, rows).clone()
    assert torch.equal(whole, whole.T)
    for height, across in ((500, 90), (37, 500), (16, 16), (300, 33), (64, 499)):
        made = Products()
        for top in range(0, 500, height):
            for left in range(0, 500, across):
                part = made.of(at_least_fewest(rows[top : top + height]), at_least_fewest(rows[left : left + across]))
                expected = whole[top : top + height, left : left + across]
                assert torch.equal(part[: len(expected), : expected.shape[1]], expected), (height, across, top, left)


@pytest.mark.usefixtures("engine")
def test_full_precision_whatever_the_caller_allowed():
    a, b = draw(64, 256, 0), draw(80, 256, 1)
    before = torch.get_float32_matmul_precision()
    plain = Products().of(a, b).clone()
    try:
        torch.set_float32_matmul_precision("medium")
        with full_float32():
            assert torch.equal(Products().of(a, b), plain)
    finally:
        torch.set_float32_matmul_precision(before)


def test_small_products_begin_sooner(monkeypatch):
    """They are MKL's: asked for a product of that size, oneDNN's engine is never reached."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "_by_onednn", lambda left, right, offsets, out: out.fill_(torch.nan))
    a, b = draw(20, 8, 0), draw(30, 8, 1)
    torch.testing.assert_close(Products(20 * 30 * 8 + 1).of(a, b), a @ b.T)
    assert Products(20 * 30 * 8).of(a, b).isnan().all()


def test_few_rows_are_padded_with_zeros():
    rows = draw(3, 5, 0)
    padded = at_least_fewest(rows)
    assert padded.shape == (FEWEST_ROWS, 5)
    assert torch.equal(padded[:3], rows)
    assert not padded[3:].any()
    assert at_least_fewest(padded) is padded
