"""The command that a result is measured again by, as the report prints it: it carries every option, and gives the same number."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import nn
from typed import typed

from evaluation.tasks.again import command_again, not_repeatable, words_again
from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.knn.run import run_knn
from zoo.data import open_data
from zoo.hashing import file_sha256
from zoo.model_folder.again import PLACE, command_on_card
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.manifest import Manifest, read_manifest
from zoo.model_spec import open_model
from zoo.results import load_result

DATA = "shapes:train=90,test=45,size=16"
CASES = {
    "knn": "--task knn --k 1,7 --temperature 0.2",
    "knn-size": "--task knn --preset moco --image-size 24 --mean 0.4,0.5,0.6 --std 0.2,0.2,0.2 --channels bgr",
    "linear": "--task linear --epochs 2 --lr 0.1,1 --batch 32 --seed 3",
    "exact": "--task linear --mode exact --epochs 1 --lr 0.1 --batch 45 --seed 1",
    "logreg": "--task linear --preset logreg --c 0.1,1 --holdout 0.2",
    "frozen": "--task semi --preset frozen --percent 20 --folds 3",
    "semi": "--task semi --percent 10 --epochs 1 --batch 4 --trunk-lr 0.01",
    "finetune": "--task finetune --epochs 1 --batch 16",
    "cluster": "--task cluster --clusters 5 --seed 2",
    "kmeans": "--task cluster --clusters 5 --kmeans-init k-means++ --kmeans-restarts 1 --kmeans-iterations 3",
    "quality": "--task quality --split train --max-images 40 --view-count 3 --seed 5",
}


@pytest.mark.parametrize("name", CASES)
def test_the_printed_command_gives_the_same_number(name: str, tmp_path: Path) -> None:
    model = "random:test_resnet:4"
    assert typed("evaluate", "--model", model, "--data", DATA, "--out", tmp_path / "first.json", *CASES[name].split()) == 0
    result = load_result(tmp_path / "first.json")
    words = shlex.split(command_again(result))
    assert words == words_again(result)
    assert typed(*words, "--out", tmp_path / "again.json", "--no-cache") == 0
    again = load_result(tmp_path / "again.json")
    assert again.metrics == result.metrics
    assert (again.preset, again.seeds, again.counts) == (result.preset, result.seeds, result.counts)
    as_asked = {"options": None}
    assert {**again.protocol, **as_asked} == {**result.protocol, **as_asked}


def write_model(folder: Path, backbone: nn.Module, arch: str) -> Path:
    """A zoo model whose mean and deviation are not the data's."""
    manifest = Manifest(
        name=f"{arch}.x",
        arch=arch,
        method="moco",
        image_size=16,
        normalisation={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
        interpolation="bilinear",
        crop_pct=1.0,
    )
    return write_zoo_model(folder, backbone, manifest)


@pytest.fixture(scope="module")
def card_model(tmp_path_factory, make_backbone) -> Path:
    return write_model(tmp_path_factory.mktemp("card") / "model", make_backbone(image_size=16), "test_resnet")


@pytest.mark.parametrize("name", [*CASES, "file", "bgr", "level"])
def test_the_command_on_the_card_gives_the_same_number(name: str, card_model: Path, tmp_path: Path, make_backbone) -> None:
    """Also where the claim was measured on other forms of these weights: a checkpoint file, a network that wants other input."""
    if name == "file":  # which says nothing of its input; readers know this architecture
        folder = write_model(tmp_path / "model", make_backbone("resnet18_small", image_size=16), "resnet18_small")
    else:
        folder = Path(shutil.copytree(card_model, tmp_path / "model"))
    words: list[object] = [*CASES.get(name, "--task knn --k 1,7").split(), "--model", folder]
    if name == "file":
        state = {f"net.{key}": tensor for key, tensor in load_file(folder / "model.safetensors").items()}
        save_file(state, tmp_path / "x.safetensors")
        words = ["--task", "knn", "--model", f"file:{tmp_path / 'x.safetensors'}", "--prefix", "net."]
    if name == "bgr":
        words += ["--channels", "bgr", "--mean", "0.1,0.2,0.3"]
    if name == "level":
        words += ["--level", "superclass"]
    assert typed("evaluate", "--data", DATA, "--out", tmp_path / "first.json", *words) == 0
    result = load_result(tmp_path / "first.json")
    assert typed("zoo", "add-result", folder, tmp_path / "first.json") == 0
    (command,) = re.findall(r"```sh\n(.*?)\n```", (folder / "README.md").read_text(), re.DOTALL)
    printed = [word.replace("FOLDER", str(folder)) for word in shlex.split(command)]
    assert (printed[0], "--prefix" in printed) == ("evaluate", False)
    assert typed(*printed, "--out", tmp_path / "again.json", "--no-cache") == 0
    again = load_result(tmp_path / "again.json")
    assert (again.metrics, again.preset, again.seeds) == (result.metrics, result.preset, result.seeds)
    assert again.counts == result.counts
    assert {**again.protocol, "options": None} == {**result.protocol, "options": None}


def test_the_printed_command_of_a_python_network_s_own_classes_gives_the_same_number(tmp_path: Path) -> None:
    model = f"python:{Path(__file__).parents[1] / 'own_network.py'}:own"
    words = ["--task", "top1", "--model", model, "--data", "digits", "--mean", "0.1,0.2,0.3", "--std", "0.3,0.3,0.3", "--seed", "3"]
    assert typed("evaluate", *words, "--out", tmp_path / "first.json") == 0
    result = load_result(tmp_path / "first.json")
    printed = shlex.split(command_again(result))
    assert model not in printed, "a place of this machine"
    printed[printed.index("--model") + 1] = model
    assert typed(*printed, "--out", tmp_path / "again.json", "--no-cache") == 0
    assert load_result(tmp_path / "again.json").metrics == result.metrics
    assert result.details["environment"]["code_sha256"] == file_sha256(Path(__file__).parents[1] / "own_network.py")


def test_a_result_that_says_nothing_of_its_options_is_verified(card_model: Path, tmp_path: Path, make_result) -> None:
    manifest = read_manifest(card_model)
    result = make_result(manifest.tensors_sha256)
    assert command_on_card(result, manifest) == f"zoo verify FOLDER --task knn --data cifar10:{PLACE}"
    for name in ("K", "k; rm", "", "--k"):
        odd = replace(result, protocol={**result.protocol, "options": {"preset": "dino", name: 1}})
        assert command_on_card(odd, manifest) == f"zoo verify FOLDER --task knn --data cifar10:{PLACE}"
    hostile = replace(result, protocol={**result.protocol, "options": {"preset": "$(rm -rf ~)"}})
    assert shlex.split(command_on_card(hostile, manifest))[3:5] == ["--preset", "$(rm -rf ~)"]


def test_places_are_placeholders_and_weights_are_named(tmp_path: Path, make_result) -> None:
    result = make_result("a" * 64)
    # Two images of the test split were left out.
    assert command_again(result) == f"evaluate --task knn --preset dino --model MODEL --data cifar10:{PLACE} --skip-bad-images"
    for spec, shown in {
        "hf:uoft-cs/cifar10": "hf:uoft-cs/cifar10",
        "hf:/somebody/set": f"hf:{PLACE}",
        "folder:/somebody/photos,holdout=0.2": f"folder:{PLACE},holdout=0.2",
        "cifar10": f"cifar10:{PLACE}",
        DATA: DATA,
    }.items():
        words = words_again(replace(result, data=replace(result.data, spec=spec)))
        assert words[words.index("--data") + 1] == shown
    own = replace(
        result,
        model=replace(result.model, kind="python", spec="python:/somebody/nets.py:resnet20 resnet20.th", file_sha256="b" * 64),
        data=replace(result.data, spec="folder:/somebody/photos,holdout=0.2", level="superclass"),
        seeds={"evaluation": 7},
        dtype="bfloat16",
        protocol={**result.protocol, "layer": "flatten", "crop": 32, "options": {"preset": "moco", "k": "1,20"}},
    )
    assert command_again(own) == (
        "evaluate --task knn --preset moco --k 1,20 --image-size 32 --model python:nets.py:resnet20 --weights resnet20.th "
        f"--data folder:{PLACE},holdout=0.2 --level superclass --features flatten --skip-bad-images --seed 7 --dtype bfloat16"
        f"  # weights of sha256 {'b' * 64}"
    )
    assert "somebody" not in command_again(own)
    detection = replace(result, task="detection", model=replace(result.model, kind="zoo"))
    assert command_again(detection).startswith("zoo verify MODEL --task detection --data ")


def test_a_program_s_change_that_no_option_repeats_is_named() -> None:
    preset = replace(KNN_PRESETS["dino"].change(k=[3]), weight="uniform")
    result = run_knn(open_model("pixels"), open_data(DATA), preset=preset)
    assert (not_repeatable(result), "--k 3" in command_again(result)) == (["weight"], True)
