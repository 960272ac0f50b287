"""The loop of every training with labels: fine-tuning, and linear layers on images that are augmented anew each epoch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluation.parallel import start_processes
from evaluation.stopping import StopRequest, TrainingStopped
from evaluation.training.checkpoints import remove_partial_checkpoints, save_from_main
from evaluation.training.devices import Device, Precision, describe, make_accelerator, synchronise_buffers, threads
from evaluation.training.kernels import training_device
from evaluation.training.log import LOG_NAME, Log
from evaluation.training.losses import LossRecorder
from evaluation.training.optimizers import OptimizerSettings, ParameterGroup, Schedule, ScheduleSettings, make_optimizer
from evaluation.training.progress import TrainingProgress
from evaluation.training.seeding import seed_step
from zoo.errors import UserError
from zoo.files import replace_text
from zoo.models.run_lock import LOCK_FILE, run_lock
from zoo.models.runs import Newest, checkpoints, read_newest_checkpoint
from zoo.reading.outside import read_record

FORMAT = "backbone-loop supervised training 1"
_REQUIRED = ("step", "steps", "model", "optimizer", "history", "kept", "threads", "processes")
SETTINGS_FILE = "training.json"
LOG_INTERVAL = 50

Loss = Callable[..., Tensor]
# What is measured after an epoch, by name; called in every process, with the network in eval mode and the same weights everywhere.
Measure = Callable[[nn.Module], dict[str, float]]


class LabelledBatches(Protocol):
    """Augmented training images, batch by batch, the same for any number of workers and wherever an epoch is entered."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of each batch: float32 images (b, 3, S, S), normalised, and their positions int64 (b,), on the device."""


@dataclass(frozen=True)
class Course:
    """How a network is trained: everything that its result depends on, but for the images and the network itself.

    Attributes
    ----------
    epochs
    optimizer, schedule
        Settings; the peak rates are the groups' own.
    seed
        Of what draws during a step (dropout); the batches and the first weights have been seeded by whoever made them.
    reduction
        ``"mean"`` or ``"sum"`` of the images' losses over the global batch.
    sync_bn
        Batch norm over all processes, where there are several on GPUs. On CPUs torch has none: then each process has its own.
    """

    epochs: int
    optimizer: OptimizerSettings
    schedule: ScheduleSettings
    seed: int = 0
    reduction: Literal["mean", "sum"] = "mean"
    sync_bn: bool = True


@dataclass(frozen=True)
class Place:
    """Where a training runs, and where it keeps what it needs to go on.

    Attributes
    ----------
    device, precision
        As in :func:`evaluation.training.devices.make_accelerator`.
    folder
        For checkpoints and the log; None: nothing is kept, and a training that is stopped begins anew.
    show
        Progress on standard error.
    max_seconds
        Time after which to save and stop.
    """

    device: Device = "auto"
    precision: Precision = "fp32"
    folder: Path | None = None
    show: bool = False
    max_seconds: float | None = None


