"""What a run's detector is used for afterwards: evaluation by itself, detections in images of one's own."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from detection_layouts import as_coco
from PIL import Image
from typer.testing import CliRunner

from transfer.cli import app
from transfer.presence import has_detectron2, install_line
from zoo.console import EXIT_STOPPED
from zoo.errors import UserError
from zoo.results import load_result

if not has_detectron2():
    pytest.skip(f"detectron2 is not installed: {install_line()}", allow_module_level=True)

import pycocotools.mask as coco_masks
from pycocotools.coco import COCO

from transfer.detection import detect
from transfer.detection.drawing import Shown, draw
from transfer.detection.evaluate import evaluate
from transfer.detection.matching import Found, match, overlap
from transfer.detection.predict import predict

VALUES = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.MASK_ON": True,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 16,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 8,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ANCHOR_GENERATOR.SIZES": "[[8],[16],[32],[64],[128]]",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 3,
    "SOLVER.STEPS": "(2,)",
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "TEST.EVAL_PERIOD": 0,
    "TEST.PRECISE_BN.NUM_ITER": 1,
}
WORDS = [str(word) for pair in VALUES.items() for word in pair]


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A Mask R-CNN of a few iterations, on a set of which one image of each split is cut short."""
    root = as_coco(tmp_path_factory.mktemp("data") / "shapes", train=4, test=3)
    for path in (root / "train/1.png", root / "val/2.png"):
        path.write_bytes(path.read_bytes()[:-200])
    out = tmp_path_factory.mktemp("runs") / "run"
    said: list[str] = []
    result = detect.start("small_r18_fpn", "random", f"coco:{root}", out, WORDS, device="cpu", say=said.append).result
    return out, root, result, said


def test_images_that_cannot_be_decoded_are_found_before_the_first_iteration(run, tmp_path):
    out, root, result, said = run
    assert f"  2 images that cannot be opened: listed in {out}/annotations.txt" in said
    assert (result.counts["train_images"], result.counts["test_images"]) == (3, 2)
    assert {role: split.skipped for role, split in result.data.splits.items()} == {"train": 1, "test": 1}
    listed = (out / "annotations.txt").read_text()
    assert f"{root}/train/1.png: " in listed
    assert f"{root}/val/2.png: " in listed
    with pytest.raises(UserError, match=r"are broken: 2 images that cannot be opened; the first is .*1\.png"):
        detect.start("small_r18_fpn", "random", f"coco:{root}", tmp_path / "no", WORDS, device="cpu", strict=True, say=quiet)
    assert not (tmp_path / "no").exists()


def test_a_run_goes_on_after_such_an_image_was_mended(run, tmp_path):
    out, root, result, _ = run
    copy, data = tmp_path / "run", tmp_path / "shapes"
    shutil.copytree(out, copy)
    shutil.copytree(root, data)
    (copy / "result.json").unlink()
    for path in (data / "train/1.png", data / "val/2.png"):
        Image.new("RGB", (64, 64)).save(path)
    facts = json.loads((copy / "run.json").read_text())
    facts["data"] = f"coco:{data}"
    facts["undecodable"] = {name.replace(str(root), str(data)): reason for name, reason in facts["undecodable"].items()}
    (copy / "run.json").write_text(json.dumps(facts))
    assert detect.resume(copy, say=quiet).result.metrics == result.metrics


