"""What features are worth, without labels: the numbers that papers propose for choosing a checkpoint.

How far each may be trusted is measured in ``docs/studies.md``. All are computed in float64.

Sources
-------
RankMe: Garrido et al., ICML 2023, arXiv 2210.02885, equations 1 and 2. LiDAR: Thilak et al., ICLR 2024, arXiv 2312.04000, section 3.
alpha-ReQ: Agrawal et al., NeurIPS 2022, arXiv 2202.05808; the fit's ranks and weights are those of its released code, which the paper does
not print. Alignment and uniformity: Wang and Isola, ICML 2020, arXiv 2005.10242, section 4.2.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

EPSILON = 1e-7  # of RankMe and LiDAR, so that the logarithm of a share of nothing is one
RIDGE = 1e-4  # of LiDAR's covariance within images
# Ranks of the eigenvalues that alpha-ReQ's line is fitted to, counted from 1.
FIRST_RANK, LAST_RANK = 4, 100
# Rows whose pairs uniformity is the mean over: more change it by less than it varies from seed to seed.
_MOST_PAIRED = 4096


@dataclass(frozen=True)
class Spectrum:
    """What the spread of features over their dimensions says.

    Attributes
    ----------
    rankme
        The effective rank of the features: exp of the entropy of their singular values as shares; 1 (all on one line) to D.
    alpha
        Exponent by which the eigenvalues of their covariance fall with their rank; near 1 is good by its authors. NaN below six dimensions.
    spread
        Mean standard deviation of a dimension of unit-length features, times the root of D: 1 where they fill the sphere, 0 where all are
        the same (Chen and He, arXiv 2011.10566, section 4.1).
    uniformity
        log of the mean of exp(-2 |x - y|^2) over pairs of unit-length features; lower is better, 0 where all are the same.
    """

    rankme: float
    alpha: float
    spread: float
    uniformity: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def spectrum(features: Tensor) -> Spectrum:
    """The numbers that need one feature for each image.

    Parameters
    ----------
    features
        (N, D), any float type, N of at least 2.

    Raises
    ------
    ValueError
        Fewer than two rows, or no matrix.
    """
    rows = _matrix(features)
    unit = normalize(rows, dim=1)
    spread = float(unit.std(0, correction=0).mean()) * math.sqrt(rows.shape[1])
    return Spectrum(rank_me(rows), alpha_req(rows), spread, uniformity(rows))


def rank_me(features: Tensor) -> float:
    """RankMe of (N, D): exp of the entropy of p_k = s_k / sum(s) + 1e-7, with s the singular values of the features as they are."""
    rows = _matrix(features)
    # Of the smaller of the two products: the singular values are the roots of its eigenvalues.
    product = rows.T @ rows if rows.shape[0] >= rows.shape[1] else rows @ rows.T
    return _effective_rank(torch.linalg.eigvalsh(product).clamp(min=0).sqrt())


def alpha_req(features: Tensor) -> float:
    """alpha-ReQ of (N, D): minus the slope of log eigenvalue over log rank of the covariance, by least squares with weights 1 / rank.

    Over the ranks 4 to 100, or as many as there are; NaN where fewer than three of these have a positive eigenvalue.
    """
    rows = _matrix(features)
    centred = rows - rows.mean(0)
    values = torch.linalg.eigvalsh(centred.T @ centred / len(rows)).flip(0)
    # What rounding leaves of zeros is no eigenvalue.
    values = values[values > values[0] * 1e-12]
    rank = torch.arange(1, len(values) + 1, dtype=torch.float64)[FIRST_RANK - 1 : LAST_RANK]
    if len(rank) < 3:
        return math.nan
    x, y, weight = rank.log(), values[FIRST_RANK - 1 : LAST_RANK].log(), 1 / rank
    x_mean, y_mean = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    slope = (weight * (x - x_mean) * (y - y_mean)).sum() / (weight * (x - x_mean).square()).sum()
    return -float(slope)


def uniformity(features: Tensor) -> float:
    """log of the mean of exp(-2 |x - y|^2) over the pairs of unit-length rows of (N, D); of the first 4,096 rows where there are more."""
    unit = normalize(_matrix(features)[:_MOST_PAIRED], dim=1)
    return float(torch.pdist(unit).square().mul(-2).exp().mean().log())


@dataclass(frozen=True)
class Agreement:
    """What several views of each image say.

    Attributes
    ----------
    lidar
        The effective rank of what tells images apart, measured by what varies within them: 1 to D.
    alignment
        Mean squared distance of the unit-length features of two views of an image; lower is better.
    neighbour
        Share (0 to 1) of images whose nearest other image is the same in their first two views.
    """

    lidar: float
    alignment: float
    neighbour: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def agreement(views: Tensor) -> Agreement:
    """The numbers that need several views of each image.

    Parameters
    ----------
    views
        (N, Q, D): features of Q views of N images, Q of at least 2, N of at least 3.

    Raises
    ------
    ValueError
        Another shape.
    """
    if views.ndim != 3 or views.shape[0] < 3 or views.shape[1] < 2:
        raise ValueError(f"features of views have a shape (images, views, width) of 3 images and 2 views or more, not {tuple(views.shape)}")
    rows = views.to("cpu", torch.float64)
    unit = normalize(rows, dim=2)
    first, second = unit[:, 0], unit[:, 1]
    nearest = [_nearest_other(view) for view in (first, second)]
    return Agreement(
        lidar=lidar(rows),
        alignment=float((first - second).square().sum(1).mean()),
        neighbour=float((nearest[0] == nearest[1]).double().mean()),
    )


def lidar(views: Tensor) -> float:
    """LiDAR of (N, Q, D): RankMe's entropy over the eigenvalues of W^(-1/2) B W^(-1/2).

    B is the covariance of the images' means (by 1 / N), W that of the views about their image's mean (by 1 / NQ), plus 1e-4 on its
    diagonal.
    """
    rows = views.to("cpu", torch.float64)
    count, each, width = rows.shape
    means = rows.mean(1)
    between = means - means.mean(0)
    within = (rows - means[:, None]).reshape(count * each, width)
    covariance = within.T @ within / (count * each) + RIDGE * torch.eye(width, dtype=torch.float64)
    # The eigenvalues of W^(-1/2) B W^(-1/2) are those of L^(-1) B L^(-T), with W = L L^T.
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), between.T, upper=False)
    product = whitened @ whitened.T / count if width <= count else whitened.T @ whitened / count
    return _effective_rank(torch.linalg.eigvalsh(product).clamp(min=0))


def _effective_rank(values: Tensor) -> float:
    total = values.sum()
    if float(total) == 0.0:
        return 1.0
    shares = values / total + EPSILON
    return float(torch.exp(-(shares * shares.log()).sum()))


def _nearest_other(unit: Tensor) -> Tensor:
    similarity = unit @ unit.T
    return similarity.fill_diagonal_(-math.inf).argmax(1)


def _matrix(features: Tensor) -> Tensor:
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features have the shape (images, width), of at least 2 images, not {tuple(features.shape)}")
    return features.to("cpu", torch.float64)
