"""Pictures of a run's prototypes: the tree from a few of the coarsest down to the images nearest to the finest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.clustering import Hierarchy
from evaluation.extraction.batches import BATCH_SIZE, cut_batches
from evaluation.extraction.features import eval_mode
from evaluation.parallel import choose_device
from pretrain.encoder import Encoder
from pretrain.methods import METHODS, RunFacts
from pretrain.recipes import resume_recipe, typed
from pretrain.runs.run_folder import check_identity, training_images
from pretrain.settings import Recipe
from pretrain.survey.encoder_pass import WholeImage, cut_of, run_pass
from pretrain.survey.prototypes import PrototypeMaker, hierarchy_of
from zoo.backbones import create_backbone
from zoo.data import Data, Images, open_data
from zoo.data.base import CLASS_LEVEL
from zoo.errors import UserError, drawable
from zoo.files import replace_file
from zoo.models.runs import is_run, latest_checkpoint, read_checkpoint, read_recipe
from zoo.models.transforms import EvalTransform, normalise

# Of each prototype above the finest level so many of the level below are shown; of each of the finest so many images.
BRANCHES, NEAREST = 2, 8
# Of a larger cluster so many images, evenly spread, are looked at.
MOST_SEEN = 256

# Inches: the side of an image and the space around it, a prototype's column, room above for the title, between two trees, at the edges.
_IMAGE, _CELL, _ROW, _COLUMN, _TITLE, _GAP, _EDGE = 0.72, 0.8, 1.0, 1.75, 0.6, 0.22, 0.15
_BOX_WIDTH, _BOX_HEIGHT = 1.4, 0.56
_LONGEST_NAME, _LONGEST_CAPTION = 20, 13
_DOTS_PER_INCH = 130
_LINE, _BOX = "#8a8a8a", "#eef2f7"


@dataclass(frozen=True)
class Prototype:
    """A prototype that is shown, and what is shown below it.

    Attributes
    ----------
    level, cluster
        Its level (0 is the finest) and its number there.
    size
        Training images in its cluster.
    label
        The most frequent label of these and its share of them, such as ``"disc 41 %"``; empty without labels.
    below
        Prototypes of the level below; empty on the finest.
    nearest
        On the finest level: positions in the training set of the nearest images of its cluster, nearest first.
    """

    level: int
    cluster: int
    size: int
    label: str
    below: tuple[Prototype, ...] = ()
    nearest: tuple[int, ...] = ()


@dataclass(frozen=True)
class PrototypeTree:
    """What a picture shows: ``roots``, prototypes of the coarsest level; the training ``images``, as ``cut`` for the encoder; a title."""

    images: Images
    cut: WholeImage | EvalTransform
    roots: tuple[Prototype, ...]
    title: str


def prototypes_of_run(run: Path, count: int) -> PrototypeTree:
    """The tree below ``count`` of the coarsest prototypes that the run's last survey made.

    Which are shown follows from the clusters alone (:func:`spread_clusters`). Which images are nearest is found with the last weights: the
    survey's own pass, by the key encoder, over no more than ``MOST_SEEN`` images of each finest cluster that is shown.

    Raises
    ------
    UserError
        ``run`` is no run or has no prototypes; its checkpoint or data are not there or do not fit; an image cannot be decoded.
    """
    if not is_run(run):
        raise UserError(f"{run} is not a run folder: it has no recipe.yaml and checkpoints/")
    recipe = typed(resume_recipe(read_recipe(run), []))
    checkpoint = read_checkpoint(latest_checkpoint(run))
    hierarchy = hierarchy_of({name: table.numpy() for name, table in checkpoint.get("tables", {}).items()})
    if hierarchy is None:
        raise UserError(
            f"the run {run} has no prototypes after epoch {checkpoint['epoch']}: hcsc makes them, and csml with method.prototypes=true, "
            f"from the end of method.warmup_epochs on; this run's method is {checkpoint['method']}"
        )
    data = open_data(recipe.data, on_bad="skip")
    images = training_images(run, recipe, data)
    if len(images) != len(hierarchy.assignments[0]):
        raise UserError(
            f"data '{recipe.data}' now has {len(images)} good images, but the prototypes of {run} were made of "
            f"{len(hierarchy.assignments[0])}; use the data they were made of"
        )
    check_identity(run, checkpoint, images, data)
    cut = cut_of(PrototypeMaker.encoder_pass.input, recipe.views.size, data.image_size)
    roots = _Chooser(hierarchy, images).roots(count)
    shown = list(_finest(roots))
    members = [_members(hierarchy, one.cluster) for one in shown]
    rows = np.concatenate(members)
    encoder = _key_encoder(recipe, checkpoint)
    embeddings = _embed(encoder, images.subset(rows), cut, data).numpy()
    ends = np.cumsum([len(part) for part in members])[:-1]
    nearest: dict[int, tuple[int, ...]] = {}
    for one, part, seen in zip(shown, members, np.split(embeddings, ends), strict=True):
        cosines = seen @ hierarchy.centroids[0][one.cluster].numpy()
        nearest[one.cluster] = tuple(part[np.argsort(-cosines, kind="stable")[:NEAREST]].tolist())
    levels = ", ".join(map(str, hierarchy.levels))
    title = (
        f"{run.resolve().name} after epoch {checkpoint['epoch']}: {levels} prototypes; "
        f"{len(roots)} of the {hierarchy.levels[-1]} coarsest, down to the nearest images"
    )
    return PrototypeTree(images, cut, tuple(_with_nearest(root, nearest) for root in roots), title)


def spread_clusters(clusters: NDArray[np.int64], sizes: NDArray[np.int64], centroids: NDArray[np.float32], count: int) -> list[int]:
    """``count`` clusters that are large and differ: the largest first, then each time the one that is least like those chosen.

    Only the larger half of them can be chosen, or the ``count`` largest if that is more, and none without images.

    Parameters
    ----------
    clusters
        int64 (n,): numbers of clusters to choose from.
    sizes
        int64 (M,): images of every cluster of the level.
    centroids
        float32 (M, D), of unit length.

    Returns
    -------
    Cluster numbers in the order in which they were chosen; where two are alike, the larger comes first, then the lower number.
    """
    clusters = clusters[sizes[clusters] > 0]
    ordered = clusters[np.lexsort((clusters, -sizes[clusters]))][: max(count, -(-len(clusters) // 2))]
    chosen = [0] if len(ordered) else []
    cosines = centroids[ordered] @ centroids[ordered].T
    while len(chosen) < min(count, len(ordered)):
        likeness = cosines[:, chosen].max(axis=1)
        likeness[chosen] = np.inf
        chosen.append(int(likeness.argmin()))
    return [int(ordered[position]) for position in chosen]


class _Chooser:
    """Chooses what is shown of a hierarchy (of all images)."""

    def __init__(self, hierarchy: Hierarchy, images: Images) -> None:
        self.hierarchy = hierarchy
        self.names = list(images.levels)
        self.images = images
        self.sizes = [
            np.bincount(assignment.numpy(), minlength=clusters)
            for assignment, clusters in zip(hierarchy.assignments, hierarchy.levels, strict=True)
        ]

    def roots(self, count: int) -> tuple[Prototype, ...]:
        top = len(self.hierarchy.levels) - 1
        return self._prototypes(top, np.arange(self.hierarchy.levels[top]), count)

    def _prototypes(self, level: int, clusters: NDArray[np.int64], count: int) -> tuple[Prototype, ...]:
        chosen = spread_clusters(clusters, self.sizes[level], self.hierarchy.centroids[level].numpy(), count)
        return tuple(self._prototype(level, cluster) for cluster in chosen)

    def _prototype(self, level: int, cluster: int) -> Prototype:
        below: tuple[Prototype, ...] = ()
        if level > 0:
            children = np.flatnonzero(self.hierarchy.parents[level - 1].numpy() == cluster)
            below = self._prototypes(level - 1, children, BRANCHES)
        return Prototype(level, cluster, int(self.sizes[level][cluster]), self._label(level, cluster), below)

    def _label(self, level: int, cluster: int) -> str:
        """By the label level as far from the coarsest as the prototype's own; by the finest where there are fewer levels of labels."""
        if not self.names:
            return ""
        depth = len(self.hierarchy.levels) - 1 - level
        labels = self.images.levels[self.names[min(depth, len(self.names) - 1)]]
        counts = np.bincount(labels.labels[self.hierarchy.assignments[level].numpy() == cluster])
        return f"{_short(labels.classes[int(counts.argmax())], _LONGEST_NAME)} {100 * counts.max() / counts.sum():.0f} %"


