"""The annotations themselves, given as detections, score AP 100: at every size, with fractions of a pixel, counted from 0 or 1."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detection_layouts import as_coco, as_voc, write_xml

from transfer.presence import has_detectron2, install_line
from zoo.data.boxes.detection_data import open_detection_data

if not has_detectron2():
    pytest.skip(f"detectron2 is not installed: {install_line()}", allow_module_level=True)

import pycocotools.mask as rle
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from transfer.detection.engine.dataset_catalog import make_evaluator, metrics_of, register


def score_of_own(data, folder, *, masks=False, shift=0.0):
    """Metrics of a detector that answers with the annotations, moved by ``shift`` times each box's width."""
    _, name = register(data, folder, masks=masks)
    evaluator = make_evaluator(name, masks=masks)
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        annotations = [a for a in record["annotations"] if not a["iscrowd"] and (not masks or "segmentation" in a)]
        boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float64).reshape(-1, 4)
        boxes[:, ::2] += shift * (boxes[:, 2:3] - boxes[:, :1])
        size = record["height"], record["width"]
        found = Instances(size, pred_boxes=Boxes(boxes.float()), scores=torch.full((len(annotations),), 0.9))
        found.pred_classes = torch.tensor([a["category_id"] for a in annotations], dtype=torch.long)
        if masks:
            drawn = [one if isinstance(one := a["segmentation"], dict) else rle.merge(rle.frPyObjects(one, *size)) for a in annotations]
            found.pred_masks = torch.tensor(np.array([rle.decode(one) for one in drawn]).astype(bool))
        evaluator.process([record], [{"instances": found}])
    return metrics_of(evaluator.evaluate())[0]


def aps(metrics):
    return [round(value, 6) for name, value in metrics.items() if name.split("_")[1] in ("AP", "AP50", "AP75")]


def voc_of(root, side, *, fraction, start, seed=0):
    """A VOC set of boxes of about ``side`` pixels in a grid, none over another; ``start`` is the number of the first pixel."""
    as_voc(root, train=2, test=2)
    random = np.random.default_rng(seed)
    cell = side + 2
    for path in (root / "Annotations").iterdir():
        objects = []
        for index in range(max(1, 62 // cell) ** 2):
            left, top = cell * (index % (62 // cell)) + 1, cell * (index // (62 // cell)) + 1
            x0, y0, x1, y1 = (np.array([left, top, left + side, top + side]) + random.uniform(-0.5, 0.5, 4) * fraction).tolist()
            # The files name the pixels at the corners, both included.
            objects.append(("circle", (x0 + start, y0 + start, x1 - 1 + start, y1 - 1 + start)))
        if start == 0:
            objects[0] = ("circle", (0, 0, side - 1, side - 1))
        write_xml(path, objects)
    return root


@pytest.mark.parametrize("side", [2, 3, 6, 10, 20, 40])
@pytest.mark.parametrize("fraction", [0, 1])
@pytest.mark.parametrize("start", [0, 1])
def test_voc_at_every_size(tmp_path, side, fraction, start):
    data = open_detection_data(f"voc:{voc_of(tmp_path / 'set', side, fraction=fraction, start=start)}")
    assert data.problems.counts == {}
    assert any("count pixels from 0" in note for note in data.notes) is (start == 0)
    assert data.problems.procedure == (2 if fraction or start == 0 else 1)
    assert aps(score_of_own(data, tmp_path / "own")) == [100, 100, 100]


def test_a_0_based_set_has_the_boxes_of_the_same_set_from_1(tmp_path):
    zero, one = (open_detection_data(f"voc:{voc_of(tmp_path / str(start), 10, fraction=0, start=start)}") for start in (0, 1))
    for ours, theirs in zip(zero.test.images, one.test.images, strict=True):
        assert [a["bbox"] for a in ours["annotations"]][1:] == [a["bbox"] for a in theirs["annotations"]][1:]


@pytest.mark.parametrize("fraction", [0, 1])
def test_a_finer_scale_changes_no_overlap(tmp_path, fraction):
    """Boxes moved by 20 % overlap by 0.8 / 1.2 = 0.667: found at 50 to 65 %, four of the ten thresholds."""
    data = open_detection_data(f"voc:{voc_of(tmp_path / 'set', 20, fraction=fraction, start=1)}")
    scale = score_of_own(data, tmp_path / "own", shift=0.2)
    assert MetadataCatalog.get(f"{data.spec} (test)").box_scale == (65536 if fraction else 1)
    assert (scale["box_AP"], scale["box_AP50"], scale["box_AP75"]) == (40, 100, 0)


def coco_of(root, change):
    as_coco(root, train=3, test=3)
    for name in ("train", "val"):
        path = root / "annotations" / f"instances_{name}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return open_detection_data(f"coco:{root}")


def fractions(content):
    random = np.random.default_rng(1)
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x + random.uniform(), y + random.uniform(), width * 0.713, height * 0.21]


def as_numbers(content):
    for annotation in content["annotations"]:
        mask = rle.decode(rle.merge(rle.frPyObjects(annotation["segmentation"], 64, 64))).astype(bool).T.ravel()
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
        counts = np.diff([0, *edges.tolist()]).tolist()
        annotation["segmentation"] = {"size": [64, 64], "counts": [*counts, 64 * 64 - sum(counts)]}


def some_without(content):
    del content["annotations"][1]["segmentation"]
    content["annotations"][2]["segmentation"] = [[1, 1, 2, 2]]


def some_swapped(content):
    content["annotations"][0]["segmentation"] = {"size": [32, 128], "counts": [0, 64 * 64]}


def crowds(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def only_masks(content):
    for annotation in content["annotations"]:
        del annotation["bbox"], annotation["area"]


@pytest.mark.parametrize(
    "change", [fractions, as_numbers, some_without, some_swapped, crowds, only_masks], ids=lambda change: change.__name__
)
def test_coco_with_masks(tmp_path, change):
    data = coco_of(tmp_path / "set", change)
    assert aps(score_of_own(data, tmp_path / "own", masks=True)) == [100] * 6
    assert data.has_masks


def test_run_lengths_as_numbers_are_trained_on(tmp_path):
    from detectron2.config import get_cfg

    from transfer.detection.engine.mapper import LayerMapper

    data = coco_of(tmp_path / "set", as_numbers)
    same = coco_of(tmp_path / "same", lambda content: None)
    assert data.has_bitmaps
    cfg = get_cfg()
    cfg.INPUT.MASK_FORMAT, cfg.MODEL.MASK_ON = "bitmask", True
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (64,), "none"
    drawn = []
    for one, folder in ((data, "a"), (same, "b")):
        train, _ = register(one, tmp_path / folder, masks=True)
        drawn.append(LayerMapper.of_dataset(cfg, train, is_train=True)(DatasetCatalog.get(train)[0])["instances"].gt_masks.tensor)
    assert drawn[0].any()
    assert torch.equal(drawn[0], drawn[1])