def test_an_evaluation_by_itself_gives_what_the_training_gave(run, tmp_path):
    out, root, result, _ = run
    again, path = evaluate(out, f"coco:{root}", device="cpu", say=quiet)
    assert again.metrics == result.metrics
    assert again.details["per_class"] == result.details["per_class"]
    assert again.data.splits == {"test": result.data.splits["test"]}
    assert load_result(path) == again
    with pytest.raises(UserError, match="exists already; choose another --out, or give --overwrite"):
        evaluate(out, f"coco:{root}", device="cpu", out=path, say=quiet)
    assert again.protocol["evaluated"]["checkpoint"] == "model_final.pth"
    # Classes are known by their names, whatever numbers and order they have.
    other = tmp_path / "other"
    shutil.copytree(root, other)
    for name in ("train", "val"):
        file = other / "annotations" / f"instances_{name}.json"
        content = json.loads(file.read_text())
        for category in content["categories"]:
            category["id"] = 1000 - category["id"]
        for annotation in content["annotations"]:
            annotation["category_id"] = 1000 - annotation["category_id"]
        file.write_text(json.dumps(content))
    there, _ = evaluate(out, f"coco:{other}", device="cpu", say=quiet)
    assert there.metrics == result.metrics
    whole, _ = evaluate(out, f"coco:{root}", part="all", checkpoint="1", device="cpu", out=tmp_path / "all.json", say=quiet)
    assert (whole.counts["test_images"], whole.protocol["evaluated"]["part"]) == (5, "all")
    assert whole.protocol["evaluated"]["checkpoint"] == "model_0000001.pth"


def test_mistakes_of_an_evaluation_are_one_sentence(run, tmp_path):
    out, root, _, _ = run
    foreign = as_coco(tmp_path / "foreign", train=2, test=2)
    for name in ("train", "val"):
        file = foreign / "annotations" / f"instances_{name}.json"
        content = json.loads(file.read_text())
        content["categories"] = [{**category, "name": f"my {category['name']}"} for category in content["categories"]]
        file.write_text(json.dumps(content))
    for arguments, sentence in (
        ({"data": f"coco:{foreign}"}, "which the detector was not trained for"),
        ({"data": f"coco:{root}", "checkpoint": "77"}, "has no checkpoint '77'; it has model_"),
        ({"data": f"coco:{root}", "part": "half"}, "--part half is none of test, train, all"),
    ):
        with pytest.raises(UserError, match=sentence) as refusal:
            evaluate(out, device="cpu", say=quiet, **arguments)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="is not a detection run"):
        evaluate(tmp_path, f"coco:{root}", say=quiet)


