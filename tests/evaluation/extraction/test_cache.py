"""The cache of features: used when nothing they depend on has changed, and never else."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_network import TRANSFORM, Network, in_files, in_memory, pictures
from torch import Tensor

from evaluation.extraction.cache import FeatureCache, cache_folder, cache_limit
from evaluation.extraction.descriptions import state_of
from evaluation.extraction.features import extract_features
from evaluation.tasks.runtime import Runtime
from zoo.data import ArrayImages
from zoo.errors import UserError
from zoo.hashing import tensors_sha256
from zoo.models.model import Model

ROWS = torch.arange(12.0).reshape(4, 3)


class Counting:
    """Gives features, and counts how often."""

    def __init__(self, rows: Tensor = ROWS) -> None:
        self.calls, self.rows = 0, rows

    def __call__(self) -> Tensor:
        self.calls += 1
        return self.rows


def test_features_are_computed_once_in_a_call_and_once_for_later_calls(tmp_path: Path) -> None:
    compute = Counting()
    for _ in range(2):  # two calls of the command
        cache = FeatureCache(tmp_path)
        for _ in range(2):  # two tasks
            assert torch.equal(cache.get({"model": "a"}, compute), ROWS)
    assert compute.calls == 1
    in_memory_only = FeatureCache()
    for _ in range(2):
        in_memory_only.get({"model": "a"}, compute)
    assert compute.calls == 2
    in_memory_only.forget()
    in_memory_only.get({"model": "a"}, compute)
    assert compute.calls == 3


def test_another_description_never_gets_them(tmp_path: Path) -> None:
    FeatureCache(tmp_path).get({"model": "a"}, Counting())
    other = Counting(-ROWS)
    assert torch.equal(FeatureCache(tmp_path).get({"model": "b"}, other), -ROWS)
    assert other.calls == 1
    # Also not where somebody puts the files of one in the place of the other.
    places = {json.loads(path.read_text())["description"]["model"]: path.parent for path in tmp_path.glob("*/*/entry.json")}
    for name in ("entry.json", "features.npy"):
        (places["b"] / name).write_bytes((places["a"] / name).read_bytes())
    said: list[str] = []
    assert torch.equal(FeatureCache(tmp_path, say=said.append).get({"model": "b"}, other), -ROWS)
    assert other.calls == 2
    assert "damaged" in said[0]


# Beginnings of a .npy file for which NumPy raises neither OSError nor ValueError, or makes room for what is not there.
MAGIC = b"\x93NUMPY\x01\x00\x76\x00"
HEADS = {
    "a header of code": MAGIC + b"(" + b"(" * 117,
    "a header cut in a string": MAGIC + b"{'descr': '" + b" " * 107,
    "a huge shape": MAGIC + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 8), }".ljust(117) + b"\n",
    "objects": MAGIC + b"{'descr': '|O', 'fortran_order': False, 'shape': (3, 8), }".ljust(117) + b"\n",
    "an archive": b"PK\x03\x04" + bytes(100),
    "a pickle": b"\x80\x04]q\x00.",
}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "no json", "other shape", *HEADS])
def test_damaged_features_are_computed_anew(damage: str, tmp_path: Path) -> None:
    FeatureCache(tmp_path).get({"model": "a"}, Counting())
    (file,) = tmp_path.glob("*/*/features.npy")
    content = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(content[:-5])
    elif damage == "flipped":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage in HEADS:
        file.write_bytes(HEADS[damage] + content[len(HEADS[damage]) :])
    elif damage == "no json":
        file.with_name("entry.json").write_text("{")
    else:
        np.save(file, ROWS[:2].numpy())
    compute, said = Counting(), list[str]()
    assert torch.equal(FeatureCache(tmp_path, say=said.append).get({"model": "a"}, compute), ROWS)
    assert compute.calls == 1
    assert len(said) == 1
    assert "damaged; they are computed anew" in said[0]
    assert torch.equal(FeatureCache(tmp_path).get({"model": "a"}, compute), ROWS)
    assert compute.calls == 1  # mended


def test_features_that_the_network_no_longer_gives_are_computed_anew(tmp_path: Path) -> None:
    FeatureCache(tmp_path).get({"model": "a"}, Counting())
    compute, said = Counting(-ROWS), list[str]()
    found = FeatureCache(tmp_path, say=said.append).get({"model": "a"}, compute, lambda kept: bool((kept < 0).any()))
    assert torch.equal(found, -ROWS)
    assert "not what this network gives now" in said[0]


def test_the_folder_keeps_to_its_limit(tmp_path: Path) -> None:
    size = 128 + ROWS.nbytes  # of a file
    cache = FeatureCache(tmp_path, limit=2 * size)
    for name in ("a", "b", "c"):
        cache.get({"model": name}, Counting())
        for entry in tmp_path.glob("*/*/entry.json"):  # some time passes
            os.utime(entry, (entry.stat().st_atime, entry.stat().st_mtime - 10))
    kept = {json.loads(path.read_text())["description"]["model"] for path in tmp_path.glob("*/*/entry.json")}
    assert kept == {"b", "c"}
    said: list[str] = []
    FeatureCache(tmp_path, limit=10, say=said.append).get({"model": "d"}, Counting())
    assert "not kept" in said[0]


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    assert torch.equal(FeatureCache(tmp_path / "file", say=said.append).get({"model": "a"}, Counting()), ROWS)
    assert "not kept for later calls" in said[0]


def test_several_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    def one(number: int) -> bool:
        rows = torch.full((50, 40), float(number % 3))
        return torch.equal(FeatureCache(tmp_path).get({"model": number % 3}, lambda: rows), rows)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(48)))
    assert len(list(tmp_path.glob("*/*/features.npy"))) == 3
    assert not list(tmp_path.rglob("*.partial"))


def model_of(network: Network) -> Model:
    return Model(network.eval(), "toy", "random", "toy", 6, tensors_sha256(network.state_dict()))


def test_a_runtime_looks_up_what_features_depend_on(tmp_path: Path) -> None:
    def features(network: Network, images: Any, **settings: Any) -> Tensor:
        runtime = Runtime(cache=FeatureCache(tmp_path))
        return runtime.features(model_of(network), images, TRANSFORM, **settings).features

    network, images = Network(), in_memory(pictures(9))
    expected = extract_features(Network(), images, TRANSFORM).features
    for _ in range(2):
        assert torch.equal(features(network, images), expected)
    assert len(list(tmp_path.glob("*/*"))) == 1
    changed = Network()
    changed.conv.weight.data.add_(0.1)
    assert not torch.equal(features(changed, images), expected)
    # A pixel of an image that a fingerprint's sample would miss, or a caller who gives a wrong fingerprint.
    repainted = pictures(9)
    repainted[5, 3, 3] ^= 255
    assert not torch.equal(features(network, in_memory(repainted), fingerprint=images.fingerprint()), expected)
    assert len(list(tmp_path.glob("*/*"))) == 3


def test_code_that_changed_is_noticed_though_the_weights_are_the_same(tmp_path: Path) -> None:
    class Doubled(Network):
        def forward(self, images: Tensor) -> Tensor:
            return 2 * super().forward(images)

    said: list[str] = []
    runtime = Runtime(cache=FeatureCache(tmp_path, say=said.append))
    images = in_memory(pictures(9))
    first = runtime.features(model_of(Network()), images, TRANSFORM).features
    runtime.forget_features()
    second = runtime.features(model_of(Doubled()), images, TRANSFORM).features
    assert torch.equal(second, 2 * first)
    assert "not what this network gives now" in said[0]


def test_the_state_of_images_covers_every_pixel_and_file(tmp_path: Path) -> None:
    pixels = pictures(3)
    before = state_of(in_memory(pixels))
    assert state_of(in_memory(pixels.copy())) == before
    pixels[2, -1, -1, 2] ^= 1
    assert state_of(in_memory(pixels)) != before
    files = in_files(pictures(3), tmp_path)
    before = state_of(files)
    assert state_of(files) == before
    assert state_of(files.subset(np.array([1, 0, 2]))) != before
    (tmp_path / "01.png").write_bytes(b"other")
    assert state_of(files) != before
    (tmp_path / "01.png").unlink()
    with pytest.raises(UserError, match=r"01\.png cannot be read"):
        state_of(files)


def test_the_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BACKBONE_LOOP_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("BACKBONE_LOOP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "backbone-loop" / "features"
    assert cache_limit() == 50_000_000_000
    monkeypatch.setenv("BACKBONE_LOOP_CACHE_GB", "many")
    with pytest.raises(UserError, match="must be a number of gigabytes, not 'many'"):
        cache_limit()


def test_large_matrices_lie_in_a_file_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    images: ArrayImages = in_memory(pictures(9))
    held = extract_features(Network(), images, TRANSFORM, batch_size=2).features
    mapped = extract_features(Network(), images, TRANSFORM, batch_size=2, memory_limit=10).features
    assert torch.equal(held, mapped)
    assert list(tmp_path.iterdir()) == []
