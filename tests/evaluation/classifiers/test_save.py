"""``evaluate --save``: the classifier that a task trained is a zoo model, and answers what the evaluation counted."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from easy_data import NAMES
from PIL import Image
from safetensors.torch import load_file
from typed import refusal, typed

from evaluation.classifiers.save import check_can_save
from zoo.backbones import create_backbone
from zoo.errors import UserError
from zoo.hashing import tensors_sha256
from zoo.model_folder.agreement import disagreements
from zoo.model_folder.claims import add_results
from zoo.model_folder.folder import load_zoo_model, write_zoo_model
from zoo.model_folder.manifest import Manifest, read_manifest
from zoo.model_spec import open_model
from zoo.models.classifiers import build_classifier, class_names, linear_layers, with_head
from zoo.models.transforms import crop_pct_of, own_transform
from zoo.results import load_result

TASKS = ("linear", "exact", "selected", "logreg", "semi", "grid", "pseudo", "frozen", "finetune")
CLASSES = tuple(sorted(NAMES))


def labelled(photos: Path) -> tuple[list[str], np.ndarray]:
    """Paths of the test images, and the positions of their classes."""
    paths = [path for name in CLASSES for path in sorted((photos / "test" / name).iterdir())]
    return [str(path) for path in paths], np.array([CLASSES.index(path.parent.name) for path in paths])


@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_those_that_the_evaluation_counted(task: str, saved, photos: Path, tmp_path: Path) -> None:
    folder, result = saved(task)
    paths, truth = labelled(photos)
    assert typed("zoo", "predict", folder, photos / "test", "--out", tmp_path / "p.csv", "--device", "cpu") == 0
    with open(tmp_path / "p.csv", encoding="utf-8-sig", newline="") as file:
        rows = {row["image"]: row["class_1"] for row in csv.DictReader(file)}
    assert sorted(rows) == sorted(paths)
    right = sum(rows[path] == CLASSES[label] for path, label in zip(paths, truth, strict=True))
    assert right == result.counts["correct"][result.headline.metric]
    # Image by image, too, and not in number alone.
    packed = result.details["per_class"]
    by_class = [sum(rows[path] == name for path in paths if Path(path).parent.name == name) for name in CLASSES]
    assert packed["correct"][result.headline.metric] == by_class
    assert right > len(paths) / 3  # it has learned something, so an agreement is not one of guesses
    # The card's first claim is the same count, of these very weights.
    manifest = read_manifest(folder)
    own = manifest.results[0]
    assert (own.task, own.preset, own.counts["correct"]["top1"]) == ("top1", "own", right)
    assert own.model.tensors_sha256 == manifest.tensors_sha256
    assert disagreements(folder, manifest) == []


@pytest.mark.parametrize("task", ["linear", "logreg", "finetune"])
def test_timm_loads_it_and_gives_the_same_outputs(task: str, saved, photos: Path) -> None:
    """timm's own transform and network, against the backbone and the layer one by one in float64."""
    folder, _ = saved(task)
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert network.num_classes == 3
    assert tuple(network.pretrained_cfg["label_names"]) == CLASSES
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    paths, _ = labelled(photos)
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    model = open_model(folder, classifier=True)
    ours = torch.stack([own_transform(model).from_pil(Image.open(path).convert("RGB")) for path in paths])
    torch.testing.assert_close(images, ours, rtol=0, atol=1e-6)
    state = load_file(folder / "model.safetensors")
    backbone = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        outputs = network(images)
        assert torch.equal(outputs, model.module(images))
        features = backbone(images)
        assert torch.equal(features, load_zoo_model(folder)[0](images))
    by_hand = features.double().numpy() @ state["fc.weight"].double().numpy().T + state["fc.bias"].double().numpy()
    np.testing.assert_allclose(outputs.numpy(), by_hand, rtol=1e-4, atol=1e-4)


