"""The evaluate command: tables, result files, and what it refuses before it computes anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from typed import refusal, run

from evaluation.tasks.knn.presets import KNN_PRESETS
from evaluation.tasks.knn.run import run_knn
from zoo.data import open_data
from zoo.model_spec import open_model
from zoo.results import load_result

DATA = "digits"


@pytest.fixture
def folder_data(tmp_path: Path) -> Path:
    """An image folder of two easy classes, dark and bright."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for label, brightness in (("bright", 200), ("dark", 40)):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(brightness - 30, brightness + 30, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "data"


def test_a_table_with_models_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--task", "knn", "--model", "pixels", "--model", "random:test_resnet", "--data", DATA, "--preset", "dino") == 0
    captured = capsys.readouterr()
    assert "knn dino@8 on digits: 445 test images, 1,352 training images, 10 classes" in captured.out
    rows = {line.split()[1]: line for line in captured.out.splitlines() if line.startswith("│")}
    assert rows.keys() == {"pixels", "random:test_resnet:0"}
    digits = open_data(DATA)
    bank, test = (
        ((images.pixels.astype(np.float64) / 255 - digits.mean) / digits.std).reshape(len(images), -1)
        for images in (digits.role("train"), digits.role("test"))
    )
    peer = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07))
    accuracy = 100 * peer.fit(bank, digits.role("train").labels).score(test, digits.role("test").labels)
    assert float(rows["pixels"].split("│")[3]) == round(accuracy, 2)
    assert "evaluating on " in captured.err
    assert "nothing was written; --out keeps the result" in captured.err


def test_a_checkpoint_file_of_no_layout_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = open_model("random:resnet10_small:3", image_size=8)
    strange = {"module.student." + name.replace("layer", "stage"): tensor for name, tensor in model.module.state_dict().items()}
    for name, tensor in strange.items():
        if name.endswith("running_mean"):
            tensor += 0.01
    torch.save({"a": {"b": strange}}, tmp_path / "mine.pth")
    words = ("--task", "knn", "--model", f"file:{tmp_path / 'mine.pth'}", "--data", DATA, "--out", tmp_path / "knn.json")
    hand = ("--key", "a.b", "--prefix", "student.", "--rename", "^stage=layer", "--drop", "^nothing")
    assert refusal(capsys, *words).startswith(f"{tmp_path / 'mine.pth'} is of no known format")
    assert run(*words, *hand) == 0
    assert load_result(tmp_path / "knn.json").model.arch == "resnet10_small"
    capsys.readouterr()
    assert "--heads is for vision transformers" in refusal(capsys, *words, *hand, "--heads", 4, "--overwrite")
    assert run(*words, *hand, "--stem-padding", 2, "--overwrite") == 0
    padded = load_result(tmp_path / "knn.json")
    assert (padded.model.arch, padded.protocol["options"]["stem_padding"]) == ("resnet10_small(stem_padding=2)", 2)


