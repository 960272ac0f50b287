"""The training loop of the house: one, for all methods."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from evaluation.parallel import Processes, start_processes
from evaluation.stopping import StoppedAtOnce, StopRequest, parse_duration
from evaluation.training.checkpoints import remove_partial_checkpoints, save_from_main
from evaluation.training.devices import check_environment, describe, make_accelerator, shares, synchronise_buffers, threads
from evaluation.training.kernels import (
    AUTO,
    kernels,
    peak_memory,
    resolve_precision,
    training_device,
)
from evaluation.training.log import LOG_NAME, Log
from evaluation.training.losses import LossRecorder
from evaluation.training.optimizers import Schedule, make_optimizer
from evaluation.training.progress import TrainingProgress
from evaluation.training.seeding import seed_step, seeded
from evaluation.views import ViewSource
from evaluation.views.tables import BOXES, NEIGHBOURS
from pretrain.fitting.device_choices import with_device_choices
from pretrain.fitting.made_up import made_up_tables
from pretrain.fitting.micro_batch import find_micro_batch
from pretrain.gradients import gradient_numbers
from pretrain.methods import METHODS, Method, RunFacts
from pretrain.methods.base import Place
from pretrain.networks import check_share, check_sizes, make_backbone, prepare_batchnorm, prepare_networks
from pretrain.recipes import as_yaml, plain, typed
from pretrain.runs.beginning import Beginning, begin
from pretrain.runs.check import Check
from pretrain.runs.doubts import doubts, rule_lines
from pretrain.runs.run_folder import (
    BAD_IMAGES_FILE,
    IDENTITY_FILE,
    IDENTITY_KEY,
    RECIPE_KEY,
    check_identity,
    fill_run_folder,
    training_images,
)
from pretrain.runs.tracking import Pictures, tracked
from pretrain.settings import Recipe
from pretrain.sizes import Seen, fit_to_images, with_sizes
from pretrain.start import open_start
from pretrain.survey import BoxMaker, Survey, SurveyStopped, TableMaker
from pretrain.survey.boxes import check_look, check_map, check_table, initial_boxes
from pretrain.survey.explain import cluster_changes, warnings_of
from zoo.data import Data, Images, open_data, without_bad_images
from zoo.data.identity import Identity, identify
from zoo.data.inspection.known import known_lines, known_of
from zoo.data.inspection.scan import Scan, scan_images
from zoo.data.scan import bad_images
from zoo.data.spec import parse_spec
from zoo.errors import UserError, printable
from zoo.files import replace_text
from zoo.model_spec import absolute_model_spec
from zoo.models.run_lock import new_locked_folder
from zoo.models.runs import CHECKPOINT_FORMAT, Newest, latest_checkpoint


@dataclass(frozen=True)
class Outcome:
    """How a call of :func:`train` ended.

    Attributes
    ----------
    step, steps
        The steps done, of how many; 0 of 0 where it was stopped before the first one and nothing was written.
    stopped
        Why it stopped early; None: it did not.
    was_finished
        There was nothing left to do.
    """

    step: int
    steps: int
    stopped: str | None
    was_finished: bool = False


def train(
    config: DictConfig,
    run: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    go_on: bool = False,
    stop: StopRequest | None = None,
) -> Outcome:
    """Pre-train by a resolved recipe.

    Parameters
    ----------
    config
        As :func:`pretrain.recipes.load_recipe` gives it.
    run
        The run folder.
    resume
        Go on from the newest checkpoint in ``run``; the result is the one that the run would have had without the break.
    overwrite
        Replace a run folder that exists.
    go_on
        Begin where there is no run, and resume where there is one that was begun by this recipe.
    stop
        Has the signals been turned into requests already; None: they are here.

    Raises
    ------
    UserError
        Whatever the user can mend, before the first step; a loss that is not finite; a full disk.
    """
    with contextlib.ExitStack() as held:
        stop = held.enter_context(StopRequest()) if stop is None else stop
        try:
            with stop.at_once():
                beginning = _begin(config, run, held, resume=resume, overwrite=overwrite, go_on=go_on)
                if go_on and beginning.finished:
                    assert beginning.newest is not None
                    step = int(beginning.newest.content["step"])
                    return Outcome(step, step, None, was_finished=True)
                training = _build(beginning, run, held)
        except StoppedAtOnce:
            return Outcome(0, 0, stop.reason)
        # Nothing is written before everything that can be refused was refused.
        Processes.current().from_main(lambda: training.make_folder(held))
        return training.run(stop)


def _begin(config: DictConfig, run: Path, held: contextlib.ExitStack, *, resume: bool, overwrite: bool, go_on: bool) -> Beginning:
    device = training_device(str(config.device.value))
    check_environment(device.type)
    config = config.copy()
    if not resume:
        # A run may be resumed from another folder than it was started in.
        config.data = str(parse_spec(config.data).absolute())
        if config.init:
            config.init = absolute_model_spec(config.init)
    return begin(config, run, resume=resume, overwrite=overwrite, go_on=go_on, processes=start_processes(device), held=held)


def _build(beginning: Beginning, run: Path, held: contextlib.ExitStack) -> Training:
    """Everything that a training needs, with the switches and threads of its recipe, which stay so while ``held`` is open."""
    config = with_device_choices(beginning.config)
    recipe = typed(config)
    held.enter_context(threads(beginning.newest.content["threads"] if beginning.newest else recipe.threads))
    held.enter_context(device_switches(recipe))
    precision = resolve_precision(recipe.precision.value, training_device(recipe.device.value))
    accelerator = make_accelerator(recipe.device.value, precision, trackers=recipe.trackers, project=run)
    data = open_data(recipe.data, on_bad="skip")
    training = Training(recipe, config, data, accelerator, run, beginning.newest)
    training.notes += beginning.notes
    if beginning.newest is not None:
        training.check_images(beginning.newest.content)
    return training


def device_switches(recipe: Recipe) -> contextlib.AbstractContextManager[None]:
    """torch's switches as the recipe has them, for the device it runs on."""
    return kernels(training_device(recipe.device.value), deterministic=recipe.deterministic, tf32=recipe.tf32)


