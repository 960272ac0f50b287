"""Several tasks in one call: which presets and options go to which of them, where results go, and features computed once."""

from __future__ import annotations

from pathlib import Path

import pytest
from typed import run

import evaluation.extraction.features
import evaluation.tasks.runtime
from evaluation.commands.plans import make_plans, result_paths
from evaluation.tasks.model_source import model_sources
from evaluation.tasks.registry import TASKS
from zoo.errors import UserError
from zoo.results import load_result

NETWORKS = Path(__file__).parents[1] / "own_network.py"


def chosen(words: list[str], presets: list[str] | None = None, **options: object) -> list[tuple[str, str]]:
    return [(plan.task.name, plan.preset.name) for plan in make_plans(words, presets or [], options)]


def test_tasks_are_named_with_commas_again_or_all_at_once() -> None:
    assert chosen(["linear,knn"]) == chosen(["linear", "knn"]) == [("linear", "moco"), ("knn", "dino")]
    assert chosen(["knn,knn"]) == [("knn", "dino")]
    every = [name for name, _ in chosen(["all"])]
    assert every == [name for name, task in TASKS.items() if task.in_all]
    assert {"knn", "linear"} <= set(every)
    assert "top1" not in every
    assert [name for name, _ in chosen(["all,top1"])] == [*every, "top1"]


def test_presets_go_to_their_tasks() -> None:
    assert chosen(["knn,linear"], ["knn=moco,linear=logreg"]) == [("knn", "moco"), ("linear", "logreg")]
    assert chosen(["knn,linear"], ["hcsc"]) == [("knn", "hcsc"), ("linear", "hcsc")]
    with pytest.raises(UserError, match=r"task 'knn' has no preset 'swav' \(dino, .*\); write --preset TASK=swav"):
        chosen(["knn,linear"], ["swav"])
    with pytest.raises(UserError, match="is for a task 'semi', and --task asks for: knn"):
        chosen(["knn"], ["semi=swav"])
    with pytest.raises(UserError, match=r"unknown linear preset 'mocco' \(nearest: 'moco'"):
        chosen(["linear"], ["mocco"])


def test_options_go_to_the_tasks_that_have_them() -> None:
    knn, linear = make_plans(["knn,linear"], [], {"k": "1,5", "lr": "0.1,1", "epochs": 3, "temperature": None})
    assert (knn.preset.k, linear.preset.rates, linear.preset.epochs) == ((1, 5), (0.1, 1.0), 3)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="task 'knn' has no option --lr; leave it out"):
        make_plans(["knn"], [], {"lr": "1"})
    with pytest.raises(UserError, match="--lr takes numbers with commas between them"):
        make_plans(["linear"], [], {"lr": "fast"})


def test_results_of_several_tasks_lie_in_a_folder(tmp_path: Path) -> None:
    tasks = [TASKS["knn"], TASKS["linear"]]
    paths = result_paths(["pixels", "random:resnet18"], tasks, tmp_path / "new", overwrite=False)
    assert {key: path.name for key, path in paths.items()} == {
        (0, "knn"): "pixels.knn.json",
        (0, "linear"): "pixels.linear.json",
        (1, "knn"): "random-resnet18.knn.json",
        (1, "linear"): "random-resnet18.linear.json",
    }
    with pytest.raises(UserError, match="must be a folder: with several models or tasks"):
        result_paths(["pixels"], tasks, tmp_path / "a.json", overwrite=False)


def test_weights_go_to_python_models_in_their_order() -> None:
    own = "python:nets.py:own"
    sources = model_sources([own, "pixels", own], [Path("a.pth"), Path("b.pth")], "flatten", "0,0,0", None, "bgr")
    assert [source.name for source in sources] == [f"{own} a.pth", "pixels", f"{own} b.pth"]
    assert [source.arguments["weights"] for source in sources] == [Path("a.pth"), None, Path("b.pth")]
    assert sources[0].arguments["mean"] == (0.0, 0.0, 0.0)
    for arguments, message in (
        ((["pixels"], [Path("a.pth")], None, None, None, None), "--weights is given 1 times for 0 models"),
        (([own], [], None, "1,2", None, None), "--mean takes three numbers"),
        (([own], [], None, None, "1,0,1", None), "--std must be above 0, not 0.0"),
        (([own], [], None, None, "1,2", None), "--std takes three numbers"),
        (([own], [], None, None, None, "gbr"), "--channels is rgb or bgr"),
    ):
        with pytest.raises(UserError, match=message):
            model_sources(*arguments)  # type: ignore[arg-type]


def test_several_tasks_extract_once_and_later_calls_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKBONE_LOOP_CACHE", str(tmp_path / "cache"))
    passes: list[int] = []
    extract = evaluation.extraction.features.extract_features

    def counted(model: object, images: object, *rest: object, **settings: object) -> object:
        passes.append(len(images))  # type: ignore[arg-type]
        return extract(model, images, *rest, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation.tasks.runtime, "extract_features", counted)
    words = ("--task", "knn,linear", "--model", "random:test_resnet", "--model", "pixels", "--data", "digits", "--k", 5, "--epochs", 2)
    assert run(*words, "--out", tmp_path / "one") == 0
    assert sorted(passes) == [445, 445, 1352, 1352]
    printed = capsys.readouterr().out
    assert "knn dino@8 on digits" in printed
    assert "linear moco-cached@8 on digits" in printed
    assert printed.count("McNemar") == 2
    passes.clear()
    assert run(*words, "--out", tmp_path / "two") == 0
    assert set(passes) == {4}  # the images by which kept features are checked
    for path in (tmp_path / "one").iterdir():
        first, second = load_result(path), load_result(tmp_path / "two" / path.name)
        assert (first.metrics, first.counts, first.details) == (second.metrics, second.counts, second.details)
    passes.clear()
    assert run(*words, "--no-cache") == 0
    assert sorted(passes) == [445, 445, 1352, 1352]


def test_the_networks_own_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--task", "top1", "--model", f"python:{NETWORKS}:declared", "--data", "digits")
    assert run(*words, "--out", tmp_path / "top1.json") == 0
    result = load_result(tmp_path / "top1.json")
    assert result.headline.value == result.metrics["top1"] == 100 * result.counts["correct"]["top1"] / 445
    assert sum(result.details["per_class"]["correct"]["top1"]) == result.counts["correct"]["top1"]
    capsys.readouterr()
    assert run(*words, "--features", "flatten") == 2
    assert "gives 8 outputs for an image, and 'digits' has 10 classes" in capsys.readouterr().err