def test_a_result_file_says_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "knn.json"
    words = ("--model", "random:test_resnet:3", "--data", DATA, "--preset", "moco", "--k", "5,1,5000", "--seed", 7)
    assert run(*words, "--temperature", 0.2, "--out", path) == 0
    captured = capsys.readouterr()
    assert f"written: {path}" in captured.err
    assert "k5000 was clamped to 1352" in captured.out
    assert "changed from the preset: k, temperature" in captured.out

    result, model, data = load_result(path), open_model("random:test_resnet:3", image_size=8), open_data(DATA)
    assert (result.task, result.preset, result.headline.metric) == ("knn", "moco@8", "top1_k5000")
    protocol = result.protocol
    assert (protocol["k"], protocol["temperature"], protocol["weight"]) == ([1, 5, 5000], 0.2, "exp")
    assert protocol["changed"] == ["k", "temperature"]
    assert (protocol["resize"], protocol["crop"], protocol["interpolation"]) == (8, 8, "bilinear")
    assert (protocol["similarity"], protocol["batch_norm"], protocol["level"]) == ("cosine", "eval", "class")
    assert tuple(protocol["mean"]) == result.model.mean == data.mean
    assert tuple(protocol["std"]) == result.model.std == data.std
    assert (result.model.spec, result.model.arch, result.model.kind) == ("random:test_resnet:3", "test_resnet", "random")
    assert result.model.tensors_sha256 == model.tensors_sha256
    assert (result.data.spec, result.data.classes, result.data.level) == (DATA, 10, "class")
    for role in ("train", "test"):
        split = result.data.splits[role]
        assert (split.images, split.skipped) == (len(data.role(role)), 0)
        assert split.fingerprint == data.role(role).fingerprint()
    assert result.counts["clamped"] == {"k5000": 1352}
    for name, value in result.metrics.items():
        assert value == 100 * result.counts["correct"][name] / 445
    per_class = result.details["per_class"]
    assert sum(per_class["total"]) == 445
    for k in (1, 5, 5000):
        assert sum(per_class["correct"][f"top1_k{k}"]) == result.counts["correct"][f"top1_k{k}"]
    assert (result.processes, result.dtype, result.seeds) == (1, "float32", {"evaluation": 7})
    assert result.versions["torch"]
    assert result.seconds.keys() == {"features", "search_and_vote"}

    same = run_knn(model, data, preset=KNN_PRESETS["moco"].change(k=[1, 5, 5000], temperature=0.2))
    assert same.metrics == result.metrics
    assert same.counts == result.counts


def test_several_models_get_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert run("--model", "pixels", "--model", "random:test_resnet:1", "--data", DATA, "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["pixels.json", "random-test_resnet-1.json"]
    assert load_result(out / "pixels.json").model.kind == "pixels"
    assert load_result(out / "random-test_resnet-1.json").model.name == "random:test_resnet:1"


def test_levels_are_counted_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    counts = {}
    for level, classes in (("class", 9), ("superclass", 3)):
        path = tmp_path / f"{level}.json"
        assert run("--model", "pixels", "--data", "shapes:size=8,train=300,test=60", "--level", level, "--k", 1, "--out", path) == 0
        result = load_result(path)
        assert (result.data.level, result.data.classes) == (level, classes)
        assert result.preset == "dino@8"
        assert ("top5_k1" in result.metrics) == (classes > 5)
        counts[level] = result.counts["correct"]["top1_k1"]
    # With one neighbour, whoever has the right class has the right superclass.
    assert counts["superclass"] >= counts["class"]
    assert "3 classes of level superclass" in capsys.readouterr().out


def test_bad_images_are_refused_or_skipped_and_counted(folder_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder_data / "train" / "dark" / "2.png").write_bytes(b"no image")
    words = ("--model", "pixels", "--data", f"folder:{folder_data}", "--k", 3)
    assert "2.png" in refusal(capsys, *words)
    assert run(*words, "--skip-bad-images", "--out", tmp_path / "knn.json") == 0
    assert "1 train images could not be decoded and were left out" in capsys.readouterr().out
    result = load_result(tmp_path / "knn.json")
    assert (result.data.splits["train"].images, result.data.splits["train"].skipped) == (11, 1)
    assert result.counts["correct"] == {"top1_k3": 6}
    assert result.headline.value == 100.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "kmn"], "unknown task 'kmn' (nearest: 'knn'); known: knn"),
        (["--preset", "dyno"], "unknown knn preset 'dyno' (nearest: 'dino'); known: dino, hcsc, moco, dinov2,"),
        (["--k", "1,x"], "--k takes whole numbers"),
        (["--k", ""], "--k takes whole numbers"),
        (["--k", "0,5"], "--k must be at least 1, not 0"),
        (["--temperature", "0"], "--temperature must be above 0, not 0.0"),
        (["--device", "tpu"], "there is no device 'tpu'"),
        (["--dtype", "int8"], "unknown dtype 'int8'"),
        (["--dtype", "float16", "--device", "cpu"], "dtype float16 needs a GPU"),
        (["--batch-size", "0"], "--batch-size must be at least 1, not 0"),
        (["--image-size", "0"], "--image-size must be at least 1 and at most 8192, not 0"),
        (["--image-size", "100000"], "--image-size must be at least 1 and at most 8192, not 100000"),
        (["--workers", "-1"], "--workers must be at least 0 and at most 1024, not -1"),
        (["--seed", "-1"], "--seed must be at least 0 and at most 9223372036854775807, not -1"),
        (["--seed", str(2**70)], "--seed must be at least 0"),
        (["--std", "1,inf,1"], "--std must be above 0, not inf"),
        (["--mean", "nan,0,0"], "--mean must be a finite number, not nan"),
        (["--level", "genus"], "has no label level 'genus'"),
        (["--out", "knn.txt"], "must end in .json"),
    ],
)
def test_bad_options_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, "--model", "pixels", "--data", DATA, *words)


