"""How a call of the training begins: anew, or from a checkpoint; decided once, by the main process, which then holds the run folder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from evaluation.parallel import Processes
from pretrain.recipes import agreeing_recipe, check_same_recipe
from pretrain.runs.run_folder import IDENTITY_KEY, RECIPE_KEY, check_out, is_half_made
from zoo.errors import UserError
from zoo.models.run_lock import run_lock
from zoo.models.runs import Newest, checkpoints, is_run, read_checkpoint, read_newest_checkpoint, read_recipe


@dataclass(frozen=True)
class Beginning:
    """Where a training begins.

    Attributes
    ----------
    config
        The recipe that it goes by: of a run that is gone on with, the run's own.
    newest
        The checkpoint that it goes on from; None: it begins anew.
    notes
        Lines for the user.
    """

    config: DictConfig
    newest: Newest | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the run has all its steps."""
        return self.newest is not None and self.newest.content["step"] >= self.newest.content.get("steps", float("inf"))


def begin(
    config: DictConfig, run: Path, *, resume: bool, overwrite: bool, go_on: bool, processes: Processes, held: contextlib.ExitStack
) -> Beginning:
    """Decide how a training begins; every process must call.

    Parameters
    ----------
    resume, overwrite, go_on
        As in :func:`pretrain.loop.train`.
    held
        Holds the folder, in the main process, where there is one: before anything in it is read.

    Raises
    ------
    UserError
        Another process writes the folder; there is nothing to go on from; the recipe is another one than the run's; the number of
        processes is.
    """
    mine: list[Newest] = []

    def decide() -> tuple[dict[str, Any] | None, Path | None, list[str]]:
        there = is_run(run)
        if not resume and not (go_on and there):
            check_out(run, overwrite=overwrite or (go_on and _replaceable(run)))
        if run.exists():
            held.enter_context(run_lock(run))
        stored = read_recipe(run) if go_on and there else None
        if stored is not None:
            agreeing_recipe(stored, config, str(run))
        if not resume and not (go_on and there and checkpoints(run)):
            return None, None, []
        mine.append(read_newest_checkpoint(run))
        return stored, mine[0].path, [mine[0].note] if mine[0].note else []

    # What travels between processes is pickled, which a recipe's own types are not made for.
    stored, path, notes = processes.from_main(decide)
    chosen = config if stored is None else agreeing_recipe(stored, config, str(run))
    if path is None:
        return Beginning(chosen)
    newest = mine[0] if mine else Newest(path, read_checkpoint(path), None, has_checksum=True)
    _check(newest, chosen, run, processes.count)
    return Beginning(chosen, newest, [*notes, *_lacking(newest, run)])


def _replaceable(run: Path) -> bool:
    """Whether ``--continue`` may begin anew in what is there: nothing, or what a killed process left before there was a recipe."""
    return run.is_dir() and (not any(run.iterdir()) or is_half_made(run))


def _check(newest: Newest, config: DictConfig, run: Path, processes: int) -> None:
    if (saved := newest.content.get(RECIPE_KEY)) is not None:
        # Images that have moved are the same images, where their identity tells.
        moved = ("data",) if newest.content.get(IDENTITY_KEY) else ()
        check_same_recipe(saved, config, str(run), moved)
    if newest.content["processes"] != processes:
        raise UserError(
            f"the run {run} was made by {newest.content['processes']} processes and cannot go on with {processes}: batch-norm "
            "groups and the order of sums would differ; start it with the same number"
        )


def _lacking(newest: Newest, run: Path) -> list[str]:
    """What a run of an older version did not record, in one line."""
    lacks = [
        what
        for what, recorded in (
            ("which images it trains on", newest.content.get(IDENTITY_KEY) is not None),
            ("the recipe of its checkpoints", RECIPE_KEY in newest.content),
            ("their checksums", newest.has_checksum),
        )
        if not recorded
    ]
    if not lacks:
        return []
    return [f"note: {run} was begun by a version that did not record {', '.join(lacks)}; changes of these would not be noticed"]
