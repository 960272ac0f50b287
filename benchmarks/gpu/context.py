"""Where a piece runs, and how it keeps its figures. Imports no torch: what is not begun, or fails at once, shall cost nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class NotPossible(Exception):
    """A piece cannot be done here: something that it needs is not installed, or no images have arrived."""


@dataclass(frozen=True)
class Context:
    """Where a piece runs.

    Attributes
    ----------
    name
        The piece.
    seconds
        Its time box, from now on.
    out
        Folder for what is kept.
    figures
        File that :meth:`report` writes to.
    data
        CIFAR-10: an ``.npz``, or a folder with parts of it; None: there is none.
    dry
        On a CPU, at tiny sizes: does it run at all?
    rows
        Of earlier pieces.
    """

    name: str
    seconds: float
    out: Path
    figures: Path
    data: Path | None
    dry: bool
    rows: list[dict[str, Any]]

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu" if self.dry else "cuda")

    def report(self, **figures: Any) -> None:
        """Keep figures, at once: a piece that is stopped has what it reported."""
        with open(self.figures, "a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
