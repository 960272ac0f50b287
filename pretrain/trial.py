"""``pretrain RECIPE --trial``: some steps and a survey batch on the real data and device, and what the whole run would take.

Nothing is written. Surveys' tables are made up, so that steps are those of the run's later epochs, with everything turned on.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from evaluation.clustering import kmeans
from evaluation.clustering.kmeans import ITERATIONS, MAX_POINTS_PER_CENTROID, RESTARTS
from evaluation.extraction.batches import BATCH_SIZE
from evaluation.parallel import Processes
from evaluation.search import top_k
from evaluation.training.devices import describe, make_accelerator, threads
from evaluation.training.kernels import peak_memory, resolve_precision, training_device
from pretrain.fitting.device_choices import with_device_choices
from pretrain.fitting.made_up import made_up_tables
from pretrain.loop import Training, device_switches
from pretrain.recipes import typed
from pretrain.survey import NeighbourMaker, PrototypeMaker, Survey
from pretrain.survey.encoder_pass import EncoderPass, Outputs
from zoo.data import Images, open_data
from zoo.errors import UserError

STEPS = 20
# Steps at the start that are not timed: buffers are made, kernels chosen, networks compiled, loaders started.
LEFT_OUT = 5
# Rows of which the cost of clustering and of the search for neighbours is measured, to be scaled up.
_SAMPLE = 16_384
_ITERATIONS = 4
_GIB, _GB = 2**30, 1e9


@dataclass
class Trial:
    """What was measured, and what it means for the whole run.

    Attributes
    ----------
    machine
        The device, in words.
    batch, micro_batch, steps
        Global batch, images of a process's forward pass, steps of the whole run.
    timed
        Steps that were timed.
    step_seconds
        Of one step, views and all: the mean.
    surveys
        How many there will be.
    survey_batch_seconds
        One batch of a survey's looks, decoding included; None where there are no surveys.
    survey_batches
        Batches of one survey in this process.
    table_seconds
        Clustering and search of one survey, scaled up from a part of the rows.
    device_memory, device_total
        Bytes that the GPU held at most, and has; None on a CPU.
    host_memory
        Bytes in the host's memory of this process at most, and of its loaders at the end.
    checkpoint
        Bytes of a checkpoint.
    checkpoints
        How many there are at a time: those that are kept, and one that is being written.
    free_disk
        Bytes that are free where the run folder would be.
    """

    machine: str
    batch: int
    micro_batch: int
    steps: int
    timed: int
    step_seconds: float
    surveys: int
    survey_batch_seconds: float | None
    survey_batches: int
    table_seconds: float
    device_memory: int | None
    device_total: int | None
    host_memory: int
    checkpoint: int
    checkpoints: int
    free_disk: int

    @property
    def images_per_second(self) -> float:
        """Of the global batch."""
        return self.batch / self.step_seconds

    @property
    def hours(self) -> float:
        """Of all steps and surveys; without kNN checks."""
        survey = 0.0 if self.survey_batch_seconds is None else self.survey_batch_seconds * self.survey_batches + self.table_seconds
        return (self.steps * self.step_seconds + self.surveys * survey) / 3600

    def lines(self) -> list[str]:
        """For the user."""
        found = [
            f"device              {self.machine}",
            f"speed               {self.images_per_second:.4g} images/s ({1000 * self.step_seconds:.4g} ms a step of {self.batch} images, "
            f"in forward passes of {self.micro_batch}; mean of {self.timed} steps)",
            f"whole run           {self.hours:.3g} hours: {self.steps} steps{self._surveys()}; kNN checks not counted",
        ]
        if self.device_memory is not None and self.device_total is not None:
            share = 100 * self.device_memory / self.device_total
            found.append(
                f"memory of the GPU   {self.device_memory / _GIB:.2f} GiB of tensors at most, {share:.0f} % of "
                f"{self.device_total / _GIB:.1f} GiB"
            )
        found += [
            f"memory of the host  {self.host_memory / _GIB:.2f} GiB, loaders included",
            f"disk                {self.checkpoints} checkpoints of {self.checkpoint / _GB:.3f} GB: "
            f"{self.checkpoints * self.checkpoint / _GB:.2f} GB; {self.free_disk / _GB:.1f} GB are free",
        ]
        if self.checkpoints * self.checkpoint > self.free_disk:
            found.append("does not fit        the checkpoints do not fit on the disk: lower checkpoint.keep, or choose another --out")
        return [*found, "nothing was written"]

    def _surveys(self) -> str:
        if self.survey_batch_seconds is None or not self.surveys:
            return ""
        looks = self.survey_batch_seconds * self.survey_batches
        return (
            f" and {self.surveys} surveys of about {looks + self.table_seconds:.3g} s ({self.survey_batches} batches of "
            f"{1000 * self.survey_batch_seconds:.4g} ms, clustering and search about {self.table_seconds:.3g} s)"
        )


def try_recipe(config: DictConfig, *, out: Path | None = None, steps: int = STEPS) -> Trial:
    """Run some steps of a recipe and one survey batch.

    Parameters
    ----------
    config
        As :func:`pretrain.recipes.load_recipe` gives it.
    out
        Where the run folder would be, for the free disk; None: here.
    steps
        How many, of which the first are not timed.

    Raises
    ------
    UserError
        As :func:`pretrain.loop.train`; the GPU's memory does not suffice.
    """
    config = with_device_choices(config)
    config.trackers = []
    config.knn.every_epochs = 0
    recipe = typed(config)
    with threads(recipe.threads), device_switches(recipe):
        precision = resolve_precision(recipe.precision.value, training_device(recipe.device.value))
        accelerator = make_accelerator(recipe.device.value, precision, trackers=[], project=Path())
        data = open_data(recipe.data, on_bad="skip")
        try:
            return _Trial(recipe, config, data, accelerator, Path()).measure(steps, out)
        except torch.OutOfMemoryError as error:
            raise UserError(
                "the GPU's memory does not suffice for a step; lower micro_batch (micro_batch=auto finds the largest that fits), set "
                "activation_checkpointing=true (vision transformers) or precision=bf16, or lower views.size or method.queue"
            ) from error


class _Trial(Training):
    """A training that is only tried. The scan for bad images, which takes minutes for large sets, is left out."""

    def _images(self) -> Images:
        images = self.data.role("pretrain")
        return images if self.recipe.max_images is None else images.thinned(self.recipe.max_images)

    def measure(self, steps: int, out: Path | None) -> Trial:
        self.tables = made_up_tables(self.recipe.method, len(self.images))
        self.method_in_use.receive(self.tables)
        seconds, timed = self._time_steps(steps)
        pass_seconds = self._time_passes()
        table_seconds = self._time_tables()
        share = Processes.current().share(len(self.images), BATCH_SIZE)
        memory = peak_memory(self.device)
        place = (out or Path()).absolute()
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        return Trial(
            machine=describe(self.accelerator),
            batch=self.batch,
            micro_batch=self.per_process // self.parts,
            steps=self.steps,
            timed=timed,
            step_seconds=seconds,
            surveys=sum(self.survey.due(epoch) for epoch in range(self.recipe.epochs)),
            survey_batch_seconds=pass_seconds,
            survey_batches=-(-(share.stop - share.start) // BATCH_SIZE),
            table_seconds=table_seconds,
            device_memory=memory,
            device_total=None if memory is None else torch.cuda.get_device_properties(self.device).total_memory,
            host_memory=_host_memory(),
            checkpoint=_size_of(lambda file: torch.save(self._state(0), file)),
            checkpoints=self.recipe.checkpoint.keep + 1,
            free_disk=shutil.disk_usage(existing).free,
        )

    def _time_steps(self, wanted: int) -> tuple[float, int]:
        """Seconds of a step, and how many were timed: the run's last ones, in which everything is turned on."""
        wanted = min(wanted, self.steps)
        left_out = min(LEFT_OUT, wanted - 1)
        step, done, started = self.steps - wanted, 0, 0.0
        self.model.train()
        while step < self.steps:
            epoch, first = divmod(step, self.steps_per_epoch)
            for batch in self.source.batches(epoch, first, self._tables_of(epoch)):
                if done == left_out:
                    self._wait()
                    started = time.perf_counter()
                losses = self._step(step, batch.views, batch.index)
                step, done = step + 1, done + 1
        self._wait()
        seconds = (time.perf_counter() - started) / (done - left_out)
        if not all(torch.isfinite(value).all() for value in losses.values()):
            raise UserError("a loss of the trial is not finite; check optimizer and precision")
        return seconds, done - left_out

    def _time_passes(self) -> float | None:
        """Seconds of one batch of a survey, decoding included; the batch before it is not timed."""
        passes = list(dict.fromkeys(maker.encoder_pass for maker in self.survey.makers))
        if not passes:
            return None
        clocks = [_Clock(one, self._wait) for one in passes]
        two = self.images.subset(np.arange(min(2 * BATCH_SIZE, len(self.images))))
        survey = Survey(
            two,
            clocks,
            size=self.survey.size,
            native=self.survey.native,
            mean=self.survey.mean,
            std=self.survey.std,
            device=self.device,
            autocast=self.survey.autocast,
            workers=0 if two.pixels is None else self.survey.workers,
        )
        began = time.perf_counter()
        survey(0, self.method_in_use.named_encoder)
        times = clocks[-1].times
        taken = times[-1] - times[-2] if len(times) > 1 else times[0] - began
        # A loader's processes decode side by side; here one did, so that the second batch is timed from its first image on.
        beside = max(1, self.recipe.workers) if two.pixels is None else 1
        return taken / min(beside, os.cpu_count() or 1)

    def _time_tables(self) -> float:
        """Seconds of one survey's clustering and search, scaled up."""
        count, settings, processes = len(self.images), self.recipe.method, self.accelerator.num_processes
        rows = min(count, _SAMPLE)
        draw = torch.Generator().manual_seed(0)
        total = 0.0
        for maker in self.survey.makers:
            if isinstance(maker, PrototypeMaker):
                clusters = min(int(settings.levels[0]), rows)
                points = torch.randn(rows, settings.dim, generator=draw).to(self.device)
                # Seeding costs about an iteration, as does the assignment at the end.
                taken = self._timed(partial(kmeans, points, clusters, seed=0, iterations=_ITERATIONS, restarts=1)) / (_ITERATIONS + 2)
                trained = min(count, MAX_POINTS_PER_CENTROID * int(settings.levels[0]))
                scale = trained / rows * settings.levels[0] / clusters / processes
                total += taken * scale * (ITERATIONS + 1) * RESTARTS
            if isinstance(maker, NeighbourMaker):
                width = int(self.method_in_use.backbone().num_features)  # type: ignore[arg-type]
                points = torch.randn(rows, width, generator=draw)
                queries = points[: max(1, rows // 8)]
                taken = self._timed(partial(top_k, queries, points, settings.k, device=self.device))
                total += taken * (count / len(queries)) * (count / rows) / processes
        return total

    def _timed(self, work: Callable[[], Any]) -> float:
        self._wait()
        started = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class _Clock:
    """A maker of no table, which notes when each batch is done."""

    def __init__(self, encoder_pass: EncoderPass, wait: Callable[[], None]) -> None:
        self.encoder_pass, self._wait = encoder_pass, wait
        self.times: list[float] = []

    def due(self, epoch: int) -> bool:
        return True

    def start(self, count: int) -> None:
        self.times.clear()

    def update(self, outputs: Outputs) -> None:
        self._wait()
        self.times.append(time.perf_counter())

    def finish(self, processes: Processes) -> tuple[dict[str, NDArray[np.generic]], dict[str, float], str]:
        return {}, {}, ""


class _Counter:
    """A file that keeps nothing but its length."""

    def __init__(self) -> None:
        self.length = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.length += size
        return size

    def flush(self) -> None:
        pass


def _size_of(save: Callable[[Any], None]) -> int:
    counter = _Counter()
    save(counter)
    return counter.length


def _host_memory() -> int:
    """Bytes that this process held at most, and that its children hold."""

    def children() -> Iterator[int]:
        for child in psutil.Process().children(recursive=True):
            try:
                yield child.memory_info().rss
            except psutil.Error:  # it has ended meanwhile
                continue

    # Linux counts in KiB.
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + sum(children())