def _key_encoder(recipe: Recipe, checkpoint: dict[str, Any]) -> Encoder:
    """The encoder of the survey's pass, with the checkpoint's weights."""
    assert recipe.batch is not None
    facts = RunFacts(checkpoint["images"], recipe.batch, recipe.seed, checkpoint["steps"])
    # The weights that a method starts with are drawn from torch's global generator, which stays as it is.
    with torch.random.fork_rng(devices=[]):
        method = METHODS[checkpoint["method"]](lambda: create_backbone(recipe.backbone, image_size=recipe.views.size), recipe.method, facts)
    method.load_state_dict(checkpoint["model"])
    return method.named_encoder(PrototypeMaker.encoder_pass.encoder)


def _embed(encoder: Encoder, images: Images, cut: WholeImage | EvalTransform, data: Data) -> Tensor:
    """float32 (N, d), on the CPU: what the encoder, in eval mode, makes of images."""
    device = choose_device("auto")
    encoder.to(device)
    parts = []
    batches = cut_batches(images, [cut], slice(0, len(images)), batch_size=BATCH_SIZE, workers=None, device=device)
    with eval_mode(encoder), batches as inputs:
        for (batch,) in inputs:
            parts.append(run_pass(encoder, normalise(batch.to(device, non_blocking=True), data.mean, data.std)).embedding.cpu())
    return torch.cat(parts)


