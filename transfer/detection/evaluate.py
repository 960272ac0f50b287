"""Evaluation as a step of its own: a checkpoint of a run on any data with the run's classes."""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from detectron2.data import build_detection_test_loader

from transfer.detection.engine.dataset_catalog import evaluate_model, register
from transfer.detection.engine.mapper import LayerMapper
from transfer.detection.network import open_detector
from transfer.detection.progress import counted_lines
from transfer.detection.result import make_result
from zoo.data.boxes.decoding import undecodable_images
from zoo.data.boxes.detection_data import open_evaluation_data
from zoo.hashing import file_sha256
from zoo.results import Result, save_result
from zoo.results.provenance import toolkit_commit
from zoo.results.result import check_result_path


def evaluate(
    run: Path,
    data: str,
    *,
    checkpoint: str | None = None,
    part: str = "test",
    device: str = "auto",
    strict: bool = False,
    out: Path | None = None,
    overwrite: bool = False,
    say: Any = print,
) -> tuple[Result, Path]:
    """Evaluate a checkpoint of a run.

    Parameters
    ----------
    run
        A run folder of ``transfer detect``, finished or not.
    data
        ``voc:ROOT`` or ``coco:ROOT`` with classes of the run's, known by their names, in any order.
    checkpoint
        As :func:`transfer.detection.network.open_detector` takes it.
    part
        Which images: ``test``, ``train`` or ``all``.
    strict
        Refuse broken annotations, and images that cannot be decoded.
    out
        The result file; None: one in the run folder, named by data and checkpoint, in place of one of the same.
    overwrite
        Replace a file at ``out``.

    Returns
    -------
    The result, and where it was written.

    Raises
    ------
    UserError
        A file is at ``out``; as :func:`~transfer.detection.network.open_detector` and
        :func:`~zoo.data.boxes.detection_data.open_evaluation_data`.
    """
    if out is not None:
        check_result_path(out, overwrite=overwrite)
    began, commit = time.monotonic(), toolkit_commit()
    detector = open_detector(run, checkpoint, device)
    facts, cfg = detector.facts, detector.cfg
    found = open_evaluation_data(data, facts.classes, part=part, strict=strict)
    broken = undecodable_images(found, counted_lines("images decoded", say))
    if broken:
        found = found.without(broken)
        if strict:
            found.problems.refuse(data)
    split = found.test
    say(f"{detector.checkpoint.name} of {run} on {len(split.images):,} images of {split.name} of {data}, {cfg.MODEL.DEVICE}")
    for kind, count in found.problems.counts.items():
        say(f"  {count} {kind}")
    for note in found.notes:
        say(f"  {note}")
    masks = bool(cfg.MODEL.MASK_ON) and found.test_has_masks
    if cfg.MODEL.MASK_ON and not masks:
        say("  these images have no masks: boxes alone are evaluated")
    with tempfile.TemporaryDirectory() as folder:
        _, name = register(found, Path(folder), masks=masks)
        loader = build_detection_test_loader(cfg, name, mapper=LayerMapper.of_dataset(cfg, name, is_train=False), num_workers=0)
        metrics, per_class = evaluate_model(detector.model, loader, name, masks=masks)
    fingerprint = split.fingerprint()
    result = make_result(
        replace(facts, fingerprints={"test": fingerprint}, device=cfg.MODEL.DEVICE, processes=1, notes=list(found.notes)),
        cfg,
        found,
        metrics,
        per_class,
        seconds=time.monotonic() - began,
        commit=commit,
        evaluated={
            "checkpoint": detector.checkpoint.name,
            "checkpoint_sha256": file_sha256(detector.checkpoint),
            "part": part,
        },
    )
    key = hashlib.sha256(f"{fingerprint} {part}".encode()).hexdigest()[:12]
    path = out or run / f"evaluation-{detector.checkpoint.stem}-{key}.json"
    save_result(result, path, overwrite=overwrite or out is None)
    return result, path
