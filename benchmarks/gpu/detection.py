"""`transfer detect` on made images: Faster R-CNN R50-C4 and R50-FPN, 20 iterations each, where detectron2 can be had."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from context import Context, NotPossible
from measure import synchronise

ITERATIONS, LEFT_OUT = 20, 5


def detection(context: Context) -> None:
    from transfer.presence import require_detectron2
    from zoo.errors import UserError

    try:
        require_detectron2()
    except UserError as error:
        raise NotPossible(str(error)) from error
    from transfer.detection.detect import start

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        _made_data(root / "data", 16 if context.dry else 64)
        cases = [("small_r18_fpn", 2, 3)] if context.dry else [("coco_r50_c4_1x", 16, ITERATIONS), ("coco_r50_fpn_1x", 16, ITERATIONS)]
        for config, batch, iterations in cases:
            values: dict[str, Any] = {
                "SOLVER.IMS_PER_BATCH": batch,
                "SOLVER.MAX_ITER": iterations,
                "SOLVER.STEPS": "()",
                "DATALOADER.NUM_WORKERS": 0 if context.dry else 4,
                "TEST.EVAL_PERIOD": 0,
                "TEST.PRECISE_BN.ENABLED": False,
                "MODEL.MASK_ON": False,
            }
            if context.dry:
                values |= {"INPUT.MIN_SIZE_TRAIN": "(64,)", "INPUT.MIN_SIZE_TEST": 64}
            words = [str(word) for pair in values.items() for word in pair]
            if not context.dry:
                torch.cuda.reset_peak_memory_stats()
            with _clock(context.device) as stamps:
                start(config, "random", f"coco:{root / 'data'}", root / config, words, device=context.device.type)
            memory = None if context.dry else torch.cuda.max_memory_allocated() / 2**30
            steady = np.diff(stamps)[min(LEFT_OUT, len(stamps) - 2) :]
            context.report(**{config: {"batch": batch, "s_per_iteration": float(steady.mean()), "memory_gib": memory}})


@contextmanager
def _clock(device: torch.device) -> Iterator[list[float]]:
    """When each iteration was done, the device's work included."""
    from transfer.detection.engine.trainer import Trainer

    stamps: list[float] = []
    own = Trainer.after_step

    def after_step(trainer: Any) -> None:
        own(trainer)
        synchronise(device)
        stamps.append(time.perf_counter())

    Trainer.after_step = after_step  # type: ignore[method-assign]
    try:
        yield stamps
    finally:
        Trainer.after_step = own  # type: ignore[method-assign]


def _made_data(root: Path, images: int) -> None:
    """As the benchmark on CPUs makes them; loaded by its path, since its name is this one's."""
    path = Path(__file__).resolve().parents[1] / "detection.py"
    spec = importlib.util.spec_from_file_location("detection_on_cpus", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.make_data(root, images)