def _members(hierarchy: Hierarchy, cluster: int) -> NDArray[np.int64]:
    """The images of a finest cluster, at most ``MOST_SEEN``, evenly spread."""
    members = np.flatnonzero(hierarchy.assignments[0].numpy() == cluster)
    return members[np.linspace(0, len(members) - 1, min(len(members), MOST_SEEN)).round().astype(np.int64)]


def _finest(prototypes: tuple[Prototype, ...]) -> Iterator[Prototype]:
    for one in prototypes:
        if one.level == 0:
            yield one
        yield from _finest(one.below)


def _with_nearest(one: Prototype, nearest: dict[int, tuple[int, ...]]) -> Prototype:
    below = tuple(_with_nearest(child, nearest) for child in one.below)
    return Prototype(one.level, one.cluster, one.size, one.label, below, nearest[one.cluster] if one.level == 0 else ())


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


# ---------------------------------------------------------------------- drawing


def draw_prototypes(path: str | Path, tree: PrototypeTree) -> None:
    """Write the tree (PNG): prototypes from left (the coarsest) to right, and beside each of the finest its nearest images.

    Raises UserError where the file cannot be written or an image cannot be decoded.
    """
    levels = tree.roots[0].level + 1
    rows = sum(1 for _ in _finest(tree.roots))
    width = 2 * _EDGE + levels * _COLUMN + NEAREST * _CELL
    height = _TITLE + rows * _ROW + (len(tree.roots) - 1) * _GAP + _EDGE
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH)
    # One coordinate system for everything: inches from the top left.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top = _TITLE
    for root in tree.roots:
        bottom, _ = _draw(axes, tree, root, levels, top)
        top = bottom + _GAP
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.text(width / 2, 0.22, drawable(tree.title), fontsize=9, ha="center", va="center")
    legend = "level 0 is the finest; in a box: how many images, and their most frequent label"
    if CLASS_LEVEL in tree.images.levels:
        legend += "; below an image: its class"
    axes.text(width / 2, 0.44, legend, fontsize=7, ha="center", va="center", color="#555555")
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png"))


def _draw(axes: Axes, tree: PrototypeTree, one: Prototype, levels: int, top: float) -> tuple[float, float]:
    """Draw a prototype and all below it from ``top`` on; returns where that ends, and the height of the prototype's middle."""
    left = _EDGE + (levels - 1 - one.level) * _COLUMN
    right = left + _BOX_WIDTH
    if one.below:
        bottom, middles = top, []
        for child in one.below:
            bottom, middle = _draw(axes, tree, child, levels, bottom)
            middles.append(middle)
        middle = (middles[0] + middles[-1]) / 2
        turn, end = (right + left + _COLUMN) / 2, left + _COLUMN
        for child_middle in middles:
            axes.plot([right, turn, turn, end], [middle, middle, child_middle, child_middle], color=_LINE, linewidth=1, zorder=1)
    else:
        bottom, middle = top + _ROW, top + _IMAGE / 2
        _draw_images(axes, tree, one, left + _COLUMN, top)
        axes.plot([right, left + _COLUMN], [middle, middle], color=_LINE, linewidth=1, zorder=1)
    corner = (left, middle - _BOX_HEIGHT / 2)
    frame = FancyBboxPatch(corner, _BOX_WIDTH, _BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.06", facecolor=_BOX, edgecolor=_LINE)
    axes.add_patch(frame)
    said = f"{one.size} image{'s' if one.size != 1 else ''}"
    text = f"level {one.level}, no. {one.cluster}\n{said}" + (f"\n{drawable(one.label)}" if one.label else "")
    axes.text(left + _BOX_WIDTH / 2, middle, text, fontsize=6.5, ha="center", va="center", linespacing=1.25, zorder=3)
    return bottom, middle


def _draw_images(axes: Axes, tree: PrototypeTree, one: Prototype, left: float, top: float) -> None:
    labels = tree.images.levels.get(CLASS_LEVEL)
    for place, row in enumerate(one.nearest):
        x = left + place * _CELL
        pixels = tree.cut.crop_pil(tree.images.read(row))
        # Pixels that are enlarged stay visible as such; leaving some out would show a pattern that is not there.
        how = "nearest" if len(pixels) <= _IMAGE * _DOTS_PER_INCH else "hanning"
        axes.imshow(pixels, extent=(x, x + _IMAGE, top + _IMAGE, top), aspect="auto", interpolation=how, zorder=2)
        if labels is not None:
            name = _short(labels.classes[int(labels.labels[row])], _LONGEST_CAPTION)
            axes.text(x + _IMAGE / 2, top + _IMAGE + 0.1, drawable(name), fontsize=6, ha="center", va="center")