def test_the_backbone_below_a_frozen_head_is_the_one_it_was(saved) -> None:
    folder, result = saved("linear")
    manifest = read_manifest(folder)
    start = open_model("random:test_resnet:1")
    assert manifest.backbone_sha256 == start.tensors_sha256 == result.model.tensors_sha256
    assert open_model(folder).tensors_sha256 == start.tensors_sha256
    value = result.headline.value
    assert [(one.task, one.headline.value) for one in manifest.results] == [("top1", value), ("linear", value)]
    tuned, of_tuned = saved("finetune")
    assert read_manifest(tuned).backbone_sha256 != of_tuned.model.tensors_sha256 == start.tensors_sha256
    assert [one.task for one in read_manifest(tuned).results] == ["top1"]


def test_the_chosen_rate_is_the_one_that_is_kept(saved, photos: Path) -> None:
    """Of three rates and of the epochs, those that the result names: a training of that rate alone has the same layer."""
    folder, result = saved("linear")
    chosen = result.details["chosen"]["last"]["lr"]
    assert len(result.details["curves"]["lr"]) == 3
    alone = folder.parent / "alone"
    words = f"--task linear --epochs 8 --lr {chosen} --batch 32 --model random:test_resnet:1 --image-size 16 --device cpu".split()
    assert typed("evaluate", *words, "--data", f"folder:{photos}", "--save", alone) == 0
    ours, theirs = (load_file(place / "model.safetensors")["fc.weight"] for place in (folder, alone))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_card_and_info_say_what_it_is(saved, capsys) -> None:
    folder, result = saved("linear")
    text = (folder / "README.md").read_text()
    for part in (
        "pipeline_tag: image-classification",
        "A classifier (`test_resnet`) of 3 classes. Its backbone had random weights; then a linear layer on top of it was trained",
        "| Classes | dark, light, red |",
        "zoo predict FOLDER PHOTOS --out predictions.csv",
        "evaluate --task top1 --preset own --model FOLDER --data folder:PLACE",
        "It knows these classes and no other",
    ):
        assert part in text
    assert "self-supervised" not in text
    assert typed("zoo", "info", folder, "--check") == 0
    assert re.search(r"^classes +3: dark, light, red$", capsys.readouterr().out, re.MULTILINE)
    ways = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(ways) == 3
    image = Image.radial_gradient("L").convert("RGB")
    for way in ways:
        names: dict = {"image": image}
        exec(way.replace("FOLDER", str(folder)), names)
        assert names.get("label", "dark") in CLASSES
    about = read_manifest(folder).source["classifier"]
    assert (about["task"], about["headline"]["value"], about["trained"]) == ("linear", result.headline.value, "the linear layer")


def test_its_claims_are_measured_again_by_the_printed_commands_and_by_verify(saved, photos: Path, tmp_path: Path, capsys) -> None:
    folder, _ = saved("linear")
    blocks = re.findall(r"```sh\n(.*?)\n```", (folder / "README.md").read_text(), re.DOTALL)
    (commands,) = [block for block in blocks if "evaluate" in block]
    for number, command in enumerate(commands.splitlines()):
        words = [word.replace("FOLDER", str(folder)).replace("PLACE", str(photos)) for word in shlex.split(command)]
        assert typed(*words, "--out", tmp_path / f"{number}.json", "--device", "cpu") == 0
        assert load_result(tmp_path / f"{number}.json").metrics == read_manifest(folder).results[number].metrics
    capsys.readouterr()
    assert typed("zoo", "verify", folder, "--data", f"folder:{photos}", "--device", "cpu", "--json") == 0
    (verdicts,) = json.loads(capsys.readouterr().out).values()
    assert [verdict["status"] for verdict in verdicts] == ["reproduced", "reproduced"]


def test_results_of_the_backbone_and_of_the_classifier_are_its_claims(saved, photos: Path, tmp_path: Path, make_result) -> None:
    folder, _ = saved("logreg")
    out = tmp_path / "knn.json"
    words = ["--task", "knn", "--model", folder, "--data", f"folder:{photos}", "--out", out, "--device", "cpu"]
    assert typed("evaluate", *words) == 0
    assert typed("zoo", "add-result", folder, out) == 0
    assert [one.task for one in read_manifest(folder).results] == ["top1", "linear", "knn"]
    with pytest.raises(UserError, match="is not of"):
        add_results(folder, [make_result("e" * 64)])


