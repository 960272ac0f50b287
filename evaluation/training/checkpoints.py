"""Checkpoints that are whole or not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from zoo.errors import UserError, root_cause
from zoo.files import PARTIAL_SUFFIX, replace_file
from zoo.models.runs import CHECKPOINT_FOLDER, checkpoint_name, checkpoint_step, checkpoints
from zoo.reading.checksum import add_checksum


def save_checkpoint(
    run: Path, step: int, state: dict[str, Any], *, keep: int, for_good: Callable[[int], bool] = lambda step: False
) -> Path:
    """Write the checkpoint of ``step`` atomically, then remove all but the newest ``keep`` and those whose step is kept ``for_good``.

    A process killed at any moment leaves either the old set of checkpoints or the new one. Only tensors and plain Python values may
    be in ``state``, so that it loads with ``weights_only=True``. The file holds its own checksum.

    Raises
    ------
    UserError
        The disk is full or not writable; names the last good checkpoint, which is untouched.
    """
    path = run / CHECKPOINT_FOLDER / checkpoint_name(step)

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            torch.save(state, file)
        add_checksum(temporary)

    try:
        replace_file(path, write)
    # torch's zip writer turns the system's error into a RuntimeError of its own.
    except (UserError, RuntimeError) as error:
        good = checkpoints(run)
        last = f"the last good checkpoint is {good[-1]}" if good else "there is no earlier checkpoint"
        raise UserError(f"checkpoint {path} could not be written ({root_cause(error)}); {last}; free some space and resume") from error
    for old in checkpoints(run)[:-keep]:
        if not for_good(checkpoint_step(old)):
            old.unlink()
    return path


def save_from_main(
    accelerator: Accelerator,
    run: Path,
    step: int,
    state: Callable[[], dict[str, Any]],
    *,
    keep: int,
    for_good: Callable[[int], bool] = lambda step: False,
) -> None:
    """:func:`save_checkpoint` by the main process; what it refuses is raised in all of them."""
    error: list[str | None] = [None]
    if accelerator.is_main_process:
        try:
            save_checkpoint(run, step, state(), keep=keep, for_good=for_good)
        except UserError as problem:
            error = [str(problem)]
    if accelerator.num_processes > 1:
        broadcast_object_list(error)
    if error[0]:
        raise UserError(error[0])


def remove_partial_checkpoints(run: Path) -> None:
    """Remove what a killed process left half written."""
    for path in (run / CHECKPOINT_FOLDER).glob(f".*{PARTIAL_SUFFIX}"):
        path.unlink()
