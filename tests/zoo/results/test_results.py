"""Result files: what is written is what is read, and nothing else is taken for a result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import UserError
from zoo.results import SCHEMA, DataFacts, Headline, ModelFacts, Result, ResultError, SplitFacts, load_result, save_result
from zoo.results.provenance import software_versions, toolkit_commit


@pytest.fixture
def result() -> Result:
    return Result(
        task="knn",
        preset="dino@32",
        protocol={"k": [10, 20], "temperature": 0.07, "changed": ["k"], "note": "a [ 1, 2 ] {odd} 'text'\nin two lines"},
        headline=Headline("top1_k20", 57.3),
        metrics={"top1_k10": 56.0, "top1_k20": 57.3},
        counts={"train": 3000, "test": 1000, "correct": {"top1_k20": 573}},
        model=ModelFacts("random:resnet18:0", "resnet18", "random", "ab" * 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        data=DataFacts("shapes", "shapes", "class", 9, {"train": SplitFacts("train", 3000, 0, "cd" * 32)}),
        seeds={"evaluation": 0},
        versions={"python": "3.11.9", "torch": "2.9"},
        device="cpu",
        dtype="float32",
        processes=2,
        seconds={"features": 1.25},
        date="2026-11-21T10:00:00+00:00",
        details={"per_class": {"names": ["circle", "square"], "total": [500, 500]}},
    )


def test_a_result_survives_the_file(result: Result, tmp_path: Path) -> None:
    save_result(result, tmp_path / "result.json")
    assert load_result(tmp_path / "result.json") == result
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_the_file_is_plain_json_with_tables_on_one_line(result: Result, tmp_path: Path) -> None:
    save_result(result, tmp_path / "result.json")
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(result.to_dict()))
    assert json.loads(text)["schema"] == SCHEMA
    assert '"names": ["circle", "square"],' in text
    assert '"k": [10, 20],' in text


def test_an_existing_file_is_refused_unless_overwritten(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("precious")
    with pytest.raises(UserError, match=r"result\.json exists already"):
        save_result(result, path)
    assert path.read_text() == "precious"
    save_result(result, path, overwrite=True)
    assert load_result(path) == result


def test_a_folder_is_never_replaced(result: Result, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        save_result(result, tmp_path, overwrite=True)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"a": 1}', "{", '{"schema": 3}', "\udcff"])
def test_another_file_is_no_result(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"other\.json(:? is not|: ).*`evaluate --out FILE`") as caught:
        load_result(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json cannot be read \(No such file.*`evaluate --out FILE`"):
        load_result(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("headline",), None, "'headline' is null"),
        (("headline", "value"), "57", "'headline.value' is \"57\""),
        (("headline", "value"), 57.4, "headline top1_k20 is not the value"),
        (("processes",), True, "'processes' is true"),
        (("model", "mean"), [0.5, 0.5], "'model.mean' is"),
        (("model", "file_sha256"), 3, "'model.file_sha256' is 3"),
        (("data", "splits", "train"), [], "'data.splits.train' is"),
        (("data", "splits", "train", "images"), 2.5, "'data.splits.train.images' is 2.5"),
        (("metrics", "top1_k10"), "high", "'metrics.top1_k10' is \"high\""),
        (("surprise",), 1, "unknown 'surprise'"),
        (("model", "surprise"), 1, "unknown 'model.surprise'"),
        (("schema",), "backbone-loop result 99", "schema 'backbone-loop result 99'"),
    ],
)
def test_a_damaged_result_says_what_is_wrong(result: Result, path: tuple[str, ...], value: Any, message: str) -> None:
    content = json.loads(result.to_json())
    part = content
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    with pytest.raises(ResultError) as caught:
        Result.from_dict(content)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["task", "seconds"])
def test_a_missing_field_is_named(result: Result, name: str) -> None:
    content = result.to_dict()
    del content[name]
    with pytest.raises(ResultError, match=f"lacks '{name}'"):
        Result.from_dict(content)


def test_a_number_that_is_none_is_not_written(result: Result, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_result(replace(result, seconds={"features": float("nan")}), tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()


def test_versions_name_what_numbers_depend_on() -> None:
    import platform

    import torch

    versions = software_versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__.partition("+")[0] or versions["torch"] == torch.__version__
    assert "backbone-loop" in versions


def test_the_commit_is_that_of_the_checkout() -> None:
    import subprocess

    repository = Path(__file__).parents[3]
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True)
    commit = toolkit_commit()
    if git.returncode:
        assert commit is None
    else:
        assert commit is None or commit.startswith(git.stdout.strip())