def test_detections_are_drawn_and_written_as_coco_and_as_a_table(run, tmp_path):
    out, root, _, _ = run
    photos = tmp_path / "photos"
    shutil.copytree(root / "val", photos / "inner")
    shutil.copy(root / "train/0.png", photos / "0.png")
    done = CliRunner().invoke(
        app, ["predict", str(out), str(photos), "--out", str(tmp_path / "found"), "--score", "0.05", "--batch", "2", "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    found = tmp_path / "found"
    assert "  1 images could not be read" in done.output
    assert (found / "not_read.txt").read_text().startswith(f"{photos}/inner/2.png\t")
    assert sorted(path.relative_to(found / "drawn").as_posix() for path in (found / "drawn").rglob("*.jpg")) == [
        "0.png.jpg", "inner/0.png.jpg", "inner/1.png.jpg",
    ]  # fmt: skip
    coco = COCO(str(found / "detections.json"))
    assert sorted(image["file_name"] for image in coco.loadImgs(coco.getImgIds())) == ["0.png", "inner/0.png", "inner/1.png"]
    annotations = coco.loadAnns(coco.getAnnIds())
    with (found / "detections.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(annotations) > 0
    for row, annotation in zip(rows, annotations, strict=True):
        assert row["class"] == coco.cats[annotation["category_id"]]["name"]
        assert float(row["score"]) == pytest.approx(annotation["score"], abs=1e-6)
        assert float(row["score"]) >= 0.05
        x, y, width, height = annotation["bbox"]
        assert [float(row[key]) for key in ("x0", "y0", "x1", "y1")] == pytest.approx([x, y, x + width, y + height], abs=0.01)
        assert coco_masks.decode(annotation["segmentation"]).shape == (64, 64)
    # One image at a time gives the same as two.
    predict(out, [photos], tmp_path / "one", score=0.05, batch=1, device="cpu", say=quiet)
    alone = json.loads((tmp_path / "one/detections.json").read_text())["annotations"]
    assert [a["category_id"] for a in alone] == [a["category_id"] for a in annotations]
    assert np.allclose([a["bbox"] for a in alone], [a["bbox"] for a in annotations], atol=0.01)
    with pytest.raises(UserError, match="exists already; choose another --out, or give --overwrite"):
        predict(out, [photos], tmp_path / "one", device="cpu", say=quiet)
    with pytest.raises(UserError, match="not both"):
        predict(out, [photos], tmp_path / "both", data=f"coco:{root}", device="cpu", say=quiet)
    with pytest.raises(UserError, match="there is no image or folder"):
        predict(out, [tmp_path / "none"], tmp_path / "both", device="cpu", say=quiet)


def test_misses_and_false_finds_stand_in_the_table(run, tmp_path):
    out, root, _, _ = run
    predict(out, [], tmp_path / "found", data=f"coco:{root}", score=0.05, device="cpu", say=quiet)
    with (tmp_path / "found/detections.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["match"] for row in rows} <= {"right", "false", "missed"}
    # Every object of the two images that can be read is found or missed.
    assert sum(row["match"] in ("right", "missed") for row in rows) == 8
    assert all((row["score"] == "") == (row["match"] == "missed") for row in rows)
    assert Image.open(tmp_path / "found/sheet.png").size[0] > 700


def test_matching_by_hand():
    def box(x, **more):
        return {"bbox": [x, 0, x + 10, 10], "category_id": 0, "iscrowd": 0, **more}

    def found(x, score, number=0):
        return Found((x, 0, x + 10, 10), score, number)

    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (5, 0, 105, 10), of_first=True) == 0.5
    annotations = [box(0), box(100), box(200, difficult=1), box(300, iscrowd=1), box(400)]
    detections = [found(1, 0.3), found(0, 0.9), found(100, 0.8, number=1), found(200, 0.7), found(300, 0.6), found(404, 0.5)]
    matches = match(detections, annotations)
    # A second detection of the first object is false, a wrong class too, and an overlap of 6/14 is too little.
    assert (matches.right, matches.false, matches.ignored, matches.missed) == ([1], [0, 2, 5], [3, 4], [1, 4])


def test_labels_never_cover_each_other():
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 180, (60, 2))
    sides = generator.uniform(4, 40, (60, 2))
    shown = [
        Shown((x, y, x + w, y + h), f"class {number} 0.{number:02d}", (200, 30, 30), dashed=number % 3 == 0)
        for number, ((x, y), (w, h)) in enumerate(zip(corners.tolist(), sides.tolist(), strict=True))
    ]
    drawn = draw(Image.new("RGB", (200, 150)), shown)
    assert drawn.picture.size == (800, 600)
    assert len(drawn.labels) + drawn.without_place == 60
    assert len(drawn.labels) >= 40
    for number, (x0, y0, x1, y1) in enumerate(drawn.labels):
        assert 0 <= x0 < x1 < 800
        assert 0 <= y0 < y1 < 600
        for a0, b0, a1, b1 in drawn.labels[:number]:
            assert x1 < a0 or a1 < x0 or y1 < b0 or b1 < y0


@pytest.mark.slow
def test_a_signal_to_the_whole_group_with_loader_processes_saves_and_leaves_with_status_3(tmp_path):
    data = as_coco(tmp_path / "shapes", train=8, test=2)
    out = tmp_path / "run"
    words = [*WORDS, "SOLVER.MAX_ITER", "5000", "SOLVER.CHECKPOINT_PERIOD", "5000"]
    at = words.index("DATALOADER.NUM_WORKERS")
    words[at + 1] = "2"
    command = ["detect", "small_r18_fpn", "--model", "random", "--data", f"coco:{data}", "--out", str(out), "--device", "cpu", *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "transfer", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        log = out / "log.jsonl"
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 2):
            time.sleep(0.1)
        assert len(psutil.Process(process.pid).children(recursive=True)) >= 2
        os.killpg(process.pid, signal.SIGTERM)
        said, errors = process.communicate(timeout=100)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == EXIT_STOPPED, errors
    assert f"stopped by SIGTERM; go on with: transfer detect --resume {out}" in said
    assert len(list(out.glob("model_*.pth"))) == 1
