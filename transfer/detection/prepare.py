"""What comes before a detection run: everything that it begins with, opened, fitted to each other and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evaluation.tasks.runtime import device_name
from transfer.conversion import open_source
from transfer.detection import run_folder
from transfer.detection.engine.settings import (
    check_keys,
    check_model,
    check_network,
    doubtful,
    fit_to_data,
    fit_to_device,
    given_keys,
    load_config,
    overruled,
    scale_to,
)
from transfer.detection.progress import counted_lines
from transfer.detection.run_folder import RunFacts, fill_run_folder
from transfer.formats import detectron2_file
from transfer.formats.detectron2_names import DEPTHS
from zoo.data.boxes.decoding import undecodable_images
from zoo.data.boxes.detection_data import DetectionData, open_detection_data
from zoo.data.inspection.known import holding, look_lines
from zoo.data.spec import parse_spec
from zoo.errors import UserError
from zoo.files import replace_file
from zoo.model_spec import open_model
from zoo.models.model import Model
from zoo.results import ModelFacts

RANDOM = "random"


@dataclass(frozen=True)
class Prepared:
    """Everything that a run begins with, checked."""

    cfg: Any
    backbone: Model
    facts: RunFacts
    data: DetectionData

    def write(self, folder: Path) -> None:
        """The files of a new run, into its folder."""
        fill_run_folder(folder, self.facts, self.cfg.dump(), self.data.problems.lines())
        weights = folder / run_folder.BACKBONE_FILE
        replace_file(weights, lambda temporary: detectron2_file.write(self.backbone, temporary))
        if detectron2_file.open_file(weights).tensors_sha256 != self.backbone.tensors_sha256:
            raise UserError(f"{weights} does not hold the weights of '{self.backbone.name}'; is the disk full or failing?")

    def announce(self, say: Any) -> None:
        _announce(self.facts, self.cfg, self.data, say)


def prepare(
    config: str,
    model: str,
    data: str,
    out: Path,
    overrides: Sequence[str],
    seed: int,
    device: str,
    gpus: int | None,
    strict: bool,
    say: Any,
) -> Prepared:
    """A new run, checked in all that can be checked; parameters and errors as of :func:`transfer.detection.detect.start`."""
    check_keys(overrides)
    cfg = load_config(config, overrides)
    unused = overruled(cfg)
    place, processes = choose_place(device, gpus, several=cfg.SOLVER.REFERENCE_WORLD_SIZE > 0)
    given = given_keys(overrides)
    opened = _open_backbone(model, cfg, seed)
    name = Path(config).stem
    check_model(cfg, opened, name)
    if opened.mean is None:
        mean, std = ([value / 255 for value in values] for values in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
        opened = replace(opened, mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]))
    data = str(parse_spec(data).absolute())
    found = open_detection_data(data, strict=strict)
    fit_to_data(cfg, found, given, name)
    lines = fit_to_device(cfg, place, processes)
    batch = cfg.SOLVER.IMS_PER_BATCH if "SOLVER.IMS_PER_BATCH" not in given else load_config(config).SOLVER.IMS_PER_BATCH
    scaled = scale_to(cfg, processes, given, published=batch)
    check_network(cfg, name)
    # Last of all that is checked, since it takes longest: an image that cannot be read must not end a training, or its evaluation.
    undecodable = undecodable_images(found, counted_lines("images decoded", say))
    if undecodable:
        found = found.without(undecodable)
        if strict:
            found.problems.refuse(data)
    cfg.SEED, cfg.OUTPUT_DIR = seed, str(out)
    cfg.MODEL.WEIGHTS = str(out / run_folder.BACKBONE_FILE)
    assert opened.mean is not None
    assert opened.std is not None
    facts = RunFacts(
        config=name,
        overrides=list(overrides),
        model=asdict(
            ModelFacts(
                name=opened.name,
                arch=opened.arch,
                kind=opened.kind,
                tensors_sha256=opened.tensors_sha256,
                mean=opened.mean,
                std=opened.std,
                file_sha256=opened.file_sha256,
                spec=model,
            )
        ),
        data=data,
        strict=strict,
        classes=found.classes,
        fingerprints={"train": found.train.fingerprint(), "test": found.test.fingerprint()},
        seed=seed,
        processes=processes,
        device=place,
        scaled=[[change.key, change.published, change.here] for change in scaled],
        notes=[*found.notes, *look_lines(holding(data)), *lines, *unused, *doubtful(cfg, opened)],
        undecodable=undecodable,
    )
    return Prepared(cfg, opened, facts, found)


def choose_place(device: str, gpus: int | None, *, several: bool) -> tuple[str, int]:
    """``"cuda"`` or ``"cpu"``, and the number of processes: ``gpus``, else one for each GPU, or one where ``several`` is not meant.

    Raises UserError for GPUs that are not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device '{device}'; known: auto, cpu, cuda")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and not there:
        raise UserError("--device cuda was asked for, but torch finds no CUDA GPU here; use auto or cpu")
    place = "cuda" if there and device != "cpu" else "cpu"
    if gpus is not None and (gpus < 1 or gpus > (there if place == "cuda" else 0)):
        raise UserError(f"--gpus {gpus} was asked for, and {there if place == 'cuda' else 'none'} can be used here")
    return place, (gpus or (there if several else 1)) if place == "cuda" else 1