class Training:
    """One call of :func:`train`: everything is built and checked here, and run by :meth:`run`."""

    def __init__(
        self, recipe: Recipe, config: DictConfig, data: Data, accelerator: Accelerator, folder: Path, newest: Newest | None = None
    ) -> None:
        self.recipe, self.data, self.accelerator, self.folder, self.newest = recipe, data, accelerator, folder, newest
        self.device = accelerator.device
        self.max_seconds = parse_duration(recipe.max_time) if recipe.max_time else None
        self.scan: Scan | None = None
        self.identity = ""
        self.notes: list[str] = []
        if data.role("pretrain").pixels is None and not recipe.fit:
            # Decoding a large data set takes minutes: what the backbone refuses is better known before.
            make_backbone(recipe)
        self.images = self._images()
        # From here on every number of the recipe is known.
        self.config = with_sizes(fit_to_images(config, self._seen()), len(self.images))
        self.fitted = {key: OmegaConf.select(self.config, key) for key in recipe.fit}
        self.recipe = recipe = typed(self.config)
        assert recipe.batch is not None
        self.batch = recipe.batch
        # Left to the GPU's memory, it is found when there is something to try.
        micro_batch = None if isinstance(recipe.micro_batch, str) else recipe.micro_batch
        self.per_process, self.parts = shares(self.batch, micro_batch, accelerator)
        peak_lr = recipe.optimizer.peak_lr(self.batch)
        method_type = METHODS[config.method.name]
        views = method_type.views(recipe.method, recipe.views.size)
        self.source = ViewSource(
            self.images,
            views,
            recipe.views,
            mean=data.mean,
            std=data.std,
            seed=recipe.seed,
            batch=self.batch,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            device=self.device,
            workers=recipe.workers,
        )
        self.steps_per_epoch = self.source.steps_per_epoch
        self.steps = self.steps_per_epoch * recipe.epochs
        with seeded(recipe.seed):
            facts = RunFacts(len(self.images), self.batch, recipe.seed, self.steps)
            self.method = method_type(lambda: make_backbone(recipe), recipe.method, facts)
        self.method.check_views(recipe.views.size)
        sizes = {view.resolve(recipe.views).size for view in views}
        check_sizes(self.method.backbone(), recipe.backbone, sizes, recipe.views.size)
        check_share(self.method, config.method.name, self.batch, self.parts, accelerator.num_processes)
        self.method = prepare_batchnorm(self.method, recipe, self.per_process // self.parts, self.device, accelerator.num_processes)
        if recipe.micro_batch == AUTO:
            self._find_micro_batch([view.resolve(recipe.views).size for view in views])
        prepare_networks(self.method, recipe, self.device)
        optimizer = make_optimizer(self.method.parameter_groups(), recipe.optimizer, peak_lr)
        self.schedule = Schedule(optimizer, recipe.schedule, epochs=recipe.epochs, steps_per_epoch=self.steps_per_epoch)
        self.model: nn.Module
        self.optimizer: torch.optim.Optimizer
        self.model, self.optimizer = accelerator.prepare(self.method, optimizer)
        self.check = Check.make(recipe, data, self.images) if recipe.knn.every_epochs else None
        self.survey = self._make_survey()
        self.tables: dict[str, NDArray[Any]] = {}
        self._survey_seconds = 0.0
        self._warned: set[str] = set()

    # ------------------------------------------------------------------ building

    def _images(self) -> Images:
        """The training images without the bad ones. The first process looks for these once; a resumed run reads what was found then."""
        if self.newest is not None:
            return training_images(self.folder, self.recipe, self.data)
        images = self.data.role("pretrain")
        if self.recipe.max_images is not None:
            images = images.thinned(self.recipe.max_images)
        found: list[Any] = [None]
        if self.accelerator.is_main_process:
            with Progress(console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task("checking image files", total=len(images))
                if images.pixels is None:
                    self.scan = scan_images(images, lambda done, _: bar.update(task, completed=done))
                found = [bad_images(self.scan) if self.scan else []]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(found)
        return without_bad_images(images, found[0])

    def _seen(self) -> Seen:
        """What the rule for a recipe's numbers goes by; the first process has looked at the images."""
        side: list[Any] = [None]
        if self.scan is not None:
            side = [int(np.median(self.scan.table.seen_sizes[~self.scan.table.bad].min(axis=1)))]
        elif self.images.pixels is not None:
            side = [min(self.images.pixels.shape[1:3])]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(side)
        start = open_start(self.recipe) if self.recipe.init and self.recipe.fit else None
        arch, start_side = (start.arch, start.input_size) if start else (None, None)
        return Seen(len(self.images), side[0], arch, start_side, self.accelerator.num_processes)

    def _find_micro_batch(self, sizes: list[int]) -> None:
        if self.accelerator.num_processes > 1:
            raise UserError(
                f"micro_batch=auto is found by one process alone, and there are {self.accelerator.num_processes}; name a number (one "
                f"process finds it: pretrain RECIPE --trial micro_batch=auto batch={self.per_process})"
            )
        found = find_micro_batch(
            self.method,
            lambda method: prepare_networks(method, self.recipe, self.device),
            self.per_process,
            sizes,
            self.recipe.optimizer,
            made_up_tables(self.recipe.method, len(self.images)),
            device=self.device,
            autocast=self.accelerator.mixed_precision == "bf16",
        )
        self.parts = self.per_process // found
        # Written into the run's recipe: a resumed run accumulates as this one does.
        self.recipe.micro_batch = self.config.micro_batch = found

    def _make_survey(self) -> Survey:
        recipe, data = self.recipe, self.data
        makers: list[TableMaker] = self.method_in_use.makers(self.images)
        if self.source.follows_boxes:
            check_map(self.method_in_use.backbone(), recipe.views.size)
            truth: Any = self.images.extras.get(BOXES)
            check_look(recipe.boxes, self.method_in_use.encoders, self.config.method.name)
            makers.append(BoxMaker(recipe.boxes, recipe.views.size, truth, native=data.image_size))
        return Survey(
            self.images,
            makers,
            size=recipe.views.size,
            native=data.image_size,
            mean=data.mean,
            std=data.std,
            device=self.device,
            autocast=torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else None,
            workers=recipe.workers,
        )

    # ------------------------------------------------------------------ running

    def check_images(self, checkpoint: dict[str, Any]) -> None:
        """Raise UserError unless the images are those that ``checkpoint`` was made with; the first process compares them."""
        Processes.current().from_main(lambda: check_identity(self.folder, checkpoint, self.images, self.data))

    def make_folder(self, held: contextlib.ExitStack) -> None:
        """In the main process: a new run folder, whole and locked while ``held`` is open; one that is gone on with is tidied up."""
        if self.newest is not None:
            remove_partial_checkpoints(self.folder)
            self._record_images(self.folder)
            return
        with new_locked_folder(self.folder, held) as folder:
            fill_run_folder(folder, as_yaml(self.config))
            self._record_images(folder)

    def _record_images(self, folder: Path) -> None:
        """Write which images the run trains on, and which it leaves out, where that is not written yet."""
        path = folder / IDENTITY_FILE
        if not path.exists():
            if self.scan is None and self.images.pixels is None:
                self.scan = scan_images(self.images)
            identity = identify(self.images, self.scan, self.data.root)
            identity.save(path)
            self.identity = identity.digest()
        else:
            self.identity = Identity.load(path).digest()
        if self.images.skipped and self.newest is None:
            replace_text(folder / BAD_IMAGES_FILE, "".join(f"{printable(name)}\n" for name in self.images.skipped))

    def run(self, stop: StopRequest) -> Outcome:
        """Train from the beginning, or from the checkpoint, until ``stop`` asks for the end."""
        step = self._restore(self.newest.content) if self.newest else 0
        self.newest = None  # its tensors are not needed any more
        main = self.accelerator.is_main_process
        progress = TrainingProgress(self.steps, done=step, images_per_step=self.batch, shown=main)
        self._say_start(progress, step)
        with contextlib.ExitStack() as stack:
            stack.callback(self.source.close)
            try:
                self.accelerator.init_trackers(
                    "tensorboard",
                    config=None,
                    init_kwargs={"tensorboard": {"purge_step": step}, "wandb": {"config": OmegaConf.to_container(self.config)}},
                )
            except OSError as error:
                raise UserError(
                    f"the logs of {', '.join(self.recipe.trackers)} cannot be written to {self.folder} ({error.strerror or error}); free "
                    "some space, or set trackers=[]"
                ) from error
            stack.push(self._finish_trackers)
            log = stack.enter_context(Log(self.folder / LOG_NAME, step=step)) if main else None
            stack.enter_context(progress)
            stop.limit(self.max_seconds)
            self.progress = progress
            self.losses = LossRecorder(
                self.accelerator,
                progress,
                log,
                epochs=self.recipe.epochs,
                interval=self.recipe.log_every,
                last_good=self._last_good,
                tracked=lambda row: tracked(row, self.batch),
            )
            self.pictures = Pictures(self.accelerator, self.images, self.data.mean, self.data.std)
            return self._steps(step, stop)

    def _finish_trackers(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Not `end_training`, which also ends the process group: a program may train more than once.
        for tracker in self.accelerator.trackers:
            try:
                tracker.finish()
            except OSError as refused:
                # What ended the training, mostly the same full disk, says more.
                if kind is None:
                    raise UserError(
                        f"the training is done, but its {tracker.name} log in {self.folder} is not complete ({refused.strerror or refused})"
                    ) from refused

    def _steps(self, step: int, stop: StopRequest) -> Outcome:
        self._saved = step if step else -1
        started = time.perf_counter()
        if stop.asked(self.device, by_signal=True):
            return self._stopped(step, stop)
        while step < self.steps:
            epoch, first_step = divmod(step, self.steps_per_epoch)
            numbers: dict[str, float] = {}
            # A run that was stopped inside an epoch has this epoch's tables in its checkpoint.
            if first_step == 0 and self.survey.due(epoch):
                # With its first tables a method may have other losses than before, which are other columns of the log.
                self.losses.flush()
                try:
                    numbers = self._look_around(epoch, stop)
                except SurveyStopped:
                    return self._stopped(step, stop)
            self.model.train()
            for batch in self.source.batches(epoch, first_step, self._tables_of(epoch)):
                self.pictures.show_views(step, batch.views)
                if numbers:
                    numbers |= self._gradients(step, batch.views, batch.index)
                self.losses.add(self._row(step) | numbers, self._step(step, batch.views, batch.index))
                numbers = {}
                step += 1
                epoch_ends = step % self.steps_per_epoch == 0
                if self._check_due(step, epoch_ends):
                    self.losses.check()
                    self.losses.note(self._checked())
                stopping = step < self.steps and stop.asked(self.device)
                due = self._checkpoint_due(step, epoch_ends) or stopping
                if due or self.losses.full or step == self.steps:
                    self.losses.flush()
                if due:
                    self._save(step)
                if stopping:
                    return Outcome(step, self.steps, stop.reason)
        if self._survey_seconds:
            share = self._survey_seconds / (time.perf_counter() - started)
            self.progress.say(f"surveys took {self._survey_seconds:.1f} s, {100 * share:.2g} % of the time")
        held = peak_memory(self.device)
        if held is not None:
            self.progress.say(f"the GPU held at most {held / 2**30:.2f} GiB of tensors")
        return Outcome(step, self.steps, None)

    def _stopped(self, step: int, stop: StopRequest) -> Outcome:
        """Save, where that is not done yet, and end before the next step."""
        if self._saved != step:
            self._save(step)
        return Outcome(step, self.steps, stop.reason)

    def _look_around(self, epoch: int, stop: StopRequest) -> dict[str, float]:
        """Make the tables that are due at ``epoch``; returns what the log says of them. Raises SurveyStopped where a signal came."""
        findings = self.survey(epoch, self.method_in_use.named_encoder, asked_to_stop=lambda: stop.asked(self.device, by_signal=True))
        numbers = findings.numbers | (cluster_changes(self.tables, findings.tables) if self.accelerator.is_main_process else {})
        self.tables.update(findings.tables)
        self.method_in_use.receive(self.tables)
        self.pictures.show_tables(epoch * self.steps_per_epoch, findings.tables)
        seconds = findings.numbers["survey_seconds"]
        self._survey_seconds += seconds
        self.losses.leave_out(seconds)
        self.progress.say(f"survey at epoch {epoch + 1}: {'; '.join(findings.texts)} ({seconds:.1f} s)")
        for kind, sentence in warnings_of(numbers, getattr(self.recipe.method, "warmup_epochs", None)):
            if kind not in self._warned:
                self._warned.add(kind)
                self.progress.say(sentence)
        return numbers

    def _gradients(self, step: int, views: list[Tensor], index: Tensor) -> dict[str, float]:
        """What the log says of the loss terms' gradients on the first batch after a survey; nothing of several processes, or compiled."""
        if self.accelerator.num_processes > 1 or self.recipe.compile:
            return {}
        started = time.perf_counter()
        rows = slice(0, len(index) // self.parts)
        place = Place(step, 0, self.parts)
        numbers = gradient_numbers(self.method_in_use, [view[rows] for view in views], index[rows], place, self.accelerator.autocast())
        self.losses.leave_out(time.perf_counter() - started)
        return numbers

    def _tables_of(self, epoch: int) -> dict[str, NDArray[Any]]:
        """What views of ``epoch`` follow: neighbours, and boxes from the end of their warm-up on, counted from the run's first epoch."""
        warmup = self.recipe.boxes.warmup_epochs
        assert warmup is not None
        followed: dict[str, NDArray[Any]] = {}
        if self.source.shows_neighbours:
            followed[NEIGHBOURS] = self.tables[NEIGHBOURS]
        if self.source.follows_boxes and epoch >= warmup:
            followed[BOXES] = self.tables.get(BOXES, initial_boxes(self.recipe.boxes, len(self.images)))
        # All else is the method's.
        return followed

    def _step(self, step: int, views: list[Tensor], index: Tensor) -> dict[str, Tensor]:
        """One optimizer step; returns this process's losses, on the device."""
        seed_step(self.recipe.seed, step, self.accelerator.process_index)
        self.schedule.set(step)
        self.method_in_use.start_step(step)
        totals: dict[str, Tensor] = {}
        for part in range(self.parts):
            rows = slice(part * len(index) // self.parts, (part + 1) * len(index) // self.parts)
            last = part == self.parts - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                losses = self.model([view[rows] for view in views], index[rows], Place(step, part, self.parts))
                loss = torch.stack(list(losses.values())).sum() / self.parts
                self.accelerator.backward(loss)
            for name, value in losses.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach() / self.parts
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method_in_use.finish_step()
        return totals

    @property
    def method_in_use(self) -> Method:
        """The method without its distributed wrapper."""
        method = self.accelerator.unwrap_model(self.model)
        assert isinstance(method, Method)
        return method

    def _row(self, step: int) -> dict[str, Any]:
        return {"step": step, "epoch": step // self.steps_per_epoch, "lr": self.schedule.factor(step) * max(self.schedule.peaks)}

    def _last_good(self) -> str:
        return f"{latest_checkpoint(self.folder)}" if self._saved >= 0 else "none yet"

    def _check_due(self, step: int, epoch_ends: bool) -> bool:
        epochs = step // self.steps_per_epoch
        return self.check is not None and epoch_ends and (epochs % self.recipe.knn.every_epochs == 0 or step == self.steps)

    def _checked(self) -> dict[str, float]:
        assert self.check is not None
        synchronise_buffers(self.method_in_use.backbone())
        try:
            numbers = self.check(self.method_in_use.backbone(), self.device)
        except UserError as error:
            # The loss was finite still; the step's update broke the weights.
            raise self.losses.diverged(f"the kNN check failed ({error})") from error
        self.model.train()
        for line in self.check.lines(numbers):
            self.progress.say(line)
        return numbers

    def _checkpoint_due(self, step: int, epoch_ends: bool) -> bool:
        settings = self.recipe.checkpoint
        inside = settings.every_steps > 0 and step % settings.every_steps == 0
        regular = epoch_ends and (step // self.steps_per_epoch) % settings.every_epochs == 0
        return step == self.steps or inside or regular or self._kept_for_good(step)

    def _kept_for_good(self, step: int) -> bool:
        every = self.recipe.checkpoint.keep_every * self.steps_per_epoch
        return every > 0 and step % every == 0

    def _save(self, step: int) -> None:
        synchronise_buffers(self.method_in_use)
        keep = self.recipe.checkpoint.keep
        save_from_main(self.accelerator, self.folder, step, lambda: self._state(step), keep=keep, for_good=self._kept_for_good)
        self._saved = step

    def _state(self, step: int) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "format": CHECKPOINT_FORMAT,
            "step": step,
            "epoch": step // self.steps_per_epoch,
            "steps": self.steps,
            "arch": recipe.backbone,
            "method": self.config.method.name,
            "image_size": recipe.views.size,
            "mean": list(self.data.mean),
            "std": list(self.data.std),
            "data": recipe.data,
            "images": len(self.images),
            IDENTITY_KEY: self.identity,
            RECIPE_KEY: plain(self.config),
            "threads": torch.get_num_threads(),
            "processes": self.accelerator.num_processes,
            "model": self.method_in_use.state_dict(),
            "encoders": dict(self.method_in_use.encoders),
            "optimizer": self.optimizer.state_dict(),
            "tables": {name: torch.from_numpy(table) for name, table in self.tables.items()},
        }

    def _restore(self, checkpoint: dict[str, Any]) -> int:
        if checkpoint["images"] != len(self.images):
            raise UserError(
                f"data '{self.recipe.data}' now has {len(self.images)} good images, but the run {self.folder} was made on "
                f"{checkpoint['images']}; resuming needs the same images"
            )
        self.method_in_use.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.tables = {name: table.numpy() for name, table in checkpoint["tables"].items()}
        if BOXES in self.tables:
            check_table(self.tables[BOXES], len(self.images))
        self.method_in_use.receive(self.tables)
        return int(checkpoint["step"])

    def _say_start(self, progress: TrainingProgress, step: int) -> None:
        recipe, count = self.recipe, len(self.images)
        progress.say(f"device: {describe(self.accelerator)}")
        if self.accelerator.is_main_process:
            self.notes += known_lines(known_of(self.data, [self.images]), recipe.data)
        for note in self.notes:
            progress.say(note)
        if self.images.skipped:
            progress.say(f"left out {len(self.images.skipped)} bad images, listed in {self.folder / BAD_IMAGES_FILE}")
        accumulation = f" in {self.parts} forward passes" if self.parts > 1 else ""
        peak = max(self.schedule.peaks)
        progress.say(
            f"{self.config.method.name} with {recipe.backbone} at {recipe.views.size} px on {count} images of '{recipe.data}': "
            f"{recipe.epochs} epochs of {self.steps_per_epoch} steps, batch {self.batch}{accumulation}, peak learning rate {peak:.4g}"
        )
        for line in (
            *rule_lines(self.fitted, self.config, count, self.folder),
            *doubts(recipe, self.method_in_use, count, self.accelerator.num_processes),
        ):
            progress.say(line)
        if self.check is not None and not self.check.labelled:
            progress.say(f"note: no kNN check, since data '{recipe.data}' has no labelled train and test splits")
        if step:
            progress.say(f"going on from step {step} of {self.steps}")
