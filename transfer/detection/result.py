"""The result of a detection run, in the schema of all results."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from evaluation.tasks.runtime import device_name
from transfer.detection.engine.settings import describe, given_keys
from transfer.detection.engine.trainer import Trainer
from transfer.detection.run_folder import RunFacts
from zoo.data.boxes.detection_data import DetectionData
from zoo.hashing import file_sha256
from zoo.results import DataFacts, Headline, ModelFacts, Result, SplitFacts
from zoo.results.provenance import software_versions

TASK = "detection"
HEADLINE = "box_AP"
_ENGINE = ("detectron2", "sal-detectron2", "fvcore", "pycocotools")


def make_result(facts: RunFacts, cfg: Any, data: DetectionData, trainer: Trainer, *, seconds: float, commit: str | None) -> Result:
    """The result of a finished training; its headline is the box AP averaged over IoU from 50 to 95 %.

    Parameters
    ----------
    seconds, commit
        What this process took, and the toolkit's commit when it began.
    """
    final = trainer.evaluations[-1]
    metrics = {name: value for name, value in final.items() if name != "step"}
    splits = {
        role: SplitFacts(split.name, len(split.images), split.skipped, facts.fingerprints[role])
        for role, split in (("train", data.train), ("test", data.test))
    }
    train_objects, test_objects = data.train.objects(data.classes), data.test.objects(data.classes)
    per_class = trainer.per_class
    if len(data.classes) == 1:
        # COCO's evaluator has no table of one class.
        per_class = {name: {data.classes[0]: metrics[name]} for name in per_class}
    mean, std = ((values[0], values[1], values[2]) for values in (facts.model["mean"], facts.model["std"]))
    return Result(
        task=TASK,
        preset=facts.config,
        protocol={
            **describe(cfg, facts.config),
            "metric": data.metric,
            # Another than the first where boxes or classes of this set were once read otherwise.
            **({"procedure": data.problems.procedure} if data.problems.procedure > 1 else {}),
            "changed": sorted(given_keys(facts.overrides)),
            "overrides": facts.overrides,
            "scaled": facts.scaled,
        },
        headline=Headline(HEADLINE, metrics[HEADLINE]),
        metrics=metrics,
        counts={
            "train_images": len(data.train.images),
            "test_images": len(data.test.images),
            "train_objects": sum(train_objects.values()),
            "test_objects": sum(test_objects.values()),
            "broken_annotations": data.problems.counts,
        },
        model=ModelFacts(**{**facts.model, "mean": mean, "std": std}),
        data=DataFacts(data.spec, data.kind, "class", len(data.classes), splits),
        seeds={"training": facts.seed},
        versions={**software_versions(), **_engine_versions()},
        device=device_name(torch.device(facts.device)),
        dtype="mixed" if cfg.SOLVER.AMP.ENABLED else "float32",
        processes=facts.processes,
        seconds={"training": round(seconds, 1)},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
        details={
            "per_class": {"names": data.classes, "test_objects": list(test_objects.values()), **per_class},
            "curve": trainer.evaluations,
            "backbone_file_sha256": file_sha256(cfg.MODEL.WEIGHTS),
            "notes": facts.notes,
        },
    )


def _engine_versions() -> dict[str, str]:
    found = {}
    for name in _ENGINE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