@dataclass
class History:
    """What was measured after each epoch.

    Attributes
    ----------
    epochs
        A dict of named numbers per epoch.
    batch_norm
        How batch norm saw the batches: ``"joint"`` (over all processes, or there is one) or ``"per process"``.
    resumed_from
        The step that the training went on from; 0: it ran through.
    kept
        The network's tensors, on the CPU, after the best epoch by the number that was to be kept by; None where there was none.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    batch_norm: str = "joint"
    resumed_from: int = 0
    kept: dict[str, Tensor] | None = None

    def best(self, name: str) -> int:
        """The first epoch (from 0) of those with the largest number of that name."""
        values = [epoch[name] for epoch in self.epochs]
        return values.index(max(values))


def train_supervised(
    network: nn.Module,
    source: LabelledBatches,
    targets: Tensor,
    course: Course,
    groups: Sequence[ParameterGroup],
    *,
    loss: Loss = functional.cross_entropy,
    measure: Measure = lambda network: {},
    keep_by: str | None = None,
    place: Place | None = None,
    identity: Mapping[str, Any] | None = None,
) -> History:
    """Train ``network`` in place.

    Parameters
    ----------
    network
        Images -> outputs. It is moved to the device, and left there in eval mode, with its last weights.
    source
        The training images.
    targets
        (N, ...): what ``loss`` compares outputs with; row i belongs to the image at position i.
    course
        How.
    groups
        The parameters, each group with its own peak rate.
    loss
        Called with outputs, targets and ``reduction="none"``: losses (b,) or (b, C), the latter added up over C.
    measure
        What to measure after each epoch; batch-norm statistics are the first process's everywhere.
    keep_by
        A measured number: the weights of the epoch where it is largest are kept (:attr:`History.kept`).
    place
        Device, folder and the like.
    identity
        Anything that is JSON and tells this training from others. A folder that holds another's checkpoints is refused; one that holds this
        one's is gone on from, and the result is the one that the training would have had without the break.

    Raises
    ------
    UserError
        A folder of another training, a full disk, a loss that is not finite.
    TrainingStopped
        A signal or the time limit, with a folder to go on from. Without a folder signals do what they always do.
    """
    place = Place() if place is None else place
    identity = {} if identity is None else identity
    with contextlib.ExitStack() as held:
        if (folder := place.folder) is not None:
            # Held before it is read: what another process writes at the same time is no state to go on from.
            start_processes(training_device(place.device)).from_main(lambda: _hold(folder, held))
        newest = _saved(folder, identity)
        held.enter_context(threads(newest.content["threads"] if newest else None))
        return _Supervised(network, source, targets, course, groups, loss, measure, keep_by, place, identity).run(newest)


class _Supervised:
    def __init__(
        self,
        network: nn.Module,
        source: LabelledBatches,
        targets: Tensor,
        course: Course,
        groups: Sequence[ParameterGroup],
        loss: Loss,
        measure: Measure,
        keep_by: str | None,
        place: Place,
        identity: Mapping[str, Any],
    ) -> None:
        self.source, self.course, self.loss, self.measure = source, course, loss, measure
        self.keep_by, self.place, self.identity = keep_by, place, identity
        self.accelerator = make_accelerator(place.device, place.precision, trackers=[], project=place.folder or Path())
        processes, device = self.accelerator.num_processes, self.accelerator.device
        self.history = History()
        if processes > 1:
            if course.sync_bn and device.type == "cuda":
                network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
            else:
                self.history.batch_norm = "per process"
        self.targets = targets.to(device)
        self.steps = course.epochs * source.steps_per_epoch
        # The optimizer is made of parameters that are where they stay: on a GPU it is another one.
        self.network = network.to(device)
        optimizer = make_optimizer(list(groups), course.optimizer, 0.0)
        self.schedule = Schedule(optimizer, course.schedule, epochs=course.epochs, steps_per_epoch=source.steps_per_epoch)
        self.model: nn.Module
        self.optimizer: torch.optim.Optimizer
        self.model, self.optimizer = self.accelerator.prepare(network, optimizer)
        self._saved_step = 0

    def run(self, newest: Newest | None) -> History:
        step = self._restore(newest.content) if newest else 0
        note = newest.note if newest else None
        folder, main = self.place.folder, self.accelerator.is_main_process
        if folder is not None and main:
            if newest:
                remove_partial_checkpoints(folder)
            else:
                replace_text(folder / SETTINGS_FILE, json.dumps(self.identity, indent=2, sort_keys=True) + "\n")
        progress = TrainingProgress(self.steps, done=step, images_per_step=self._images_per_step(), shown=main and self.place.show)
        if note and main:
            progress.say(note)
        self._say_start(progress, step)
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(Log(folder / LOG_NAME, step=step)) if main and folder is not None else None
            stack.enter_context(progress)
            # Where nothing can be saved a signal had better end the process.
            stop = stack.enter_context(StopRequest(self.place.max_seconds)) if folder is not None else None
            self.losses = LossRecorder(
                self.accelerator, progress, log, epochs=self.course.epochs, interval=LOG_INTERVAL, last_good=self._last_good
            )
            # What is drawn during a step has keys of its own; the caller's streams must not notice.
            stack.enter_context(torch.random.fork_rng(devices=[self.targets.device] if self.targets.is_cuda else []))
            self._steps(step, stop)
        # accelerate has the network's forward run under autocast where that was asked for.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False).eval()
        return self.history

    def _say_start(self, progress: TrainingProgress, step: int) -> None:
        if not self.place.show:
            return
        per_epoch = self.source.steps_per_epoch
        progress.say(
            f"training on {describe(self.accelerator)}: {len(self.targets)} images, {self.course.epochs} epochs of {per_epoch} steps"
        )
        if self.history.batch_norm != "joint":
            progress.say("note: batch norm sees each process's images alone; torch has a joint one for GPUs only")
        if step:
            progress.say(f"going on from step {step} of {self.steps} in {self.place.folder}")

    def _steps(self, step: int, stop: StopRequest | None) -> None:
        per_epoch = self.source.steps_per_epoch
        while step < self.steps:
            epoch, first_step = divmod(step, per_epoch)
            self.model.train()
            for images, index in self.source.batches(epoch, first_step):
                self.losses.add(self._row(step), {"loss": self._step(step, images, index)})
                step += 1
                ends = step % per_epoch == 0
                stopping = stop is not None and step < self.steps and stop.asked(self.accelerator.device)
                if ends or stopping or self.losses.full:
                    self.losses.flush()
                if ends:
                    self.history.epochs.append(self._measured())
                    if self.keep_by is not None and self.history.best(self.keep_by) == len(self.history.epochs) - 1:
                        self.history.kept = {name: value.cpu().clone() for name, value in self.network.state_dict().items()}
                if self.place.folder is not None and (ends or stopping):
                    self._save(step)
                if stop is not None and stopping:
                    raise TrainingStopped(
                        f"stopped by {stop.reason} after step {step} of {self.steps}; the same command goes on from {self.place.folder}"
                    )

    def _step(self, step: int, images: Tensor, index: Tensor) -> Tensor:
        """One optimizer step; returns this process's share of the loss, of which the mean over processes is the batch's."""
        seed_step(self.course.seed, step, self.accelerator.process_index)
        self.schedule.set(step)
        losses = self.loss(self.model(images).float(), self.targets[index], reduction="none")
        of_images = losses.flatten(1).sum(1) if losses.ndim > 1 else losses
        # Gradients are averaged over processes; a sum over the global batch is that average times their number.
        value = of_images.mean() if self.course.reduction == "mean" else of_images.sum() * self.accelerator.num_processes
        self.accelerator.backward(value)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return value.detach()

    def _measured(self) -> dict[str, float]:
        synchronise_buffers(self.network)
        self.network.eval()
        numbers = self.measure(self.network)
        self.model.train()
        return numbers

    def _row(self, step: int) -> dict[str, Any]:
        return {
            "step": step,
            "epoch": step // self.source.steps_per_epoch,
            "lr": self.schedule.factor(step) * max(self.schedule.peaks),
        }

    def _images_per_step(self) -> int:
        return max(1, len(self.targets) // self.source.steps_per_epoch)

    def _last_good(self) -> str:
        return f"that of step {self._saved_step}" if self._saved_step else "none"

    def _save(self, step: int) -> None:
        assert self.place.folder is not None
        save_from_main(self.accelerator, self.place.folder, step, lambda: self._state(step), keep=1)
        self._saved_step = step

    def _state(self, step: int) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "step": step,
            "steps": self.steps,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history.epochs,
            "kept": self.history.kept,
            "threads": torch.get_num_threads(),
            "processes": self.accelerator.num_processes,
        }

    def _restore(self, saved: dict[str, Any]) -> int:
        if saved["processes"] != self.accelerator.num_processes:
            raise UserError(
                f"the training in {self.place.folder} was begun by {saved['processes']} processes and cannot go on with "
                f"{self.accelerator.num_processes}; start it with the same number, or choose another folder"
            )
        self.network.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.history.epochs, self.history.kept = list(saved["history"]), saved["kept"]
        self.history.resumed_from = self._saved_step = int(saved["step"])
        return self._saved_step


def _hold(folder: Path, held: contextlib.ExitStack) -> None:
    """Hold the folder of checkpoints, which is made where it is not there, while ``held`` is open; a folder of others gets no file."""
    _check_ours(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder for checkpoints, {folder}, cannot be made ({error.strerror or error})") from error
    held.enter_context(run_lock(folder))


def _check_ours(folder: Path) -> None:
    """Raise UserError for a folder that holds something else than a training."""
    if folder.is_dir() and not (folder / SETTINGS_FILE).is_file() and any(path.name != LOCK_FILE for path in folder.iterdir()):
        raise UserError(f"{folder} is not a folder of a training (it has no {SETTINGS_FILE}); choose another one for checkpoints")


def _saved(folder: Path | None, identity: Mapping[str, Any]) -> Newest | None:
    """The newest checkpoint in ``folder``; None where there is none. Raises UserError for a folder of another training."""
    if folder is None or not folder.exists():
        return None
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return None
    try:
        there = read_record(path)
    except UserError as error:
        raise UserError(f"{error}; remove {folder}, or choose another one for checkpoints") from error
    own, wanted = _flat(there), _flat(json.loads(json.dumps(identity)))
    if own != wanted:
        name = next(name for name in sorted({*own, *wanted}) if own.get(name) != wanted.get(name))
        raise UserError(
            f"{folder} holds another training: its {name} is {own.get(name)}, and here it is {wanted.get(name)}; "
            "choose another folder for checkpoints, or remove it"
        )
    return read_newest_checkpoint(folder, kind=FORMAT, required=_REQUIRED) if checkpoints(folder) else None


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested groups of values as one: ``preset.epochs`` -> text."""
    if not isinstance(value, dict):
        return {name: json.dumps(value)}
    return {key: text for part, inner in value.items() for key, text in _flat(inner, f"{name}.{part}" if name else part).items()}