def test_a_zoo_model_passes_on_what_is_known_of_it(saved, photos: Path, tmp_path: Path, make_backbone) -> None:
    images = {"normalisation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}, "interpolation": "bilinear", "crop_pct": 1.0}
    known = {"method": "moco", "epochs": 2, "data": "shapes", "licence": "AGPL-3.0-only", "recipe": {"lr": 0.03}, "source": {"run": "r"}}
    manifest = Manifest("test_resnet.moco", "test_resnet", image_size=16, **images, **known)
    start = write_zoo_model(tmp_path / "start", make_backbone(image_size=16), manifest)
    folder, _ = saved("logreg", str(start))
    made = read_manifest(folder)
    assert {name: getattr(made, name) for name in known if name != "source"} == {name: known[name] for name in known if name != "source"}
    assert (made.name, made.mean, made.source["run"]) == ("test_resnet.moco_folder_linear", (0.5, 0.4, 0.3), "r")
    card = (folder / "README.md").read_text()
    assert "license: agpl-3.0" in card
    assert "Its backbone was pre-trained without labels by moco on `shapes`; then a linear layer on top of it was trained" in card


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--task knn", "task 'knn' trains no classifier; leave --save out, or take one of: linear, semi, finetune"),
        ("--task linear --model pixels", "'pixels' is a model of the kind 'pixels'; leave --save out"),
        ("--task linear --features layer2", "is features of an inner layer; leave --save out"),
        ("--task linear --channels bgr", "leave --channels out, or --save"),
        ("--task linear --save {here}/taken", "is not a folder with a zoo.json, so it is not overwritten"),
        ("--task linear --save {here}/file/x", "is no folder"),
    ],
)
def test_what_cannot_be_kept_is_said_before_anything_is_trained(words: str, told: str, photos: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    (tmp_path / "file").touch()
    words = words.format(here=tmp_path)
    words += "" if "--model" in words else " --model random:test_resnet"
    words += "" if "--save" in words else f" --save {tmp_path / 'model'}"
    words += " --overwrite" if "taken" in words else ""
    # So many epochs would take minutes.
    line = refusal(capsys, *words.split(), "--data", f"folder:{photos}", *(["--epochs", "100000"] if "linear" in words else []))
    assert told in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_several_models_and_tasks_get_a_folder_each(photos: Path, tmp_path: Path) -> None:
    models = ["--model", "random:test_resnet:1", "--model", "random:test_vit:1"]
    words = ["--task", "knn,linear", "--preset", "linear=logreg", *models, "--image-size", "16", "--device", "cpu", "--c", "1"]
    assert typed("evaluate", *words, "--data", f"folder:{photos}", "--save", tmp_path / "all") == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["random-test_resnet-1", "random-test_vit-1"]
    assert read_manifest(tmp_path / "all" / "random-test_vit-1").classes == CLASSES


@pytest.mark.parametrize(
    "arch",
    [
        "test_resnet",
        "test_vit",
        "test_convnext",
        "test_efficientnet",
        "test_byobnet",
        "mobilenetv3_small_050",
        "resnetv2_50",
        "resnet10_small",
    ],
)
def test_a_head_on_any_network_is_the_layer_on_top_of_its_features(arch: str) -> None:
    """Also where timm's layer is a convolution, and where features are widened behind the last stage."""
    side = 160 if arch == "test_vit" else 64
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = create_backbone(arch).eval()
        weight, bias = torch.randn(5, backbone.num_features), torch.randn(5)
    network = with_head(build_classifier(arch, {}, 5), backbone, weight, bias, side)
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = backbone(images).double() @ weight.double().T + bias.double()
        found = network(images)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    own = tuple(f"{name}." for name in linear_layers(network))
    rest = {key: tensor for key, tensor in network.state_dict().items() if not key.startswith(own)}
    assert tensors_sha256(rest) == tensors_sha256(backbone.state_dict())


def test_names_of_imagenet_s_outputs() -> None:
    names = class_names({}, 1000)
    assert (len(set(names)), names[0], names[134], names[517]) == (1000, "tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)")
    assert class_names({}, 7) == tuple("0123456")
    assert class_names({"label_names": ["a", "b"], "label_descriptions": {"a": "cat", "b": "cat"}}, 2) == ("cat (a)", "cat (b)")
    assert class_names({"label_names": ["a"]}, 2) == ("0", "1")


def test_crop_pct_gives_back_the_resized_side_as_timm_computes_it() -> None:
    for crop in (1, 16, 32, 49, 224, 299, 518):
        for resize in range(crop, crop + 90):
            assert math.floor(crop / crop_pct_of(resize, crop)) == resize


def test_a_folder_that_contradicts_itself_is_refused(saved, tmp_path: Path) -> None:
    source, _ = saved("logreg")
    for number, (file, old, new, told) in enumerate(
        [
            ("config.json", '"dark"', '"grey"', "do not name the same classes"),
            ("zoo.json", '"dark",', '"light",', "'classes' has a name twice"),
            ("zoo.json", '"backbone_sha256": "', '"backbone_sha256": "0000', "backbone_sha256 is not 64 hex digits"),
        ]
    ):
        folder = Path(shutil.copytree(source, tmp_path / str(number)))
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))
        with pytest.raises(UserError, match=re.escape(told)):
            load_zoo_model(folder)
    folder = Path(shutil.copytree(source, tmp_path / "other"))
    content = json.loads((folder / "zoo.json").read_text())
    content["backbone_sha256"] = "0" * 64
    (folder / "zoo.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="its backbone does not have the backbone_sha256"):
        load_zoo_model(folder)


def test_classes_of_any_name_are_kept(photos: Path, tmp_path: Path, capsys) -> None:
    """Folders whose names are no UTF-8, hold a line break, or are markup and formulas."""
    odd = {"dark": b"\xff\xfe", "light": b"=a|b <b>*x*", "red": "\u00fc\n\u65e5".encode()}
    for part in ("train", "test"):
        for name, other in odd.items():
            place = os.fsencode(tmp_path / "odd" / part) + b"/" + other
            try:
                shutil.copytree(os.fsencode(photos / part / name), place)
            except OSError:
                pytest.skip("this file system takes UTF-8 names alone")
    folder = tmp_path / "model"
    words = ["--task", "linear", "--preset", "logreg", "--c", "1", "--image-size", "16", "--device", "cpu"]
    assert typed("evaluate", *words, "--model", "random:test_resnet:1", "--data", f"folder:{tmp_path / 'odd'}", "--save", folder) == 0
    names = tuple(os.fsdecode(name) for name in sorted(odd.values()))
    assert set(read_manifest(folder).classes) == set(names)
    assert set(timm.create_model(f"local-dir:{folder}", pretrained=True).pretrained_cfg["label_names"]) == set(names)
    assert disagreements(folder, read_manifest(folder)) == []
    capsys.readouterr()
    out = tmp_path / "p.csv"
    assert typed("zoo", "predict", folder, tmp_path / "odd" / "test", "--out", out, "--html", tmp_path / "p.html", "--device", "cpu") == 0
    with open(out, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class_1"] for row in rows} <= {"\\udcff\\udcfe", "'=a|b <b>*x*", "\u00fc\n\u65e5"}
    assert len(rows) == 31
    assert "<b>*x*" not in (tmp_path / "p.html").read_text(encoding="utf-8")
    assert typed("zoo", "info", folder) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("classes")]
    assert all(part in line for part in ("\\udcff\\udcfe", "=a|b <b>*x*", "\u00fc\\n\u65e5"))


def test_a_classifier_of_a_classifier_says_so(saved) -> None:
    """Its backbone is taken, and how that came about is kept."""
    start, _ = saved("logreg")
    folder, _ = saved("finetune", str(start))
    about = read_manifest(folder).source["classifier"]
    assert (about["task"], about["before"]["task"], about["backbone"]) == ("finetune", "linear", "test_resnet.random_folder_linear")
    assert about["backbone_tensors_sha256"] == read_manifest(start).backbone_sha256
    text = (folder / "README.md").read_text()
    assert "Its backbone is that of `test_resnet.random_folder_linear`; then all of it was trained with the labels of" in text


def test_classes_of_one_name_are_refused_first() -> None:
    model = open_model("random:test_resnet:1")
    check_can_save(model, ["a", "b"])
    with pytest.raises(UserError, match="two of these have the same"):
        check_can_save(model, ["a", "b", "a"])
