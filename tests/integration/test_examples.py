"""Each example is short, and does what it says, on embedded data."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from detection_layouts import as_coco

import evaluation
import pretrain
from transfer.formats.detectron2_file import open_file
from transfer.presence import has_detectron2, install_line
from zoo.data import open_data
from zoo.model_folder.manifest import read_manifest
from zoo.model_spec import open_model
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD
from zoo.results import load_result

FOLDER = Path(__file__).parents[2] / "examples"
MODEL = "random:resnet10_small"
# A detector that trains in seconds.
TINY = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 16,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 8,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.STEPS": "(1,)",
    "SOLVER.WARMUP_ITERS": 0,
    "TEST.PRECISE_BN.NUM_ITER": 1,
}


def example(name: str) -> Any:
    return runpy.run_path(str(FOLDER / f"{name}.py"))["main"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_it_is_short_and_says_how_it_is_run(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 45
    assert f"    python examples/{path.name}" in "\n".join(lines)


def test_a_timm_model_beside_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    found = example("evaluate_my_timm_model")(MODEL, "digits")
    assert found == {name: evaluation.knn(name, "digits", k=[20]).headline.value for name in ("pixels", MODEL)}
    assert "logistic regression" in capsys.readouterr().out


def test_contrastive_crops_are_two_views_of_the_same_images() -> None:
    first, second = example("contrastive_crop_in_my_loop")(32)
    assert first.shape == second.shape == (16, 3, 48, 48)
    assert not (first == second).all()
    assert 0 <= float(first.min()) < float(first.max()) <= 1


def test_prototypes_have_levels_of_clusters() -> None:
    hierarchy = example("prototypes_of_my_features")(MODEL, "digits", (20, 8))
    assert hierarchy.levels == (20, 8)
    assert len(hierarchy.assignments[0]) == len(open_data("digits").role("train"))


def test_a_run_becomes_a_model_with_a_number_on_its_card(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"backbone": "resnet10_small", "batch": 16, "epochs": 1, "device": "cpu", "trackers": []}
    keys = {"views.size": 8, "views.blur": 0, "knn.every_epochs": 0}
    pretrain.train("simclr_cifar10_cpu", out=tmp_path / "run", data="digits", keys=keys, **settings)
    value = example("publish_a_model")(str(tmp_path / "run"), "digits", str(tmp_path / "model"))
    (result,) = read_manifest(tmp_path / "model").results
    assert result.headline.value == value


def test_a_checkpoint_becomes_a_detector(tmp_path: Path) -> None:
    if not has_detectron2():
        pytest.skip(f"detectron2 is not installed: {install_line()}")
    data = as_coco(tmp_path / "shapes", train=4, test=2)
    checkpoint, run = tmp_path / "resnet18.pth", tmp_path / "run"
    state = open_model("random:resnet18:0").module.state_dict()
    # As if it had been trained: a network that has never seen an image is refused.
    torch.save({name: tensor + 0.01 if name.endswith("running_mean") else tensor for name, tensor in state.items()}, checkpoint)
    value = example("published_checkpoint_in_detectron2")(
        str(checkpoint), "small_r18_fpn", f"coco:{data}", str(run), str(data / "val"), **TINY
    )
    assert load_result(run / "result.json").headline.value == value
    assert open_file(run.with_suffix(".pkl")).tensors_sha256 == load_result(run / "result.json").model.tensors_sha256
    assert len(list((tmp_path / "run-found/drawn").iterdir())) == 2


def test_a_torch_dataset_is_read_as_it_is() -> None:
    example_file = runpy.run_path(str(FOLDER / "my_torch_dataset.py"))
    found = example_file["main"]("pixels")
    # The same by hand: raw pixels of both splits, cosine neighbours weighted by exp(s / .07).
    splits = [example_file["Stripes"](count, seed) for count, seed in ((200, 0), (100, 1))]
    images, labels = zip(*([torch.stack([one[i][0] for i in range(len(one))]), torch.arange(len(one)) % 2] for one in splits), strict=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    bank, asked = (torch.nn.functional.normalize(((part * 255).round() / 255 - mean).div(std).flatten(1), dim=1) for part in images)
    near, index = (asked @ bank.T).topk(5)
    votes = torch.zeros(100, 2).scatter_add_(1, labels[0][index], (near / 0.07).exp())
    assert found["knn"] == pytest.approx(100 * float((votes.argmax(1) == labels[1]).float().mean()), abs=1.01)
    assert found["knn"] > 60
