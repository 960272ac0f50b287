"""The studies' rows, intervals and tables, by hand-computed cases; the arms that know the labels; pasted images; the page."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "benchmarks" / "studies"
NAMES = ("rows", "tables", "arms", "pasted", "hierarchy", "crops")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the folder; its names are common, and are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(STUDIES))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in NAMES:
        sys.modules.pop(name, None)


def row(arm: str, seed: int, knn: float, **more: Any) -> dict[str, Any]:
    scores = {"knn": knn, "linear": knn + 10, "ami_class": 30.0, **more}
    return {"study": "hierarchy", "arm": arm, "seed": seed, "data": "shapes:x", "optimizer": "adamw", "steps": 3, "scores": scores}


def test_a_row_is_added_whole_and_found_again(study: Any, tmp_path: Path) -> None:
    rows = study("rows")
    path = tmp_path / "rows.jsonl"
    assert rows.read_rows(path) == []
    for seed in range(3):
        rows.add_row(path, row("moco", seed, 50.0))
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [0, 1, 2]
    assert rows.key_of(rows.read_rows(path)[1]) == ("hierarchy", "moco", 1, "shapes:x", "adamw", 3)
    pairs = rows.paired_seeds([*rows.read_rows(path), row("hcsc", 2, 51.0), row("hcsc", 7, 52.0)], "hcsc", "moco")
    assert [(one["seed"], other["seed"]) for one, other in pairs] == [(2, 2)]


def test_an_interval_by_hand(study: Any) -> None:
    tables = study("tables")
    # Mean 2, standard deviation 1, so 1 / sqrt(3) for the mean; t of 2 degrees of freedom at .975 is 4.30265.
    mean, half = tables.paired_interval([1.0, 2.0, 3.0])
    assert (mean, half) == (pytest.approx(2.0), pytest.approx(4.30265 / 3**0.5, rel=1e-5))
    assert np.isnan(tables.paired_interval([1.0])[1])


def test_ranks_by_hand(study: Any) -> None:
    tables = study("tables")
    # Within a seed the measure falls as kNN rises; between seeds both rise.
    rows = [row(str(place), seed, 10 * seed + place, rankme=10 * seed - place) for seed in (0, 1) for place in range(3)]
    over, inside, count = tables.rank_correlation(rows, "rankme")
    # Ranks 3 2 1 6 5 4 against 1 to 6: squared differences sum to 16, so 1 - 6 * 16 / (6 * 35).
    assert (over, inside, count) == (pytest.approx(1 - 96 / 210), pytest.approx(-1.0), 6)


def test_a_table_by_hand(study: Any) -> None:
    tables = study("tables")
    rows = [row("moco", seed, 50.0 + seed) for seed in range(3)] + [row("hcsc", seed, 51.0 + 2 * seed) for seed in range(3)]
    lines = tables.comparison(rows, ("moco", "hcsc", "csml")).splitlines()
    assert lines[2] == "| `moco` | 3 | 51.00 | 61.00 |  |  | 30.00 |"
    # Differences 1, 2, 3.
    assert lines[3] == "| `hcsc` | 3 | 53.00 | 63.00 | +2.00 ± 2.48 | +2.00 ± 2.48 | 30.00 |"
    assert lines[4].startswith("| `csml` | 0 | not measured |")


def test_the_page_has_the_tables_of_the_rows(study: Any) -> None:
    tables = study("tables")
    text = tables.PAGE.read_text(encoding="utf-8")
    assert {name for _, name, _ in tables._TABLE.findall(text)} == set(tables.TABLES)
    assert tables.written(text, tables.all_rows()) == text, "python benchmarks/studies/tables.py writes them"


def test_true_prototypes_are_the_means_of_classes(study: Any) -> None:
    arms = study("arms")
    embeddings = normalize(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    fine = np.arange(40) % 4
    coarse = np.array([0, 0, 1, 1])[fine]
    found = arms.true_hierarchy(embeddings, [fine, coarse], 0.2)
    for level, labels in enumerate((fine, coarse)):
        for cluster in range(labels.max() + 1):
            mean = embeddings[torch.from_numpy(labels == cluster)].mean(0)
            torch.testing.assert_close(found.centroids[level][cluster], mean / mean.norm())
        assert found.assignments[level].tolist() == labels.tolist()
    assert found.parents[0].tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="lies in two classes"):
        arms.true_hierarchy(embeddings, [coarse, fine], 0.2)


def test_true_neighbours_are_others_of_the_class(study: Any) -> None:
    arms = study("arms")
    truth = np.array([2, 0, 0, 1, 1, 1, 0, 2, 1])
    found = arms.same_class(truth, 50, np.random.default_rng(0))
    assert (truth[found] == truth[:, None]).all()
    assert (found != np.arange(9)[:, None]).all()
    assert all(set(found[place]) == set(np.flatnonzero(truth == truth[place])) - {place} for place in range(9))


def test_pasted_objects_lie_where_their_boxes_say(study: Any, tmp_path: Path) -> None:
    pasted = study("pasted")
    Image.fromarray(np.full((80, 100, 3), 40, np.uint8)).save(tmp_path / "one.png")
    backgrounds = pasted.blurred(tmp_path)
    assert backgrounds.shape == (1, 64, 64, 3)
    images, boxes = pasted.paste(np.full((30, 32, 32, 3), 200, np.uint8), backgrounds, 0)
    for image, box in zip(images, boxes, strict=True):
        top, left, bottom, right = (box * 64).round().astype(int)
        inside = np.zeros((64, 64), bool)
        inside[top:bottom, left:right] = True
        assert ((image == 200).all(axis=2) == inside).all()
        assert (image[~inside] == 40).all()
        assert bottom - top == right - left
        assert 24 <= bottom - top <= 40
    again, _ = pasted.paste(np.full((30, 32, 32, 3), 200, np.uint8), backgrounds, 0)
    assert np.array_equal(images, again)
