"""A classifier that a task trained, as a zoo model: the backbone with its linear layer, the names of the classes, and its accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evaluation.extraction.labelled import LabelledData
from evaluation.tasks.runtime import Runtime, TrainedClassifier
from evaluation.tasks.top1.run import run_top1
from zoo.backbones import timm_config
from zoo.data.spec import without_place
from zoo.errors import UserError
from zoo.files import safe_name
from zoo.hashing import tensors_sha256
from zoo.model_folder.claims import publishable
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.manifest import Manifest
from zoo.models.classifiers import build_classifier, with_head
from zoo.models.model import Inputs, Model
from zoo.models.transforms import crop_pct_of
from zoo.results import Result
from zoo.results.provenance import software_versions, toolkit_commit

# Of zoo.json, what is known of the backbone, and stays true of it below a classifier.
_OF_BACKBONE = ("method", "encoder", "epochs", "steps", "data", "recipe", "licence", "licence_link")
# Kinds of models that are networks of timm's.
_KINDS = ("zoo", "run", "file", "timm", "torchvision", "random")
OWN = "own"


@dataclass(frozen=True)
class Saved:
    """A classifier that was written.

    Attributes
    ----------
    folder
        The zoo model.
    name
        Its name.
    classes, correct, images
        Number of classes; right answers of the saved network on the test images, and their number.
    counted
        Right answers that the evaluation counted.
    """

    folder: Path
    name: str
    classes: int
    correct: int
    images: int
    counted: int


def check_can_save(model: Model, classes: Sequence[str]) -> None:
    """Raise UserError, before anything is trained, for a model on whose top no classifier can be kept."""
    if model.kind not in _KINDS or model.layer is not None:
        what = "features of an inner layer" if model.layer is not None else f"a model of the kind '{model.kind}'"
        raise UserError(f"--save keeps networks of timm's by their own features, and '{model.name}' is {what}; leave --save out")
    if model.channels != "rgb":
        raise UserError("--save keeps networks that take RGB, as timm does; leave --channels out, or --save")
    if len(set(classes)) < len(classes):
        raise UserError("--save keeps classes by their names, and two of these have the same; rename one, or leave --save out")
    build_classifier(*_architecture(model), len(classes), image_size=model.input_size if model.fixed_input else None)


def save_classifier(
    folder: Path,
    model: Model,
    trained: TrainedClassifier,
    data: LabelledData,
    result: Result,
    runtime: Runtime,
    *,
    overwrite: bool = False,
) -> Saved:
    """Write a trained classifier as a zoo model, and measure it as it is written (task ``top1``, preset ``own``).

    Every process of a group makes the same call; the main one writes.

    Parameters
    ----------
    folder, overwrite
        As in :func:`zoo.model_folder.folder.write_zoo_model`.
    model
        What the task was run on.
    trained, result
        What came of it.
    data
        What it was trained and tested on.

    Returns
    -------
    Saved

    Raises
    ------
    UserError
        The network cannot carry the layer; the system refuses to write.
    """
    classes = data.classes
    whole = classifier_model(model, trained, classes, _name(model, data, result))
    # In the precision that it is used in, whatever it was trained in.
    measured = run_top1(whole, data, preset=OWN, runtime=replace(runtime, dtype="float32", keep=lambda _classifier: None))
    measured = replace(measured, protocol={**measured.protocol, "options": {"preset": OWN}})
    # What was measured with the backbone as it is below the layer is a claim of it, too.
    claims = [measured, *([result] if result.model.tensors_sha256 == tensors_sha256(_below(model, trained)) else [])]
    if runtime.processes.is_main:
        write_zoo_model(
            folder,
            whole.module.cpu(),
            _manifest(whole, model, trained, data, result, tuple(map(publishable, claims))),
            overwrite=overwrite,
        )
    counted = result.counts["correct"][result.headline.metric]
    return Saved(folder, whole.name, len(classes), measured.counts["correct"]["top1"], len(data.test), counted)


def classifier_model(model: Model, trained: TrainedClassifier, classes: Sequence[str], name: str) -> Model:
    """The whole network as an open model, on the CPU, that gives an output for each class."""
    backbone = (model.module if trained.backbone is None else trained.backbone).cpu().eval()
    if not (torch.isfinite(trained.weight).all() and torch.isfinite(trained.bias).all()):
        raise UserError("the classifier diverged, so there is nothing to keep; train it with a smaller rate")
    side = trained.transform.crop
    arch, arguments = _architecture(model)
    network = build_classifier(arch, arguments, len(classes), image_size=side if model.fixed_input else None)
    with torch.no_grad():
        network = with_head(network, backbone, trained.weight, trained.bias, side)
    transform = trained.transform
    return Model.of_backbone(
        network,
        name=name,
        kind="zoo",
        arch=arch,
        input_size=side,
        mean=transform.mean,
        std=transform.std,
        declared=Inputs(transform.mean, transform.std, "rgb"),
        interpolation=transform.interpolation,
        crop_pct=crop_pct_of(transform.resize, side),
        classes=tuple(classes),
    )


def _architecture(model: Model) -> tuple[str, dict[str, Any]]:
    """timm's name of the architecture, and the arguments that make it another function."""
    arguments = model.metadata.get("model_args") or (model.metadata.get("source") or {}).get("model_args") or {}
    return timm_config(model.module)["architecture"], dict(arguments)


