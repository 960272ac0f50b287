"""A card cannot grade itself: a number that was changed in one place of a zoo model folder is found, and named with the other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.model_folder.agreement import check_agreement, disagreements
from zoo.model_folder.claims import add_results
from zoo.model_folder.manifest import read_manifest

YESTERDAY = Path(__file__).parents[2] / "yesterday"


@pytest.fixture
def claiming(zoo_folder, make_result) -> Path:
    """A zoo model that claims 57.25 on CIFAR-10, 51.00 by another preset, and 44.00 of segmentation."""
    own = read_manifest(zoo_folder).tensors_sha256
    counted = replace(make_result(own, value=57.2), counts={"correct": {"top1_k10": 562, "top1_k20": 572}})
    other = make_result(own, value=51.0, preset="moco@32")
    add_results(zoo_folder, [counted, other, replace(make_result(own, value=44.0), task="voc|07")])
    return zoo_folder


def edited(folder: Path, file: str, old: str, new: str) -> list[str]:
    path = folder / file
    text = path.read_text()
    assert text.count(old) == 1, f"{old} stands {text.count(old)} times in {file}"
    path.write_text(text.replace(old, new))
    return disagreements(folder, read_manifest(folder))


def test_a_card_as_it_was_made_agrees(claiming):
    assert disagreements(claiming, read_manifest(claiming)) == []


def test_the_rest_of_the_card_is_free(claiming):
    card = claiming / "README.md"
    notes = "\n## My notes\n\n| Model | Value |\n|---|---|\n| theirs | 99.00 |\n\n| Task | Metric |\n|---|---|\n| knn | 99 |\n"
    text = card.read_text() + notes
    card.write_text(text.replace("license: mit", "license: mit\nmy_key: 99").replace("# test_resnet", "# A fine\n\ntest_resnet", 1))
    assert disagreements(claiming, read_manifest(claiming)) == []
    # A row that somebody took out claims nothing.
    card.write_text("\n".join(line for line in text.splitlines() if "51.00" not in line))
    assert disagreements(claiming, read_manifest(claiming)) == []
    card.unlink()
    assert disagreements(claiming, read_manifest(claiming)) == []


def test_a_number_in_the_table_is_compared(claiming):
    (problem,) = edited(claiming, "README.md", "| 51.00 |", "| 61.00 |")
    assert problem == (
        "README.md, the table of results, knn moco@32 on cifar10 (10 class labels): value is 61.00, and 51.00 in zoo.json"
    )
    with pytest.raises(UserError, match=r"do not agree: README\.md, the table of results.*61\.00, and 51\.00 in zoo\.json; `zoo add-"):
        check_agreement(claiming, read_manifest(claiming))


def test_a_number_of_the_model_index_is_compared(claiming):
    (problem,) = edited(claiming, "README.md", "value: 51.0\n", "value: 61.0\n")
    assert problem == "README.md, model-index, knn top1_k20 on cifar10 is 61.00, and 51.00 in zoo.json"


@pytest.mark.parametrize("value", ["'51.0'", ".nan", ".inf", "true", "null", "[51]"])
def test_what_is_no_number_does_not_pass_for_one(claiming, value):
    (problem,) = edited(claiming, "README.md", "value: 51.0\n", f"value: {value}\n")
    assert problem.startswith("README.md, model-index, knn top1_k20 on cifar10")


def test_rows_and_entries_that_zoo_json_does_not_have_are_named(claiming):
    row = "| knn | cifar10 (10 class labels) | 1,000 (2 left out) | moco@32 | top1_k20 | 51.00 | 2026-11-21 |"
    (problem,) = edited(claiming, "README.md", row, f"{row}\n{row.replace('top1_k20', 'top1_k200')}")
    assert problem.endswith("zoo.json has no such result of top1_k200 51.00")
    card = (claiming / "README.md").read_text()
    old = "name: knn top1_k20\n      config: moco@32"
    (claiming / "README.md").write_text(card.replace(old, old.replace("top1_k20", "top1_k1")))
    problems = disagreements(claiming, read_manifest(claiming))
    assert "README.md, model-index, knn top1_k1 on cifar10: zoo.json has no such result of 51.00" in problems


def test_zoo_json_is_compared_with_what_it_counted(claiming):
    manifest = json.loads((claiming / "zoo.json").read_text())
    manifest["results"][0]["metrics"]["top1_k10"] = 66.2
    (claiming / "zoo.json").write_text(json.dumps(manifest))
    (problem,) = disagreements(claiming, read_manifest(claiming))
    assert problem == "zoo.json, knn dino@32 on cifar10: top1_k10 is 66.20, and 562 right answers of 1000 are 56.20"


def test_a_front_matter_that_cannot_be_read_is_one_sentence(claiming):
    with pytest.raises(UserError, match=r"the front matter of .*README\.md cannot be read \(line 2: "):
        edited(claiming, "README.md", "library_name: timm\n", "library_name: [timm\n")


def test_the_card_of_an_earlier_version_agrees(tmp_path):
    folder = Path(shutil.copytree(YESTERDAY / "model", tmp_path / "model"))
    assert read_manifest(folder).results
    assert disagreements(folder, read_manifest(folder)) == []
    problems = edited(folder, "README.md", "| 70.34 |", "| 80.34 |")
    assert problems == ["README.md, the table of results, knn dino@8 on digits (10 class labels): value is 80.34, and 70.34 in zoo.json"]
