"""What a training shows while it runs: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zoo.errors import printable_lines

# Without a terminal a bar would fill the job's log file: one line at this interval instead.
SECONDS_BETWEEN_LINES = 30.0


class TrainingProgress:
    """Loss, images/s and time left of a training, on standard error.

    Parameters
    ----------
    total, done
        Steps of the whole run, and how many of them an earlier process did.
    images_per_step
        Global batch.
    shown
        False on all but the main process.
    """

    def __init__(self, total: int, *, done: int, images_per_step: int, shown: bool = True) -> None:
        self.total, self.step, self.images_per_step, self.shown = total, done, images_per_step, shown
        self.console = Console(stderr=True, quiet=not shown)
        self._bar = Progress(
            TextColumn("{task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[speed]} images/s  left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
            disable=not shown or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("train", total=total, completed=done, epoch="", loss="-", speed="-")
        self._mark = self._started = time.monotonic()
        self._mark_step = done
        self._speed = 0.0

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def advance(self, step: int, *, epoch: str, loss: float) -> None:
        """Show that ``step`` steps are done."""
        if not self.shown:
            return
        self.step = step
        now = time.monotonic()
        interval = 1.0 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
        if now - self._mark >= interval or step == self.total:
            self._speed = (step - self._mark_step) * self.images_per_step / max(now - self._mark, 1e-9)
            if not sys.stderr.isatty():
                left = (self.total - step) * self.images_per_step / max(self._speed, 1e-9)
                self.say(f"{epoch}  step {step}/{self.total}  loss {loss:.4f}  {_rate(self._speed)} images/s  {left:.0f} s left")
            self._mark, self._mark_step = now, step
        self._bar.update(self._task, completed=step, epoch=epoch, loss=f"{loss:.4f}", speed=_rate(self._speed))

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(printable_lines(text), highlight=False, markup=False, soft_wrap=True)


def _rate(images_per_second: float) -> str:
    """A detector on a CPU takes seconds for an image."""
    return f"{images_per_second:.1f}" if images_per_second < 10 else f"{images_per_second:.0f}"
