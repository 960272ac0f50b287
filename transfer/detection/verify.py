"""Measuring a claim of a detection result again: what ``zoo verify`` calls for results of this task."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.detection.config_files import CONFIGS
from transfer.presence import require_detectron2
from zoo.errors import UserError
from zoo.results import Result

if TYPE_CHECKING:
    from evaluation.tasks.runtime import Runtime


def verify(claim: Result, *, model: str, data: str, runtime: Runtime) -> Result:
    """Train and evaluate as a result says it was done: by its config, overrides and seed, on as many GPUs.

    Parameters
    ----------
    claim
        A result of `transfer detect`.
    model, data
        What ``--model`` and ``--data`` take there.
    runtime
        Its device counts; everything else is the claim's.

    Raises
    ------
    UserError
        detectron2 is missing, the config is not one of the toolkit's, the model has other weights, or there are fewer GPUs.
    """
    require_detectron2()
    from transfer.conversion import open_source
    from transfer.detection import detect

    if "evaluated" in claim.protocol:
        raise UserError("it is of `transfer evaluate`, for which the run must be there; repeat it by that command")
    config = claim.protocol.get("config")
    if config not in CONFIGS.names():
        raise UserError(f"its config '{config}' is not one of this toolkit's, so the training cannot be repeated")
    if runtime.processes.count > 1:
        raise UserError("a detection result is verified from one process, which starts those for several GPUs itself")
    weights = open_source(model).tensors_sha256
    if weights != claim.model.tensors_sha256:
        raise UserError(
            f"the weights of '{model}' (tensors_sha256 {weights[:12]}) are not those that this was measured with "
            f"({claim.model.tensors_sha256[:12]})"
        )
    with tempfile.TemporaryDirectory() as folder:
        outcome = detect.start(
            config,
            model,
            data,
            Path(folder) / "run",
            claim.protocol["overrides"],
            seed=claim.seeds["training"],
            device=runtime.device.type,
            gpus=claim.processes if runtime.device.type == "cuda" else None,
            say=lambda line: None,
        )
    if outcome.result is None:
        raise UserError(f"the training was stopped by {outcome.stopped} before it could be compared")
    return outcome.result
