"""Own data in detectron2: its loaders and evaluators see what ours read, and the right answers get 100."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from transfer.presence import has_detectron2, install_line
from zoo.data.boxes.detection_data import open_detection_data

if not has_detectron2():
    pytest.skip(f"detectron2 is not installed: {install_line()}", allow_module_level=True)

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.structures import Boxes, BoxMode, Instances

from transfer.detection.engine.dataset_catalog import make_evaluator, metrics_of, register


def test_voc_is_what_detectron2s_own_loader_reads(voc_shapes, tmp_path):
    data = open_detection_data(f"voc:{voc_shapes}")
    train, test = register(data, tmp_path, masks=False)
    for name, split in ((train, "trainval"), (test, "test")):
        theirs = load_voc_instances(str(voc_shapes), split, data.classes)
        for ours, record in zip(DatasetCatalog.get(name), theirs, strict=True):
            assert (ours["file_name"], ours["height"], ours["width"]) == (record["file_name"], record["height"], record["width"])
            boxes = [(a["bbox"], a["bbox_mode"], a["category_id"]) for a in ours["annotations"]]
            assert boxes == [(a["bbox"], a["bbox_mode"], a["category_id"]) for a in record["annotations"]]


def test_coco_is_what_detectron2s_own_loader_reads(coco_shapes, tmp_path):
    data = open_detection_data(f"coco:{coco_shapes}")
    train, _ = register(data, tmp_path, masks=True)
    theirs = load_coco_json(str(coco_shapes / "annotations/instances_train.json"), str(coco_shapes / "train"), "theirs")
    assert MetadataCatalog.get("theirs").thing_classes == data.classes
    for ours, record in zip(DatasetCatalog.get(train), theirs, strict=True):
        assert ours["file_name"] == record["file_name"]
        for a, b in zip(ours["annotations"], record["annotations"], strict=True):
            assert a["bbox"] == BoxMode.convert(b["bbox"], b["bbox_mode"], BoxMode.XYXY_ABS)
            assert (a["category_id"], a["segmentation"]) == (b["category_id"], b["segmentation"])


def evaluate(name, masks, answer):
    """Metrics of a detector that answers ``answer(record)`` = boxes, classes, scores, masks."""
    evaluator = make_evaluator(name, masks=masks)
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        boxes, classes, scores, found = answer(record)
        instances = Instances((record["height"], record["width"]))
        instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        instances.pred_classes = torch.tensor(classes, dtype=torch.long)
        instances.scores = torch.tensor(scores, dtype=torch.float32)
        if masks:
            instances.pred_masks = torch.tensor(np.array(found))
        evaluator.process([record], [{"instances": instances}])
    return evaluator.evaluate()


def truth(record):
    annotations = record["annotations"]
    masks = None
    if annotations and "segmentation" in annotations[0]:
        import pycocotools.mask as rle

        size = record["height"], record["width"]
        masks = [rle.decode(rle.merge(rle.frPyObjects(a["segmentation"], *size))).astype(bool) for a in annotations]
    return [a["bbox"] for a in annotations], [a["category_id"] for a in annotations], [0.9] * len(annotations), masks


def test_the_right_answer_gets_100_by_voc(voc_shapes, tmp_path):
    data = open_detection_data(f"voc:{voc_shapes}")
    _, test = register(data, tmp_path, masks=False)
    metrics, per_class = metrics_of(evaluate(test, False, truth))
    assert metrics == {"box_AP": 100.0, "box_AP50": 100.0, "box_AP75": 100.0}
    shown = {name for name, count in data.test.objects(data.classes).items() if count}
    assert per_class == {"box_AP": dict.fromkeys([name for name in data.classes if name in shown], 100.0)}


def test_the_right_answer_gets_100_by_coco_for_boxes_and_masks(coco_shapes, tmp_path):
    data = open_detection_data(f"coco:{coco_shapes}")
    _, test = register(data, tmp_path, masks=True)
    metrics, per_class = metrics_of(evaluate(test, True, truth))
    assert {name: value for name, value in metrics.items() if name.endswith(("AP", "AP50", "AP75"))} == pytest.approx(
        dict.fromkeys(("box_AP", "box_AP50", "box_AP75", "mask_AP", "mask_AP50", "mask_AP75"), 100.0)
    )
    assert set(per_class) == {"box_AP", "mask_AP"}


@pytest.mark.parametrize("metric_2007", [False, True])
def test_ours_is_detectron2s_voc_metric_where_every_class_is_shown(voc_shapes, tmp_path, metric_2007):
    data = open_detection_data(f"voc:{voc_shapes}")
    # Every class in the test images: those of the training images.
    data = type(data)(data.spec, data.kind, data.classes, data.train, data.train, data.problems, metric_2007)
    _, test = register(data, tmp_path, masks=False)
    random = np.random.default_rng(0)

    def guess(record):
        boxes, classes, _, _ = truth(record)
        boxes = [[value + random.normal(0, 2) for value in box] for box in boxes * 2]
        return boxes, classes * 2, random.random(len(boxes)).tolist(), None

    ours, theirs = make_evaluator(test, masks=False), PascalVOCDetectionEvaluator(test)
    theirs._class_names = [str(index) for index in range(len(data.classes))]
    answers = {record["image_id"]: guess(record) for record in DatasetCatalog.get(test)}
    results = []
    for evaluator in (ours, theirs):
        evaluator.reset()
        for record in DatasetCatalog.get(test):
            boxes, classes, scores, _ = answers[record["image_id"]]
            instances = Instances(
                (64, 64), pred_boxes=Boxes(torch.tensor(boxes)), scores=torch.tensor(scores), pred_classes=torch.tensor(classes)
            )
            evaluator.process([record], [{"instances": instances}])
        results.append(evaluator.evaluate()["bbox"])
    for name in ("AP", "AP50", "AP75"):
        assert results[0][name] == pytest.approx(results[1][name], abs=1e-9)
    assert 0 < results[0]["AP"] < results[0]["AP50"] < 100
    per_class = [value for name, value in results[0].items() if name.startswith("AP-")]
    assert np.mean(per_class) == pytest.approx(results[0]["AP"])


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_nothing_found_is_zero_and_a_class_that_is_not_shown_has_no_ap(kind, voc_shapes, coco_shapes, tmp_path):
    data = open_detection_data(f"{kind}:{voc_shapes if kind == 'voc' else coco_shapes}")
    images = copy.deepcopy(data.test.images)
    for image in images:
        image["annotations"] = [a for a in image["annotations"] if a["category_id"] != 0]
    data = type(data)(data.spec, kind, data.classes, data.train, type(data.test)("test", images), data.problems)
    _, test = register(data, tmp_path, masks=False)
    metrics, per_class = metrics_of(evaluate(test, False, lambda record: ([], [], [], None)))
    assert [metrics[name] for name in ("box_AP", "box_AP50", "box_AP75")] == [0.0, 0.0, 0.0]
    metrics, per_class = metrics_of(evaluate(test, False, truth))
    assert metrics["box_AP"] == pytest.approx(100.0)
    assert data.classes[0] not in per_class["box_AP"]
    assert all(map(math.isfinite, metrics.values()))


def test_what_is_not_trained_on(coco_shapes, tmp_path):
    data = open_detection_data(f"coco:{coco_shapes}")
    images = copy.deepcopy(data.train.images)
    images[0]["annotations"][0]["iscrowd"] = 1
    del images[0]["annotations"][1]["segmentation"]
    data = type(data)(data.spec, "coco", data.classes, type(data.train)("train", images), data.test, data.problems)
    for masks, count in ((True, 2), (False, 3)):
        train, _ = register(data, tmp_path, masks=masks)
        assert len(DatasetCatalog.get(train)[0]["annotations"]) == count