def _below(model: Model, trained: TrainedClassifier) -> dict[str, torch.Tensor]:
    return (model.module if trained.backbone is None else trained.backbone).state_dict()


def _name(model: Model, data: LabelledData, result: Result) -> str:
    """``ARCH.TAG_DATA_TASK``, of the backbone's own name."""
    arch = _architecture(model)[0]
    if model.kind == "random":
        return f"{arch}.random_{safe_name(data.data.name)}_{result.task}"
    tag = safe_name(model.name.rpartition(":")[2] if model.kind in ("timm", "torchvision") else model.name)
    tag = tag.removeprefix(f"{arch}.").removeprefix(f"{arch}-")
    return f"{arch}.{'' if tag == arch else f'{tag}_'}{safe_name(data.data.name)}_{result.task}"


def _manifest(
    whole: Model, model: Model, trained: TrainedClassifier, data: LabelledData, result: Result, claims: tuple[Result, ...]
) -> Manifest:
    known = {name: model.metadata.get(name) for name in _OF_BACKBONE} if model.kind == "zoo" else _of_others(model)
    source = dict(model.metadata.get("source") or {}) if model.kind == "zoo" else {}
    facts: dict[str, Any] = {"method": None} | {name: value for name, value in known.items() if value is not None}
    arguments = _architecture(model)[1]
    transform = trained.transform
    return Manifest(
        name=whole.name,
        arch=whole.arch,
        image_size=transform.crop,
        normalisation={"mean": list(transform.mean), "std": list(transform.std)},
        interpolation=transform.interpolation,
        crop_pct=crop_pct_of(transform.resize, transform.crop),
        **facts,
        source={
            **source,
            **({"model_args": arguments} if arguments else {}),
            "classifier": {
                "backbone": model.name,
                "backbone_kind": model.kind,
                "backbone_tensors_sha256": model.tensors_sha256,
                "trained": "the linear layer" if trained.backbone is None else "the whole network",
                "task": result.task,
                "preset": result.preset,
                "data": without_place(data.data.spec),
                "level": data.level,
                "images": result.counts.get("trained_on", result.counts.get("train_images")),
                "headline": {"metric": result.headline.metric, "value": result.headline.value},
                "protocol": result.protocol,
                "seeds": result.seeds,
                "date": result.date,
                # Of a classifier that was made of a classifier.
                **({"before": source["classifier"]} if "classifier" in source else {}),
            },
            "commit": toolkit_commit(),
            "versions": software_versions(),
        },
        classes=whole.classes,
        results=claims,
    )


def _of_others(model: Model) -> dict[str, Any]:
    """What is known of a backbone that is no zoo model."""
    facts = model.metadata
    if model.kind == "run":
        method = facts["recipe"].get("method")
        return {
            "method": method.get("name") if isinstance(method, dict) else method,
            "encoder": facts["encoder"],
            "epochs": int(facts["epoch"]),
            "steps": int(facts["step"]),
            "data": without_place(str(facts["data"])),
        }
    return {"licence": facts.get("license")}
