"""Quality without labels, against plain NumPy by the papers' formulas, and as a task of `evaluate`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from evaluation.commands.cli import app
from evaluation.statistics.quality import agreement, alpha_req, lidar, rank_me, spectrum, uniformity
from zoo.results import load_result

Array = NDArray[np.float64]


def drawn(*shape: int, seed: int = 0) -> Array:
    draw = np.random.default_rng(seed)
    return draw.normal(size=shape) * np.linspace(3.0, 0.1, shape[-1]) + draw.normal(size=shape[-1])


def effective_rank(values: Array) -> float:
    shares = values / np.abs(values).sum() + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize("shape", [(200, 16), (12, 40), (300, 1)])
def test_rankme_is_the_entropy_of_singular_values(shape: tuple[int, int]) -> None:
    rows = drawn(*shape)
    assert rank_me(torch.from_numpy(rows)) == pytest.approx(effective_rank(np.linalg.svd(rows, compute_uv=False)), rel=1e-6)


def test_rankme_of_known_features() -> None:
    assert rank_me(torch.eye(8)) == pytest.approx(8, rel=1e-4)
    assert rank_me(torch.ones(50, 8)) == pytest.approx(1, rel=1e-3)
    assert rank_me(torch.zeros(50, 8)) == 1.0


@pytest.mark.parametrize("width", [8, 60, 150])
def test_alpha_is_the_weighted_slope_over_ranks_4_to_100(width: int) -> None:
    rows = drawn(400, width)
    values = np.sort(np.linalg.eigvalsh(np.cov(rows.T, bias=True)))[::-1]
    rank = np.arange(1, width + 1)[3:100]
    # np.polyfit weights residuals, so the root of the weights.
    slope = np.polyfit(np.log(rank), np.log(values[3:100]), 1, w=np.sqrt(1 / rank))[0]
    assert alpha_req(torch.from_numpy(rows)) == pytest.approx(-slope, rel=1e-8)


def test_alpha_finds_a_power_law_and_says_nothing_of_few_dimensions() -> None:
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(500, 80)))[0]
    centred = basis - basis.mean(0)
    # Columns that are orthogonal after centring have the covariance that is asked for.
    rows = np.linalg.qr(centred)[0] * np.arange(1, 81) ** -0.6
    assert alpha_req(torch.from_numpy(rows - rows.mean(0))) == pytest.approx(1.2, abs=1e-6)
    assert math.isnan(alpha_req(torch.from_numpy(drawn(50, 5))))


def test_uniformity_and_spread_are_the_loops() -> None:
    rows = drawn(40, 6)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [np.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(40) for j in range(i)]
    assert uniformity(torch.from_numpy(rows)) == pytest.approx(np.log(np.mean(pairs)), rel=1e-9)
    found = spectrum(torch.from_numpy(rows).float())
    assert found.uniformity == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)
    assert found.spread == pytest.approx(unit.std(0).mean() * np.sqrt(6), rel=1e-5)
    collapsed = spectrum(torch.ones(30, 6))
    assert (collapsed.spread, collapsed.uniformity) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))


@pytest.mark.parametrize("shape", [(60, 4, 8), (10, 5, 24)])
def test_lidar_is_the_generalised_eigenproblem(shape: tuple[int, int, int]) -> None:
    from scipy.linalg import sqrtm

    draw = np.random.default_rng(0)
    views = drawn(shape[0], 1, shape[2]) + 0.5 * draw.normal(size=shape)
    means = views.mean(1)
    between = sum(np.outer(mean - means.mean(0), mean - means.mean(0)) for mean in means) / shape[0]
    within = sum(np.outer(view - mean, view - mean) for image, mean in zip(views, means, strict=True) for view in image)
    root = np.linalg.inv(np.real(sqrtm(within / (shape[0] * shape[1]) + 1e-4 * np.eye(shape[2]))))
    values = np.linalg.eigvalsh(root @ between @ root).clip(0)
    assert lidar(torch.from_numpy(views)) == pytest.approx(effective_rank(values), rel=2e-4)


def test_alignment_and_neighbours_are_the_loops() -> None:
    draw = np.random.default_rng(0)
    views = drawn(30, 1, 5) + 0.8 * draw.normal(size=(30, 3, 5))
    unit = views / np.linalg.norm(views, axis=2, keepdims=True)
    distance = np.mean([((unit[i, 0] - unit[i, 1]) ** 2).sum() for i in range(30)])
    same = 0
    for i in range(30):
        others = [j for j in range(30) if j != i]
        nearest = [max(others, key=lambda j, v=v, i=i: unit[i, v] @ unit[j, v]) for v in (0, 1)]
        same += nearest[0] == nearest[1]
    found = agreement(torch.from_numpy(views))
    assert found.alignment == pytest.approx(distance, rel=1e-9)
    assert found.neighbour == pytest.approx(same / 30)
    assert 0 < same < 30


def test_shapes_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="of at least 2 images"):
        spectrum(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="of 3 images and 2 views or more"):
        agreement(torch.zeros(2, 2, 4))


def quality(tmp_path: Path, model: str, *options: str) -> dict[str, float]:
    file = tmp_path.with_suffix(".json")
    words = ["--task", "quality", "--model", model, "--data", "shapes:train=90,test=30", "--out", str(file), "--no-cache"]
    done = CliRunner().invoke(app, [*words, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(load_result(file).metrics)


def test_the_task_measures_a_network(tmp_path: Path) -> None:
    first = quality(tmp_path / "first", "random:resnet10_small:0", "--view-count", "4", "--max-images", "60")
    assert set(first) == {"rankme", "lidar", "alpha", "alignment", "uniformity", "spread", "neighbour"}
    assert 1 <= first["rankme"] <= 60
    assert 0 <= first["neighbour"] <= 100
    # The same again, to the last digit; another seed draws other views of the same images.
    assert quality(tmp_path / "again", "random:resnet10_small:0", "--view-count", "4", "--max-images", "60") == first
    other = quality(tmp_path / "other", "random:resnet10_small:0", "--view-count", "4", "--max-images", "60", "--seed", "1")
    assert other["rankme"] == first["rankme"]
    assert other["alignment"] != first["alignment"]
