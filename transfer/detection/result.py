"""The result of a detection run, in the schema of all results."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from evaluation.tasks.runtime import device_name
from transfer.detection.engine.settings import describe, given_keys
from transfer.detection.run_folder import RunFacts
from zoo.data.boxes.detection_data import DetectionData
from zoo.results import DataFacts, Headline, ModelFacts, Result, SplitFacts
from zoo.results.provenance import software_versions

TASK = "detection"
HEADLINE = "box_AP"
_ENGINE = ("detectron2", "sal-detectron2", "fvcore", "pycocotools")


def make_result(
    facts: RunFacts,
    cfg: Any,
    data: DetectionData,
    metrics: dict[str, float],
    per_class: dict[str, dict[str, float]],
    *,
    seconds: float,
    commit: str | None,
    curve: list[dict[str, float]] | None = None,
    evaluated: dict[str, Any] | None = None,
    weights_sha256: str | None = None,
) -> Result:
    """The result of a finished training, or of an evaluation; its headline is the box AP averaged over IoU from 50 to 95 %.

    Parameters
    ----------
    metrics, per_class
        The AP of the test images, and those of each class by metric.
    seconds, commit
        What this process took, and the toolkit's commit when it began.
    curve
        ``{"step": ..., metrics}`` of each evaluation of a training.
    evaluated
        Of an evaluation by itself, which checkpoint, and which images; None: it is the end of the training.
    weights_sha256
        Of the file with the backbone that a training began with.
    """
    roles = {"test": data.test} if evaluated else {"train": data.train, "test": data.test}
    splits = {role: SplitFacts(split.name, len(split.images), split.skipped, facts.fingerprints[role]) for role, split in roles.items()}
    objects = {role: split.objects(data.classes) for role, split in roles.items()}
    counts: dict[str, Any] = {f"{role}_images": len(split.images) for role, split in roles.items()}
    counts |= {f"{role}_objects": sum(objects[role].values()) for role in roles}
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
            **({"evaluated": evaluated} if evaluated else {}),
        },
        headline=Headline(HEADLINE, metrics[HEADLINE]),
        metrics=metrics,
        counts={**counts, "broken_annotations": data.problems.counts},
        model=ModelFacts(**{**facts.model, "mean": mean, "std": std}),
        data=DataFacts(data.spec, data.kind, "class", len(data.classes), splits),
        seeds={"training": facts.seed},
        versions={**software_versions(), **_engine_versions()},
        device=device_name(torch.device(facts.device)),
        dtype="mixed" if cfg.SOLVER.AMP.ENABLED else "float32",
        processes=facts.processes,
        seconds={"evaluation" if evaluated else "training": round(seconds, 1)},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
        details={
            "per_class": {"names": data.classes, "test_objects": list(objects["test"].values()), **per_class},
            **({"curve": curve} if curve is not None else {}),
            **({"backbone_file_sha256": weights_sha256} if weights_sha256 else {}),
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
