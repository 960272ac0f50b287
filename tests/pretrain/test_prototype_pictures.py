"""The tree of a run's prototypes: which are shown, which images lie under which, against NumPy; the picture; the command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pretrain.cli import main
from pretrain.loop import train
from pretrain.methods import HCSC, RunFacts
from pretrain.methods.hcsc import HCSCSettings
from pretrain.pictures import prototypes as prototype_pictures
from pretrain.pictures.prototypes import Prototype, PrototypeTree, draw_prototypes, prototypes_of_run, spread_clusters
from pretrain.recipes import load_recipe
from pretrain.survey.encoder_pass import WholeImage
from zoo.backbones import create_backbone
from zoo.data import ArrayImages, open_data
from zoo.models.runs import latest_checkpoint, read_checkpoint

DATA = "shapes:train=40,test=30"
TINY = f"""
data: {DATA}
backbone: resnet10_small
method: {{name: hcsc, queue: 32, dim: 16, momentum: 0.5, levels: [9, 6, 4], warmup_epochs: 1}}
views: {{size: 32, blur: 0.0}}
batch: 8
epochs: 2
optimizer: {{lr: 0.05}}
threads: 1
device: cpu
trackers: []
knn: {{every_epochs: 0}}
"""


@pytest.fixture(scope="module")
def tables(run: Path) -> dict[str, NDArray[np.generic]]:
    found = read_checkpoint(latest_checkpoint(run))["tables"]
    return {name.removeprefix("prototypes."): table.numpy() for name, table in found.items()}


@pytest.fixture(scope="module")
def embeddings(run: Path) -> NDArray[np.float32]:
    """What the key encoder makes of the whole training images, which have the size that it sees: no survey, no look."""
    method = HCSC(
        lambda: create_backbone("resnet10_small", image_size=32),
        HCSCSettings(dim=16, queue=32, levels=[9, 6, 4]),
        RunFacts(images=40, batch=8, seed=0, steps=10),
    )
    method.load_state_dict(read_checkpoint(latest_checkpoint(run))["model"])
    data = open_data(DATA)
    pixels = data.role("pretrain").pixels
    assert pixels is not None
    inputs = (pixels.astype(np.float32) / 255 - np.float32(data.mean)) / np.float32(data.std)
    with torch.no_grad():
        return np.asarray(method.eval().encoder_k(torch.from_numpy(inputs.transpose(0, 3, 1, 2)).contiguous()))


def everyone(prototypes: tuple[Prototype, ...]) -> list[Prototype]:
    return [one for root in prototypes for one in (root, *everyone(root.below))]


def test_a_tree_is_what_the_tables_say(run: Path, tables: dict[str, NDArray[np.generic]], embeddings: NDArray[np.float32]) -> None:
    tree = prototypes_of_run(run, 3)
    # Clusters of every image, level by level.
    clusters = [tables["assignments.0"]]
    for parents in (tables["parents.0"], tables["parents.1"]):
        clusters.append(parents[clusters[-1].astype(np.int64)])
    shown = everyone(tree.roots)
    levels = list(tree.images.levels.values())
    assert len(tree.roots) == 3
    assert {one.level for one in shown} == {0, 1, 2}
    for one in shown:
        members = np.flatnonzero(clusters[one.level] == one.cluster)
        assert one.size == len(members) > 0
        # The label level as far from the top: superclass, class, variant.
        level = levels[2 - one.level]
        names, counts = np.unique(np.array(level.classes)[level.labels[members]], return_counts=True)
        name, share = one.label.removesuffix(" %").rsplit(" ", 1)
        assert share == f"{100 * counts.max() / len(members):.0f}"
        assert any(best.startswith(name.removesuffix("…")) for best in names[counts == counts.max()])
        if one.level:
            assert one.nearest == ()
            assert 1 <= len(one.below) <= 2
            assert all(tables[f"parents.{one.level - 1}"][child.cluster] == one.cluster for child in one.below)
            # The first is the largest of its siblings.
            siblings = np.flatnonzero(tables[f"parents.{one.level - 1}"] == one.cluster)
            assert one.below[0].size == max((clusters[one.level - 1] == sibling).sum() for sibling in siblings)
        else:
            cosines = embeddings[members] @ tables["centroids.0"][one.cluster]
            assert list(one.nearest) == members[np.argsort(-cosines)][:8].tolist()


def test_large_clusters_are_looked_at_in_part(
    run: Path, tables: dict[str, NDArray[np.generic]], embeddings: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prototype_pictures, "MOST_SEEN", 3)
    finest = [one for one in everyone(prototypes_of_run(run, 4).roots) if one.level == 0]
    assert any(one.size > 3 for one in finest)
    for one in finest:
        members = np.flatnonzero(tables["assignments.0"] == one.cluster)
        if len(members) > 3:
            members = members[np.round([0, (len(members) - 1) / 2, len(members) - 1]).astype(int)]
        cosines = embeddings[members] @ tables["centroids.0"][one.cluster]
        assert list(one.nearest) == members[np.argsort(-cosines)].tolist()


def test_chosen_clusters_are_large_and_differ() -> None:
    angles = np.deg2rad([0, 10, 90, 172, 180, 45])
    centroids = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    sizes = np.array([7, 9, 8, 6, 1, 0])
    everything = np.arange(6)
    # Of five with images the larger three, 1, 2 and 0: the largest, and at 80 degrees from it the next.
    assert spread_clusters(everything, sizes, centroids, 2) == [1, 2]
    assert spread_clusters(everything, sizes, centroids, 3) == [1, 2, 0]
    # The largest four: from 10 degrees the one at 172, then the one at 90, which is 80 from both.
    assert spread_clusters(everything, sizes, centroids, 4) == [1, 3, 2, 0]
    # The empty one never; and only those that are offered.
    assert spread_clusters(everything, sizes, centroids, 9) == [1, 4, 2, 0, 3]
    assert spread_clusters(np.array([4, 0, 5]), sizes, centroids, 2) == [0, 4]
    assert spread_clusters(np.array([5]), sizes, centroids, 2) == []


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def typed(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["pretrain", "prototypes", *words])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return typed


def colours(pixels: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return set(map(tuple, pixels.reshape(-1, 3).tolist()))


def test_pretrain_prototypes_draws_the_tree(tmp_path: Path, run: Path, call: Call) -> None:
    status, out, _ = call(str(run), "--out", str(tmp_path / "tree.png"), "--count", "1")
    assert status == 0
    assert out.splitlines()[0] == "tiny after epoch 2: 9, 6, 4 prototypes; 1 of the 4 coarsest, down to the nearest images"
    with Image.open(tmp_path / "tree.png") as picture:
        drawn = colours(np.asarray(picture.convert("RGB")))
    tree = prototypes_of_run(run, 1)
    pixels = open_data(DATA).role("pretrain").pixels
    assert pixels is not None
    nearest = [row for one in everyone(tree.roots) for row in one.nearest]
    # Enlarged without smoothing: the colours of an image that is shown are all there.
    assert all(len(colours(pixels[row]) & drawn) > 0.95 * len(colours(pixels[row])) for row in nearest)
    others = set(range(40)) - set(nearest)
    assert all(len(colours(pixels[row]) & drawn) < 0.5 * len(colours(pixels[row])) for row in others)


def test_images_without_labels(tmp_path: Path) -> None:
    images = ArrayImages("plain", "all", np.full((1, 8, 8, 3), (200, 30, 90), dtype=np.uint8), {})
    root = Prototype(1, 0, 1, "", (Prototype(0, 0, 1, "", (), (0,)),))
    draw_prototypes(tmp_path / "tree.png", PrototypeTree(images, WholeImage(8), (root,), "one image"))
    with Image.open(tmp_path / "tree.png") as picture:
        assert (np.asarray(picture.convert("RGB")) == (200, 30, 90)).all(axis=2).sum() == pytest.approx((0.72 * 130) ** 2, rel=0.05)


def test_files_without_labels_and_with_a_bad_one(tmp_path: Path, recipe_file: Path) -> None:
    """Positions are those among the good images, as in the run."""
    pixels = open_data(DATA).role("pretrain").pixels
    assert pixels is not None
    (tmp_path / "photos").mkdir()
    for number in range(17):
        side = 32 + number % 3  # of several sizes, so that they stay files
        Image.fromarray(pixels[number]).resize((side, side)).save(tmp_path / "photos" / f"{number:02}.png")
    (tmp_path / "photos" / "00.png").write_bytes(b"no image")
    words = [f"data=folder:{tmp_path / 'photos'}", "method.levels=[4,2]", "method.queue=8", "workers=0"]
    train(load_recipe(str(recipe_file), words), tmp_path / "run")
    tree = prototypes_of_run(tmp_path / "run", 4)
    assert [tree.images.where(row)[-6:] for row in range(16)] == [f"{number:02}.png" for number in range(1, 17)]
    shown = everyone(tree.roots)
    assert {one.label for one in shown} == {""}
    assert sum(root.size for root in tree.roots) == 16
    table = read_checkpoint(latest_checkpoint(tmp_path / "run"))["tables"]["prototypes.assignments.0"].numpy()
    finest = [one for one in shown if one.level == 0]
    assert all((table[list(one.nearest)] == one.cluster).all() and len(one.nearest) == min(8, one.size) for one in finest)
    draw_prototypes(tmp_path / "tree.png", tree)
    assert (tmp_path / "tree.png").stat().st_size > 10_000


def test_what_has_no_prototypes_is_refused(tmp_path: Path, recipe_file: Path, run: Path, call: Call) -> None:
    warm = tmp_path / "warm"
    train(load_recipe(str(recipe_file), ["epochs=1"]), warm)
    status, _, error = call(str(warm), "--out", str(tmp_path / "no.png"))
    assert status == 2
    assert "has no prototypes after epoch 1: hcsc makes them, and csml with" in " ".join(error.split())
    assert not (tmp_path / "no.png").exists()
    assert "is not a run folder" in " ".join(call(str(tmp_path))[2].split())
    assert "name one run folder: pretrain prototypes RUN" in " ".join(call()[2].split())
    other = tmp_path / "other"
    shutil.copytree(run, other)
    text = (other / "recipe.yaml").read_text()
    (other / "recipe.yaml").write_text(text.replace("train=40", "train=38"))
    assert "now has 38 good images, but the prototypes of" in " ".join(call(str(other))[2].split())
