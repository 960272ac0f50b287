"""Losses on their way from the device into the log: brought over now and then, checked, written, shown."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from evaluation.training.kernels import peak_memory
from evaluation.training.log import Log
from evaluation.training.progress import TrainingProgress
from zoo.errors import UserError


class LossRecorder:
    """Keeps the rows of steps whose losses are still on the device.

    Parameters
    ----------
    accelerator
        The processes; a row's losses are the means over them.
    progress
        What shows the last loss.
    log
        What takes the rows; None on all but the main process, or where there is no log.
    epochs
        Of the whole training, for what is shown.
    interval
        Steps after which :attr:`full` says that it is time for :meth:`flush`.
    last_good
        The last good checkpoint in words, for the message about a loss that is not finite.
    memory
        Bytes that a device held at most, for the log (``device_memory``, in the last row of each transfer); None: not logged.
    tracked
        A row as trackers get it; by default as it is, without its step.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        progress: TrainingProgress,
        log: Log | None,
        *,
        epochs: int,
        interval: int,
        last_good: Callable[[], str],
        memory: Callable[[torch.device], int | None] = peak_memory,
        tracked: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self.memory = memory
        self.tracked = tracked or _without_step
        self.accelerator, self.progress, self.log, self.epochs, self.last_good = accelerator, progress, log, epochs, last_good
        # On a CPU a loss is at hand at once; on a GPU reading it would make the host wait for the device at every step.
        self.interval = 1 if accelerator.device.type == "cpu" else interval
        self._pending: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
        self._mark = time.perf_counter()

    @property
    def full(self) -> bool:
        """Whether so many steps are pending that they should be written."""
        return len(self._pending) >= self.interval

    def add(self, row: dict[str, Any], losses: dict[str, Tensor]) -> None:
        """A step: its row (``step``, ``epoch``, ``lr``, ...) and this process's named losses, which add up to the loss."""
        self._pending.append((row, losses))

    def note(self, numbers: dict[str, float]) -> None:
        """Add numbers to the row of the last step, which must be pending still."""
        self._pending[-1][0].update(numbers)

    def leave_out(self, seconds: float) -> None:
        """Time that has just passed and is not the next step's, such as a survey's."""
        self._mark += seconds

    def check(self) -> None:
        """Raise UserError, in every process, for a pending loss that is not finite: before anything is made of such weights."""
        for (row, _), numbers in zip(self._pending, self._values(), strict=True):
            row["loss"] = sum(numbers)
            if not math.isfinite(row["loss"]):
                raise self._diverged(f"the loss became {row['loss']}", row)

    def diverged(self, what: str) -> UserError:
        """The error for a training that the last step, which is pending still, has broken: ``what`` was seen, and how it goes on."""
        return self._diverged(what, self._pending[-1][0])

    def _values(self) -> list[list[float]]:
        """The pending losses by step and name, as means over the processes."""
        if not self._pending:
            return []
        names = list(self._pending[0][1])
        values = torch.stack([torch.stack([losses[name].float() for name in names]) for _, losses in self._pending])
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(values)
            values /= self.accelerator.num_processes
        return values.double().cpu().tolist()

    def flush(self) -> None:
        """Bring pending losses to the host, check them, write their rows.

        Raises
        ------
        UserError
            In every process, for a loss that is not finite; in the main one, where the disk does not take the log.
        """
        if not self._pending:
            return
        names, values = list(self._pending[0][1]), self._values()
        held = self.memory(self.accelerator.device)
        if held is not None:
            self._pending[-1][0]["device_memory"] = held
        now = time.perf_counter()
        seconds, self._mark = (now - self._mark) / len(self._pending), now
        for (row, _), numbers in zip(self._pending, values, strict=True):
            row["loss"] = sum(numbers)
            row["seconds"] = seconds
            row.update({f"loss/{name}": number for name, number in zip(names, numbers, strict=True)})
            if not math.isfinite(row["loss"]):
                raise self._diverged(f"the loss became {row['loss']}", row)
            try:
                if self.log is not None:
                    self.log.write(row)
                self.accelerator.log(self.tracked(row), step=row["step"])
            except OSError as error:
                raise UserError(
                    f"{'the log' if self.log is None else self.log.path} cannot be written ({error.strerror or error}); step {row['step']} "
                    f"was not logged, and the last good checkpoint is {self.last_good()}; free some space and resume"
                ) from error
        self.progress.advance(row["step"] + 1, epoch=f"epoch {row['epoch'] + 1}/{self.epochs}", loss=row["loss"])
        self._pending.clear()

    def _diverged(self, what: str, row: dict[str, Any]) -> UserError:
        return UserError(
            f"{what} at step {row['step']} (epoch {row['epoch']}) with learning rate {row['lr']:.3g}; "
            f"the run was stopped, its last good checkpoint is {self.last_good()}; lower the rate, warm up longer, or use precision=fp32"
        )


def _without_step(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "step"}
