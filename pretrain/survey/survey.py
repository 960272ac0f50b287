"""One pass over the training set for all tables that are due."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluation.extraction.batches import BATCH_SIZE, cut_batches
from evaluation.extraction.features import eval_mode
from evaluation.extraction.image_bar import image_bar
from evaluation.parallel import Processes
from evaluation.training.devices import synchronise_buffers
from pretrain.encoder import Encoder
from pretrain.survey.encoder_pass import EncoderPass, ImageSize, Outputs, cut_of, run_pass
from zoo.data.base import Images
from zoo.errors import UserError
from zoo.models.transforms import normalise

Tables = Mapping[str, NDArray[np.generic]]


class TableMaker(Protocol):
    """Makes one or more tables of what an encoder gives for each image; :class:`pretrain.survey.boxes.BoxMaker` is one.

    Attributes
    ----------
    encoder_pass
        What it needs; makers of equal passes share one.
    """

    encoder_pass: EncoderPass

    def due(self, epoch: int) -> bool:
        """Whether the tables are made anew at the start of ``epoch`` (counted from 0)."""

    def start(self, count: int) -> None:
        """A survey of ``count`` images begins."""

    def update(self, outputs: Outputs) -> None:
        """A batch of this process's share of the images."""

    def finish(self, processes: Processes) -> tuple[dict[str, NDArray[np.generic]], dict[str, float], str]:
        """After the last batch, in every process: the tables of all images, numbers for the log, and a sentence for the user."""


@dataclass(frozen=True)
class Findings:
    """What a survey found.

    Attributes
    ----------
    tables
        Name -> array, the same in every process; with a row per training image where views are to follow it.
    numbers
        For the log, ``survey_seconds`` among them.
    texts
        For the user, a sentence per maker.
    """

    tables: dict[str, NDArray[np.generic]]
    numbers: dict[str, float]
    texts: list[str]


class SurveyStopped(Exception):
    """A survey was asked to stop before its end."""


class Survey:
    """Runs encoders over all training images, each decoded once, and makes the tables that are due.

    Processes share the batches; these are cut the same way for any number of processes, so the tables have the same bits.

    Parameters
    ----------
    images
        The training set.
    makers
        Of the tables that the run needs; none: there is never a survey.
    size
        Side in pixels at which the network sees images.
    native
        Side of the images where all have one, else None.
    mean, std
        Per-channel statistics of pixels in [0, 1].
    device
        Where the network is.
    autocast
        As the training's: ``torch.bfloat16``, or None for float32.
    workers
        Decoding processes of this rank, for images that lie in files.
    """

    def __init__(
        self,
        images: Images,
        makers: Sequence[TableMaker],
        *,
        size: int,
        native: int | None,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: torch.device,
        autocast: torch.dtype | None = None,
        workers: int | None = None,
    ) -> None:
        self.images, self.makers, self.size, self.native = images, tuple(makers), size, native
        self.mean, self.std, self.device, self.autocast, self.workers = mean, std, device, autocast, workers

    def due(self, epoch: int) -> bool:
        """Whether any table is made anew at the start of ``epoch``."""
        return any(maker.due(epoch) for maker in self.makers)

    def __call__(
        self,
        epoch: int,
        encoder: Callable[[str], Encoder],
        *,
        progress: bool = False,
        asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> Findings:
        """Run the encoder passes, and make the tables that are due at ``epoch``; every process must call.

        Parameters
        ----------
        encoder
            Gives the method's encoders by name. They run in eval mode and are left as they were, but that all processes get the first
            one's batch-norm statistics.
        asked_to_stop
            Is asked after each batch, equally often in every process, and says the same in all.

        Raises
        ------
        SurveyStopped
            In every process, where it was asked to stop: no table was made.
        UserError
            An image cannot be decoded; a backbone has no feature map.
        """
        started = time.perf_counter()
        processes = Processes.current()
        due = [maker for maker in self.makers if maker.due(epoch)]
        passes = list(dict.fromkeys(maker.encoder_pass for maker in due))
        encoders = {one.encoder: encoder(one.encoder) for one in passes}
        inputs = list(dict.fromkeys(one.input for one in passes))
        share = processes.share(len(self.images), BATCH_SIZE)
        for maker in due:
            maker.start(len(self.images))
        error: UserError | None = None
        most = max(_batches(processes.share(len(self.images), BATCH_SIZE, rank)) for rank in range(processes.count))
        asked, stopped = 0, False
        with ExitStack() as stack:
            for network in encoders.values():
                synchronise_buffers(network)
                stack.enter_context(eval_mode(network))
            done = stack.enter_context(image_bar("survey", share.stop - share.start, show=progress and processes.is_main))
            stack.enter_context(torch.autocast(self.device.type, dtype=self.autocast) if self.autocast else nullcontext())
            try:
                row = share.start
                cuts = [*(cut_of(name, self.size, self.native) for name in inputs), ImageSize()]
                batches = cut_batches(self.images, cuts, share, batch_size=BATCH_SIZE, workers=self.workers, device=self.device)
                with batches as cut:
                    for *shown, sizes in cut:
                        rows = slice(row, row + len(sizes))
                        self._run_batch(dict(zip(inputs, shown, strict=True)), rows, sizes, passes, encoders, due)
                        row = rows.stop
                        done(rows.stop - rows.start)
                        asked, stopped = asked + 1, asked_to_stop()
                        if stopped:
                            break
            except UserError as caught:
                error = caught
            # Who is through, or found a mistake, is asked as often as the others.
            while not stopped and asked < most:
                asked, stopped = asked + 1, asked_to_stop()
        processes.raise_first(error)
        if stopped:
            raise SurveyStopped
        return self._findings(due, processes, started)

    def _run_batch(
        self,
        inputs: dict[str, Tensor],
        rows: slice,
        sizes: Tensor,
        passes: list[EncoderPass],
        encoders: dict[str, Encoder],
        due: list[TableMaker],
    ) -> None:
        """Run each pass once on a batch, and give every maker the outputs of its own."""
        outputs = {}
        for one in passes:
            images = normalise(inputs[one.input].to(self.device, non_blocking=True), self.mean, self.std)
            outputs[one] = run_pass(encoders[one.encoder], images, rows, sizes)
        for maker in due:
            maker.update(outputs[maker.encoder_pass])

    def _findings(self, due: list[TableMaker], processes: Processes, started: float) -> Findings:
        tables: dict[str, NDArray[Any]] = {}
        numbers: dict[str, float] = {}
        texts = []
        for maker in due:
            made, said, text = maker.finish(processes)
            tables.update(made)
            numbers.update(said)
            texts.append(text)
        numbers["survey_seconds"] = time.perf_counter() - started
        return Findings(tables, numbers, texts)


def _batches(share: slice) -> int:
    return -(-(share.stop - share.start) // BATCH_SIZE)
