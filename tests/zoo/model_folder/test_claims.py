"""Results of a zoo model: only of its own weights, never lost, never with a path of the machine."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.model_folder.claims import add_results, read_claims
from zoo.model_folder.manifest import read_manifest
from zoo.results import Result, save_result


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_result_is_added_to_the_manifest_and_to_the_card(zoo_folder, make_result):
    before = files(zoo_folder)
    result = make_result(read_manifest(zoo_folder).tensors_sha256)
    add_results(zoo_folder, [result])
    after = files(zoo_folder)
    assert {name for name in before if before[name] != after[name]} == {"zoo.json", "README.md"}
    (kept,) = read_manifest(zoo_folder).results
    assert (kept.headline, kept.metrics, kept.data.splits) == (result.headline, result.metrics, result.data.splits)
    assert "57.25" in after["README.md"].decode()


def test_paths_of_the_machine_do_not_go_along(zoo_folder, make_result):
    add_results(zoo_folder, [make_result(read_manifest(zoo_folder).tensors_sha256)])
    assert all(b"somebody" not in content for content in files(zoo_folder).values())
    (kept,) = read_manifest(zoo_folder).results
    assert (kept.model.spec, kept.data.spec) == (None, "cifar10")


def test_a_result_of_other_weights_is_refused_and_changes_nothing(zoo_folder, make_result):
    before = files(zoo_folder)
    own = make_result(read_manifest(zoo_folder).tensors_sha256)
    with pytest.raises(UserError, match=r"is not of 'test_resnet\.moco_2ep': it was measured with the weights of 'run'"):
        add_results(zoo_folder, [own, make_result("0" * 64)])
    assert files(zoo_folder) == before


def test_a_result_is_not_added_to_weights_that_were_changed(zoo_folder, make_result):
    weights = zoo_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"is not the file that zoo\.json describes"):
        add_results(zoo_folder, [make_result(read_manifest(zoo_folder).tensors_sha256)])


def test_the_same_question_has_one_answer_and_another_question_another(zoo_folder, make_result):
    sha256 = read_manifest(zoo_folder).tensors_sha256
    add_results(zoo_folder, [make_result(sha256, value=50.0), make_result(sha256, value=51.0, seed=1)])
    add_results(zoo_folder, [make_result(sha256, value=52.0), make_result(sha256, value=53.0, preset="moco@32")])
    answers = [(result.preset, result.seeds["sample"], result.headline.value) for result in read_manifest(zoo_folder).results]
    assert answers == [("dino@32", 0, 52.0), ("dino@32", 1, 51.0), ("moco@32", 0, 53.0)]


def test_result_files_are_read_for_publication(tmp_path, make_result):
    save_result(make_result("c" * 64), tmp_path / "knn.json")
    (result,) = read_claims([tmp_path / "knn.json"])
    assert "somebody" not in json.dumps(result.to_dict())
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(UserError, match=r"none\.json is not a result"):
        read_claims([tmp_path / "knn.json", tmp_path / "none.json"])


def add_many(folder: Path, results: list[Result]) -> None:
    for result in results:
        add_results(folder, [result])


def test_results_that_are_added_at_once_are_all_kept(zoo_folder, make_result):
    sha256 = read_manifest(zoo_folder).tensors_sha256
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=add_many, args=(zoo_folder, [make_result(sha256, seed=10 * writer + i) for i in range(10)]))
        for writer in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    seeds = {result.seeds["sample"] for result in read_manifest(zoo_folder).results}
    assert seeds == {10 * writer + i for writer in range(3) for i in range(10)}
    assert [path.name for path in zoo_folder.rglob(".*")] == [".eval_results"]


def test_what_is_no_zoo_model_takes_no_result(tmp_path, make_result):
    with pytest.raises(UserError, match=r"has no zoo\.json"):
        add_results(tmp_path, [make_result("c" * 64)])
    with pytest.raises(UserError, match="cannot be opened"):
        add_results(tmp_path / "nothing", [make_result("c" * 64)])
