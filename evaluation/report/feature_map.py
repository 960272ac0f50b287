"""A model's features in the plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from evaluation.report.at_hand import AtHand, Missing
from evaluation.report.charts import Cloud, cloud_swatch, point_map
from evaluation.report.entries import Entry
from evaluation.report.groups import Group, Model
from evaluation.report.settings import MapMethod, check_map_word
from zoo.data.base import Images
from zoo.errors import UserError

NAMES = {"tsne": "t-SNE", "umap": "UMAP"}
# Points of a map; more of them take longer and show no more.
MOST_POINTS = 1000
# Fewer images have no neighbourhoods worth a map.
_FEWEST_POINTS = 8
# t-SNE and UMAP look at so many principal components, as is usual since van der Maaten and Hinton (JMLR 9, 2008).
_COMPONENTS = 50
_PERPLEXITY, _NEIGHBOURS = 30.0, 15
# Levels of more classes than this get no legend; their names show when a point is pointed at.
_LONGEST_LEGEND = 24
_SHAPES = 4


@dataclass(frozen=True)
class ColouredMap:
    """A map with the colours of one label level; its legend is empty for many classes."""

    level: str
    svg: Markup
    legend: tuple[tuple[Markup, str], ...]


@dataclass(frozen=True)
class FeatureMap:
    """A model's map: how many of which images, and the same points in the colours of each label level."""

    model: Model
    points: int
    images: int
    split: str
    coloured: tuple[ColouredMap, ...]


def feature_maps(
    group: Group, at_hand: AtHand, method: MapMethod, mapped: set[tuple[Model, str]]
) -> tuple[list[FeatureMap], list[tuple[str, Missing]]]:
    """A map for each model whose features are at hand.

    ``mapped`` holds models and data sets (by their fingerprints) that have their map already, under another label level, and gets these.
    """
    maps: list[FeatureMap] = []
    absent: list[tuple[str, Missing]] = []
    if method == "none":
        return maps, absent
    for row in group.rows:
        known = row, str(sorted(group.fingerprints.items()))
        if known in mapped:
            continue
        mapped.add(known)
        found = _features(group.of_row(row), at_hand)
        if isinstance(found, Missing):
            absent.append((row.label, found))
            continue
        features, images = found
        if len(images) < _FEWEST_POINTS:
            absent.append((row.label, Missing(f"{len(images)} images are too few for a map", "take a larger data set")))
            continue
        chosen = np.linspace(0, len(images) - 1, min(MOST_POINTS, len(images))).round().astype(np.int64)
        points = project(features[chosen], method)
        coloured = tuple(_coloured(points, images, chosen, level, f"{NAMES[method]} of {row.label}") for level in images.levels or [""])
        maps.append(FeatureMap(row, len(chosen), len(images), images.split, coloured))
    return maps, absent


def project(features: NDArray[np.float32], method: MapMethod) -> NDArray[np.float64]:
    """Points in the plane, (N, 2), of features (N, D): of unit length, reduced to their principal components, then t-SNE or UMAP.

    The same features give the same points on one kind of machine. Raises UserError where UMAP is asked for and not installed.
    """
    from sklearn.decomposition import PCA

    rows = features.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    components = min(_COMPONENTS, *rows.shape)
    rows = PCA(components, svd_solver="full").fit_transform(rows)
    embed = _tsne(len(rows)) if method == "tsne" else _umap(len(rows))
    points: NDArray[np.float64] = np.asarray(embed(rows), dtype=np.float64)
    return points


def check_method(method: str) -> MapMethod:
    """``method`` as one of MAP_METHODS. Raises UserError for another, and for UMAP where it is not installed."""
    known = check_map_word(method)
    if known == "umap":
        _umap(_FEWEST_POINTS)
    return known


def _tsne(count: int) -> Callable[[Any], Any]:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=0).fit_transform


def _umap(count: int) -> Callable[[Any], Any]:
    try:
        from umap import UMAP
    except ImportError as error:
        raise UserError("--map umap needs umap-learn, which is not installed: pip install umap-learn, or take --map tsne") from error
    return UMAP(n_neighbors=min(_NEIGHBOURS, count - 1), random_state=0, n_jobs=1).fit_transform


def _features(entries: list[Entry], at_hand: AtHand) -> tuple[NDArray[np.float32], Images] | Missing:
    """Features of test images, or else of training images, of the first result that they can be had for."""
    missing = Missing("the model has no result with images", "add one")
    for role in ("test", "train"):
        for entry in entries:
            if role not in entry.result.data.splits:
                continue
            images, features = at_hand.images(entry.result, role), at_hand.features(entry.result, role)
            if isinstance(features, Missing):
                missing = features
            elif not isinstance(images, Missing):
                return features.numpy(), images
    return missing


def _coloured(points: NDArray[np.float64], images: Images, chosen: NDArray[np.int64], level: str, title: str) -> ColouredMap:
    if level:
        names, labels = images.levels[level].classes, images.levels[level].labels[chosen]
    else:
        names, labels = ("images",), np.zeros(len(chosen), dtype=np.int64)
    clouds = []
    for number in np.unique(labels).tolist():
        placed = tuple((float(x), float(y)) for x, y in points[labels == number])
        clouds.append(Cloud(names[number], _hue(number, len(names)), number % _SHAPES, placed))
    label = f"{title}, {len(chosen)} {images.split} images" + (f", coloured by {level} ({len(clouds)} of them)" if level else "")
    legend = tuple((cloud_swatch(cloud.hue, cloud.shape), cloud.name) for cloud in clouds) if level else ()
    return ColouredMap(level, point_map(clouds, label=label), legend if len(legend) <= _LONGEST_LEGEND else ())


def _hue(number: int, count: int) -> float:
    """Hues around the circle; 215 is the page's blue."""
    return (215 + 360 * number / max(1, count)) % 360
