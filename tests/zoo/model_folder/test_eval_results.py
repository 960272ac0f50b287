"""The Hub's result files: read by its own client, compared with zoo.json, and checked for their form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries

from zoo.errors import UserError
from zoo.model_folder.agreement import disagreements
from zoo.model_folder.claims import add_results
from zoo.model_folder.eval_results import Entry, eval_files, read_eval_file
from zoo.model_folder.manifest import read_manifest


@pytest.fixture
def claiming(zoo_folder, make_result) -> Path:
    own = read_manifest(zoo_folder).tensors_sha256
    first, second = make_result(own, value=57.25), make_result(own, value=51.0, preset="moco@32", changed=("temperature",))
    # The same question by another seed; a coarser level of labels; and a set that the Hub does not have.
    again = make_result(own, value=58.0, seed=3)
    coarse = replace(make_result(own, value=70.0), data=replace(first.data, level="superclass"))
    add_results(zoo_folder, [first, second, again, coarse, replace(coarse, data=replace(first.data, name="shapes", spec="shapes"))])
    return zoo_folder


def test_the_hub_s_client_reads_every_number(claiming: Path) -> None:
    files = sorted(path.name for path in (claiming / ".eval_results").iterdir())
    assert files == ["cifar10-knn-dino-at-32-2.yaml", "cifar10-knn-dino-at-32.yaml", "cifar10-knn-moco-at-32.yaml"]
    found = {}
    for name in files:
        content = yaml.safe_load((claiming / ".eval_results" / name).read_text())
        (entry,) = parse_eval_result_entries(content)
        assert eval_result_entries_to_yaml([entry]) == content  # nothing in it that the client does not know
        found[name] = entry
    assert [entry.value for entry in found.values()] == [58.0, 57.25, 51.0]
    assert {(entry.dataset_id, entry.task_id, entry.date) for entry in found.values()} == {("uoft-cs/cifar10", "knn", "2026-11-21")}
    assert found[files[2]].notes == "knn by protocol moco@32 (changed), top1_k20; 1,000 test images; zoo.json has the whole protocol"
    assert found[files[0]].notes.endswith("; sample seed 3; zoo.json has the whole protocol")


def test_ours_reads_them_too_and_a_changed_number_is_found(claiming: Path) -> None:
    path = claiming / ".eval_results" / "cifar10-knn-dino-at-32.yaml"
    notes = "knn by protocol dino@32, top1_k20; 1,000 test images; zoo.json has the whole protocol"
    assert read_eval_file(path) == [Entry("uoft-cs/cifar10", "knn", 57.25, "2026-11-21", notes)]
    assert disagreements(claiming, read_manifest(claiming)) == []
    path.write_text(path.read_text().replace("57.25", "67.25"))
    problems = disagreements(claiming, read_manifest(claiming))
    assert problems == [".eval_results/cifar10-knn-dino-at-32.yaml, uoft-cs/cifar10 is 67.25, and 57.25 in zoo.json"]
    # Made again by `zoo card`; a file of somebody else's is not ours to judge.
    (path.parent / "community.yaml").write_text("- dataset: {id: a/b, task_id: c}\n  value: 99\n")
    add_results(claiming, [])
    assert disagreements(claiming, read_manifest(claiming)) == []
    path.unlink()
    assert disagreements(claiming, read_manifest(claiming)) == []


def test_a_result_that_replaces_another_replaces_its_file(zoo_folder, make_result) -> None:
    own = read_manifest(zoo_folder).tensors_sha256
    for value in (40.0, 41.5):
        add_results(zoo_folder, [make_result(own, value=value)])
    (path,) = (zoo_folder / ".eval_results").iterdir()
    assert [entry.value for entry in read_eval_file(path)] == [41.5]
    assert [*eval_files(read_manifest(zoo_folder))] == [f".eval_results/{path.name}"]


GOOD = {"dataset": {"id": "cais/hle", "task_id": "default", "revision": "abc"}, "value": 20.9, "source": {"url": "https://a.example"}}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"dataset": {"id": "hle", "task_id": "default"}}, "dataset.id is ORG/NAME on the Hub, not 'hle'"),
        ({"dataset": {"id": "cais/hle"}}, "dataset.task_id is a name, not None"),
        ({"dataset": "cais/hle"}, "'dataset' is a mapping with id and task_id"),
        ({"dataset": {**GOOD["dataset"], "x": 1}}, "dataset has no key 'x'"),
        ({"value": "20.9"}, "value is a number, not '20.9'"),
        ({"value": True}, "value is a number, not True"),
        ({"value": float("nan")}, "value is a number, not nan"),
        ({"date": "yesterday"}, "date is YYYY-MM-DD, not 'yesterday'"),
        ({"notes": 3}, "notes is text, not 3"),
        ({"source": {"name": "x"}}, "source is a mapping with url, not"),
        ({"score": 1}, "'score' is no key of it"),
    ],
)
def test_what_is_no_result_file_is_named(tmp_path: Path, change: dict, problem: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump([GOOD]))
    assert read_eval_file(path) == [Entry("cais/hle", "default", 20.9)]
    path.write_text(yaml.safe_dump([GOOD, GOOD | change]))
    with pytest.raises(UserError) as refused:
        read_eval_file(path)
    assert f"{path}, entry 2: {problem}" in str(refused.value)


@pytest.mark.parametrize("text", ["", "a: 1", "[", "- !!python/object:os.system x", "- 3"])
def test_a_file_of_another_form_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.yaml"):
        read_eval_file(path)