@pytest.mark.parametrize("model", ["nowhere", "random:resnet19", "random:test_resnet:x"])
def test_models_that_are_none_are_refused_before_the_others_are_evaluated(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert model.split(":")[-1] in refusal(capsys, "--model", "pixels", "--model", model, "--data", DATA)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.pt").write_bytes(b"no weights")
    assert "model.pt' is no model" in refusal(capsys, "--model", tmp_path / "model.pt", "--data", DATA)


def test_data_without_labelled_test_images_is_refused(folder_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder_data / "test").rename(tmp_path / "elsewhere")
    assert "test" in refusal(capsys, "--model", "pixels", "--data", f"folder:{folder_data}")
    assert "unknown data 'digit'" in refusal(capsys, "--model", "pixels", "--data", "digit")


def test_existing_results_are_refused_before_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The model and the data do not exist: that they are not complained of shows that nothing was opened.
    nothing = ("--data", "nowhere", "--out")
    path = tmp_path / "knn.json"
    path.write_text("precious")
    assert "knn.json exists already" in refusal(capsys, "--model", "nowhere", *nothing, path)
    assert path.read_text() == "precious"
    folder = tmp_path / "results"
    folder.mkdir()
    several = ("--model", "a", "--model", "b")
    assert "results exists already" in refusal(capsys, *several, *nothing, folder)
    assert "must be a folder" in refusal(capsys, *several, *nothing, tmp_path / "x.json")
    assert "two of the models would be written" in refusal(capsys, "--model", "a", "--model", "a", *nothing, tmp_path / "y")
    (tmp_path / "folder.json").mkdir()
    assert "is a folder" in refusal(capsys, "--model", "a", *nothing, tmp_path / "folder.json", "--overwrite")


def test_overwrite_replaces_a_result(tmp_path: Path) -> None:
    path = tmp_path / "knn.json"
    path.write_text("old")
    assert run("--model", "pixels", "--data", DATA, "--k", 1, "--out", path, "--overwrite") == 0
    assert load_result(path).task == "knn"
    assert [file.name for file in tmp_path.iterdir()] == ["knn.json"]


IMPORTS = """
import sys
sys.argv = ["evaluate", "--help"]
from evaluation.commands.cli import main
try:
    main()
finally:
    print([name for name in ("torch", "timm", "torchvision", "sklearn", "matplotlib") if name in sys.modules])
"""


def test_help_needs_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert "Examples" in done.stdout
    assert done.stdout.strip().endswith("[]")


@pytest.mark.slow
def test_torchrun_gives_the_same_counts(tmp_path: Path) -> None:
    words = ["-m", "evaluation", "--model", "random:test_resnet", "--data", DATA, "--batch-size", "100", "--device", "cpu", "--out"]
    repository = Path(__file__).parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    printed = {}
    for name, start in (("alone", [sys.executable]), ("two", launcher)):
        command = [*start, *words, str(tmp_path / f"{name}.json")]
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed[name] = done.stdout
    assert "random:test_resnet:0" in printed["alone"]
    assert printed["two"] == printed["alone"]  # one process speaks, and says the same
    alone, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("alone", "two"))
    assert (alone["processes"], two["processes"]) == (1, 2)
    for part in ("metrics", "counts", "data", "model", "details", "protocol"):
        assert alone[part] == two[part]

    before = (tmp_path / "two.json").read_bytes()
    again = subprocess.run([*launcher, *words, str(tmp_path / "two.json")], cwd=repository, env=environment, capture_output=True, text=True)
    assert again.returncode != 0
    assert (tmp_path / "two.json").read_bytes() == before
