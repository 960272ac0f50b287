"""What a run folder holds, for tests."""

from __future__ import annotations

from pathlib import Path

import torch

from evaluation.training.log import read_log
from zoo.models.runs import read_checkpoint


def losses(run: Path) -> list[float]:
    """The loss of every step; there is one row for each."""
    rows = read_log(run / "log.jsonl")
    assert [row["step"] for row in rows] == list(range(len(rows)))
    return [row["loss"] for row in rows]


def tables_at(run: Path, step: int) -> dict[str, torch.Tensor]:
    """The survey's tables in the checkpoint of a step."""
    tables: dict[str, torch.Tensor] = read_checkpoint(run / "checkpoints" / f"step_{step:08}.pt")["tables"]
    return tables
