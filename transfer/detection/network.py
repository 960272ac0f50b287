"""The detector of a finished or stopped run, ready to detect, and what it finds in images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from transfer.detection import run_folder
from transfer.detection.engine.checkpointer import StrictCheckpointer
from transfer.detection.engine.mapper import LayerMapper
from transfer.detection.engine.settings import fit_to_device, read_config
from transfer.detection.matching import Found
from transfer.detection.prepare import choose_place
from transfer.detection.run_folder import RunFacts, read_facts
from zoo.data.boxes.annotations import Record
from zoo.data.images import BadImageError
from zoo.errors import UserError, first_line

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Detector:
    """A detector of a run.

    Attributes
    ----------
    cfg, facts
        The run's resolved config, with the device of here, and what the run is of.
    checkpoint
        The file that its weights are from.
    model
        detectron2's, in evaluation mode.
    """

    cfg: CfgNode
    facts: RunFacts
    checkpoint: Path
    model: Any


def open_detector(run: Path, checkpoint: str | None = None, device: str = "auto") -> Detector:
    """The detector of a run.

    Parameters
    ----------
    checkpoint
        A file, the name of one in the run folder (``model_0000999.pth``), its number, or ``final``; None: the newest.
    device
        ``auto``, ``cpu`` or ``cuda``; also for a run that was trained elsewhere.

    Raises
    ------
    UserError
        The folder is no run, has no such checkpoint, or the file is not one of this detector.
    """
    facts = read_facts(run)
    path = find_checkpoint(run, checkpoint)
    cfg = read_config(run / run_folder.CONFIG_FILE)
    cfg.SOLVER.AMP.ENABLED = False
    fit_to_device(cfg, choose_place(device, None, several=False)[0], 1)
    cfg.MODEL.WEIGHTS = ""
    model = build_model(cfg)
    try:
        StrictCheckpointer(model).load(str(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Detector(cfg, facts, path, model.eval())


def find_checkpoint(run: Path, checkpoint: str | None) -> Path:
    """The file of a checkpoint, as :func:`open_detector` takes it. Raises UserError, with those that there are."""
    saved = StrictCheckpointer(torch.nn.Identity(), str(run))
    there = sorted(path.name for path in run.glob("model_*.pth"))
    if checkpoint is None:
        path = saved.get_checkpoint_file()
        if not path:
            raise UserError(f"{run} has no checkpoint yet; go on with it by: transfer detect --resume {run}")
        return Path(path)
    names = [checkpoint, f"model_{checkpoint}.pth"]
    if _NUMBER.fullmatch(checkpoint):
        names.append(f"model_{int(checkpoint):07d}.pth")
    tried = [run / name for name in names] + [Path(checkpoint)]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        raise UserError(f"{run} has no checkpoint '{checkpoint}'; it has {', '.join(there) or 'none'}")
    return found


def detect_in(
    model: Any, mapper: LayerMapper, records: Sequence[Record], *, batch: int = 1, score: float = 0.0
) -> Iterator[tuple[Record, list[Found] | str]]:
    """Each record with what is found in its image with a score of at least ``score``, the best first; or why it cannot be read.

    Parameters
    ----------
    model
        A detectron2 model; it is put into evaluation mode, and left as it was.
    records
        In detectron2's form; ``annotations`` are not looked at.
    batch
        Images that go through the network at once.
    """
    training = model.training
    model.eval()
    try:
        for start in range(0, len(records), batch):
            part = records[start : start + batch]
            inputs = [_mapped(mapper, record) for record in part]
            read = [one for one in inputs if not isinstance(one, str)]
            with torch.no_grad():
                outputs = iter(model(read) if read else [])
            for record, one in zip(part, inputs, strict=True):
                yield record, one if isinstance(one, str) else _found(next(outputs)["instances"].to("cpu"), score)
    finally:
        model.train(training)


def _mapped(mapper: LayerMapper, record: Record) -> Record | str:
    try:
        made: Record = mapper(record)
        return made
    except OSError as error:
        return error.strerror or first_line(error)
    except BadImageError as error:
        return first_line(error)


def _found(instances: Any, score: float) -> list[Found]:
    masks = instances.pred_masks.numpy() if instances.has("pred_masks") else [None] * len(instances)
    boxes = instances.pred_boxes.tensor.numpy().astype(np.float64)
    rows = zip(boxes.tolist(), instances.scores.tolist(), instances.pred_classes.tolist(), masks, strict=True)
    found = [Found((box[0], box[1], box[2], box[3]), value, number, mask) for box, value, number, mask in rows if value >= score]
    return sorted(found, key=lambda one: -one.score)