def _open_backbone(spec: str, cfg: Any, seed: int) -> Model:
    if spec == RANDOM:
        archs = {depth: arch for arch, depth in DEPTHS.items()}
        if cfg.MODEL.RESNETS.DEPTH not in archs:
            raise UserError(f"there is no ResNet-{cfg.MODEL.RESNETS.DEPTH} to start from at random")
        return open_model(f"random:{archs[cfg.MODEL.RESNETS.DEPTH]}:{seed}")
    model = open_source(spec)
    reason = detectron2_file.DETECTRON2.reason_against(model)
    if reason is not None:
        raise UserError(f"'{spec}' cannot be fine-tuned for detection: {reason}")
    return model


def _announce(facts: RunFacts, cfg: Any, data: DetectionData, say: Any) -> None:
    place = f"{facts.processes} GPUs" if facts.processes > 1 else device_name(torch.device(facts.device))
    precision = "mixed precision" if cfg.SOLVER.AMP.ENABLED else "float32"
    say(f"{facts.config} with {facts.model['name']} on {place}, {precision}, seed {facts.seed}")
    for role, split in (("train", data.train), ("test", data.test)):
        objects = split.objects(data.classes)
        say(f"{role}: {len(split.images):,} images of {split.name}, {sum(objects.values()):,} objects of {len(objects)} classes")
    for kind, count in data.problems.counts.items():
        say(f"  {count} {kind}: listed in {Path(cfg.OUTPUT_DIR) / run_folder.PROBLEMS_FILE}")
    for note in facts.notes:
        say(f"  {note}")
    if facts.scaled:
        say("scaled linearly to the batch that fits here:")
        for key, published, here in facts.scaled:
            say(f"  {key} {_short(published)} -> {_short(here)}")
    if cfg.MODEL.RESNETS.NORM == "SyncBN" and facts.scaled:
        say(f"  batch norm sees {cfg.SOLVER.IMS_PER_BATCH} images at a time, as many as the batch")
    say(f"{cfg.SOLVER.MAX_ITER:,} iterations of {cfg.SOLVER.IMS_PER_BATCH} images, lr {cfg.SOLVER.BASE_LR:g}")
    late = [step for step in cfg.SOLVER.STEPS if step >= cfg.SOLVER.MAX_ITER]
    if late:
        say(f"  SOLVER.STEPS {', '.join(map(str, late))} lie beyond the last iteration: the rate is not lowered there")


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
