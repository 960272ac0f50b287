"""The page of the result schema names what results hold: fields, counts and details of every task, no more and no less."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from easy_data import easy_data

from evaluation.tasks.cluster.run import run_cluster
from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.knn.run import run_knn
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.linear.run import run_linear
from evaluation.tasks.semi.presets import SEMI_PRESETS
from evaluation.tasks.semi.run import run_semi
from zoo.model_spec import open_model
from zoo.results import Result, load_result

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results-schema.md").read_text(encoding="utf-8")
# Results of tasks whose data take long to make, and of other commands.
KEPT = sorted((ROOT / "tests" / "yesterday" / "results").glob("*.json"))
# What the command adds to a result, which the functions do not; and a program's own.
OF_THE_COMMAND = {"data"}


def documented(section: str) -> set[str]:
    """First column of the table in a section of the page."""
    part = PAGE.split(f"\n## `{section}`\n" if section != "Fields" else "\n## Fields\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


@pytest.fixture(scope="module")
def results() -> list[Result]:
    data, model = easy_data(), open_model("random:test_resnet")
    quick = {"percent": 50.0, "epochs": 1, "batch": 8}
    return [
        run_knn(model, data, preset=KNN_PRESETS["dino"].change(k=[1, 500])),
        run_linear(model, data, preset=LINEAR_PRESETS["moco"].change(epochs=1, lr=[0.1, 1])),
        run_linear(model, data, preset=LINEAR_PRESETS["logreg"].change(c=[0.1, 1])),
        run_cluster(model, data),
        run_semi(model, data, preset=SEMI_PRESETS["csml"].change(**quick, max_entropy=50)),
        run_semi(model, data, preset=SEMI_PRESETS["mmselfsup"].change(**quick)),
        *(load_result(path) for path in KEPT),
    ]


def test_the_fields_are_the_page_s() -> None:
    names = {name for name in documented("Fields") if "." not in name}
    assert names - {"metric", "value"} == {"schema", *(field.name for field in fields(Result))}


@pytest.mark.parametrize("section", ["counts", "details"])
def test_what_results_hold_is_what_the_page_names(section: str, results: list[Result]) -> None:
    named = documented(section)
    held = {re.sub(r"^.*_images$", "ROLE_images", name) for result in results for name in getattr(result, section)}
    assert held - named == set(), "not on the page"
    assert named - held - OF_THE_COMMAND == set(), "on the page alone"


def test_the_example_is_a_result() -> None:
    example = PAGE.split("```json\n")[1].split("```")[0]
    assert Result.from_dict(json.loads(example)).task == "knn"
