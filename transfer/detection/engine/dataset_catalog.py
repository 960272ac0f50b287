"""Own data in detectron2's catalogue, and detectron2's own evaluators on it."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as rle
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, PascalVOCDetectionEvaluator, inference_on_dataset
from detectron2.evaluation.pascal_voc_evaluation import parse_rec, voc_eval
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm

from zoo.data.boxes.annotations import Record, Split
from zoo.data.boxes.coco import write_coco
from zoo.data.boxes.detection_data import DetectionData
from zoo.data.boxes.voc import voc_scale, write_voc

# VOC's metric averages over these, in percent of IoU.
_THRESHOLDS = range(50, 100, 5)
_PREFIX = {"bbox": "box", "segm": "mask"}


def register(data: DetectionData, folder: Path, *, masks: bool) -> tuple[str, str]:
    """Put a data set into detectron2's catalogue, and write down what its evaluators read.

    Parameters
    ----------
    folder
        Where the test set's cleaned annotations are written.
    masks
        Whether masks are trained: objects without one are left out of the training images then.

    Returns
    -------
    The names of the training and the test set; what an earlier call registered under them is replaced.
    """
    names = f"{data.spec} (train)", f"{data.spec} (test)"
    for name, split, training in zip(names, (data.train, data.test), (True, False), strict=True):
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        records = _records(split, masks=masks, training=training)
        DatasetCatalog.register(name, lambda records=records: records)
        MetadataCatalog.get(name).set(thing_classes=data.classes, evaluator_type=data.kind, reading=split.reading)
    test = MetadataCatalog.get(names[1])
    if comm.is_main_process():
        if data.kind == "voc":
            write_voc(folder, data.test)
        else:
            write_coco(folder / "test.json", data.test, data.classes, masks=masks)
    comm.synchronize()
    if data.kind == "voc":
        test.set(dirname=str(folder), split="test", year=2007 if data.metric_2007 else 2012, box_scale=voc_scale(data.test))
        parse_rec.cache_clear()  # an earlier run of this process may have had the same folder
    else:
        ids = {index + 1: index for index in range(len(data.classes))}
        test.set(json_file=str(folder / "test.json"), thing_dataset_id_to_contiguous_id=ids)
    return names


def _records(split: Split, *, masks: bool, training: bool) -> list[Record]:
    """The images as detectron2 takes them; ids are positions, as in the evaluators' files."""
    records = []
    for index, image in enumerate(split.images):
        annotations = []
        for annotation in image["annotations"]:
            if training and (annotation["iscrowd"] or (masks and "segmentation" not in annotation)):
                continue
            kept = {"bbox": annotation["bbox"], "bbox_mode": BoxMode.XYXY_ABS, "category_id": annotation["category_id"]}
            if masks and "segmentation" in annotation:
                kept["segmentation"] = _compressed(annotation["segmentation"])
            annotations.append({**kept, "iscrowd": annotation["iscrowd"], "difficult": annotation.get("difficult", 0)})
        records.append({**image, "image_id": index, "annotations": annotations})
    return records


def _compressed(mask: Any) -> Any:
    """A mask as detectron2's mapper takes it: run lengths that are numbers, compressed."""
    if isinstance(mask, dict) and isinstance(mask["counts"], list):
        return rle.frPyObjects(mask, *mask["size"])
    return mask


class VocEvaluator(PascalVOCDetectionEvaluator):
    """detectron2's VOC evaluator that also gives AP per class, and is not confused by a class that no test image shows.

    Its own mean is not a number then, since that class's AP is 0/0.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._scale = MetadataCatalog.get(name).box_scale

    def process(self, inputs: Any, outputs: Any) -> None:
        if self._scale != 1:
            # detectron2 writes a tenth of a pixel, which is much of a small box.
            outputs = [{"instances": _scaled(output["instances"], self._scale)} for output in outputs]
        super().process(inputs, outputs)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        result: dict[str, dict[str, float]] = {"bbox": {}}
        per_threshold: dict[int, list[float]] = {threshold: [] for threshold in _THRESHOLDS}
        with tempfile.TemporaryDirectory() as folder:
            template = str(Path(folder) / "{}.txt")
            for index, name in enumerate(self._class_names):
                lines = [line for predictions in gathered for line in predictions.get(index, [])]
                Path(template.format(index)).write_text("\n".join(lines))
                aps = [self._average_precision(template, index, threshold) for threshold in _THRESHOLDS]
                if not any(map(math.isnan, aps)):
                    for threshold, ap in zip(_THRESHOLDS, aps, strict=True):
                        per_threshold[threshold].append(ap)
                result["bbox"][f"AP-{name}"] = float(np.mean(aps))
        means = {threshold: float(np.mean(aps)) for threshold, aps in per_threshold.items()}
        result["bbox"] |= {"AP": float(np.mean(list(means.values()))), "AP50": means[50], "AP75": means[75]}
        return result

    def _average_precision(self, template: str, index: int, threshold: int) -> float:
        with np.errstate(invalid="ignore"):
            _, _, ap = voc_eval(
                template,
                self._anno_file_template,
                self._image_set_path,
                str(index),
                ovthresh=threshold / 100,
                use_07_metric=self._is_2007,
            )
        present = any(record["name"] == str(index) and not record["difficult"] for records in self._records() for record in records)
        return float(ap) * 100 if present else math.nan

    def _records(self) -> list[list[dict[str, Any]]]:
        names = Path(self._image_set_path).read_text().split()
        return [parse_rec(self._anno_file_template.format(name)) for name in names]


def _scaled(found: Instances, scale: int) -> Instances:
    boxes = Boxes(found.pred_boxes.tensor * scale)
    return Instances(found.image_size, pred_boxes=boxes, scores=found.scores, pred_classes=found.pred_classes)


def make_evaluator(name: str, *, masks: bool) -> DatasetEvaluator:
    """detectron2's evaluator for a registered test set: VOC's AP or COCO's, by the layout of the data."""
    if MetadataCatalog.get(name).evaluator_type == "voc":
        return VocEvaluator(name)
    return COCOEvaluator(name, tasks=("bbox", "segm") if masks else ("bbox",), use_fast_impl=True)


def evaluate_model(model: Any, loader: Any, name: str, *, masks: bool) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Metrics and AP per class (:func:`metrics_of`) of a model on a registered test set; both are empty on all but the main process.

    Parameters
    ----------
    loader
        Gives the test images in order, as the model takes them.
    masks
        Whether masks are evaluated too.
    """
    # pycocotools prints its tables; they belong into detectron2's log.
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        results = inference_on_dataset(model, loader, make_evaluator(name, masks=masks))
    if printed.getvalue():
        logging.getLogger("detectron2.evaluation").info(printed.getvalue())
    return metrics_of(results) if results else ({}, {})


def metrics_of(results: dict[str, dict[str, float]]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Metrics by our names (``box_AP``, ``box_AP50``, ``mask_AP75``, ...), and AP per class by metric; what has no value is left out.

    A model that detects nothing has an AP of 0, which COCO's evaluator does not say.
    """
    metrics, classes = {}, {}
    for task, values in results.items():
        prefix = _PREFIX[task]
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
            value = values.get(name, math.nan)
            if math.isfinite(value):
                metrics[f"{prefix}_{name}"] = float(value)
            elif name in ("AP", "AP50", "AP75"):
                metrics[f"{prefix}_{name}"] = 0.0
        per_class = {name.removeprefix("AP-"): float(value) for name, value in values.items() if name.startswith("AP-")}
        classes[f"{prefix}_AP"] = {name: value for name, value in per_class.items() if math.isfinite(value)}
    return metrics, classes
