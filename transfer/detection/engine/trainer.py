"""detectron2's DefaultTrainer with a start that is checked, an order that can be resumed, and a log of every step."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetFromList, build_detection_test_loader, get_detection_dataset_dicts
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, TensorboardXWriter
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from tqdm import tqdm

from evaluation.loading import ClosableLoader
from evaluation.stopping import StopRequest
from evaluation.training.log import LOG_NAME, Log, read_log
from evaluation.training.progress import TrainingProgress
from transfer.detection.engine.checkpointer import StrictCheckpointer
from transfer.detection.engine.dataset_catalog import evaluate_model
from transfer.detection.engine.loader import KeyedBatches, KeyedImages, TrainLoader, step_seed
from transfer.detection.engine.mapper import LayerMapper

KEPT_CHECKPOINTS = 2
EVALUATION_KEY = "evaluation"
TENSORBOARD_FOLDER = "tensorboard"
_SAID = ("box_AP", "box_AP50", "mask_AP")


class Stopped(BaseException):
    """Ends detectron2's loop between two steps; it takes any Exception for a failure and reports it as one."""


class Trainer(DefaultTrainer):
    """detectron2's trainer on a registered data set.

    What differs: batches come from :class:`~transfer.detection.engine.loader.TrainLoader`; torch's generators are seeded anew for each
    step, by (seed, step, rank); precise batch norm sees batches that depend on the step alone; checkpoints are those of
    :class:`StrictCheckpointer`. So a run that is killed and resumed goes on as if it had not been: bit for bit on a CPU, and on a GPU as
    far as its kernels add in the same order.

    Attributes
    ----------
    evaluations
        ``{"step": ..., metrics}`` of each evaluation so far.
    per_class
        AP per class of the last one, by metric.
    """

    def __init__(self, cfg: Any, stop: StopRequest) -> None:
        self._stop = stop
        self.evaluations: list[dict[str, float]] = []
        self.per_class: dict[str, dict[str, float]] = {}
        super().__init__(cfg)

    def build_hooks(self) -> list[HookBase | None]:
        cfg = self.cfg
        self.checkpointer = StrictCheckpointer(self._trainer.model, cfg.OUTPUT_DIR, keep=KEPT_CHECKPOINTS, trainer=weakref.proxy(self))
        precise = cfg.TEST.PRECISE_BN
        return [
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            _PreciseBN(cfg, self.model) if precise.ENABLED and get_bn_modules(self.model) else None,
            hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD) if comm.is_main_process() else None,
            hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate),
            _Recorder(cfg) if comm.is_main_process() else None,
            _Stopper(self._stop, torch.device(cfg.MODEL.DEVICE)),
        ]

    def resume_or_load(self, resume: bool = True) -> None:
        super().resume_or_load(resume)
        self.data_loader.batches.start = self.start_iter

    def run_step(self) -> None:
        torch.manual_seed(step_seed(self.cfg.SEED, self.iter, comm.get_rank()))
        super().run_step()

    def _evaluate(self) -> dict[str, float]:
        (name,) = self.cfg.DATASETS.TEST
        loader = self.build_test_loader(self.cfg, name)
        with loader:
            metrics, per_class = evaluate_model(self.model, loader, name, masks=self.cfg.MODEL.MASK_ON)
        if not metrics:
            return {}
        self.per_class = per_class
        step = min(self.iter + 1, self.max_iter)
        self.evaluations.append({"step": step, **metrics})
        return metrics

    @classmethod
    def build_train_loader(cls, cfg: Any) -> TrainLoader:
        return make_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: Any, dataset_name: str) -> ClosableLoader[Any]:
        made = build_detection_test_loader(cfg, dataset_name, mapper=LayerMapper.of_dataset(cfg, dataset_name, is_train=False))
        return ClosableLoader(
            made.dataset,
            batch_size=made.batch_size,
            sampler=made.sampler,
            num_workers=made.num_workers,
            collate_fn=made.collate_fn,
        )

    def close(self) -> None:
        """End the training loader's workers, which detectron2 leaves running."""
        self.data_loader.close()


def make_train_loader(cfg: Any, *, purpose: str = "train", start: int = 0, workers: int | None = None) -> TrainLoader:
    """Batches of the config's training sets for this process."""
    records = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    wide = np.array([record["width"] > record["height"] for record in records]) if grouped else None
    mapper = LayerMapper.of_dataset(cfg, cfg.DATASETS.TRAIN[0], is_train=True)
    images = KeyedImages(DatasetFromList(records, copy=False), mapper, cfg.SEED, purpose)
    batches = KeyedBatches(
        len(records),
        cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        wide=wide,
        seed=cfg.SEED,
        purpose=purpose,
        rank=comm.get_rank(),
        world=comm.get_world_size(),
        start=start,
    )
    return TrainLoader(images, batches, cfg.DATALOADER.NUM_WORKERS if workers is None else workers)


class _PreciseBN(HookBase):
    """fvcore's precise batch norm before each evaluation and at the end, on batches that depend on the step alone.

    detectron2's hook goes on with an iterator of its own, which a resumed run starts anew.
    """

    def __init__(self, cfg: Any, model: torch.nn.Module) -> None:
        self._cfg, self._model = cfg, model
        self._loader: TrainLoader | None = None

    def after_step(self) -> None:
        step, period = self.trainer.iter + 1, self._cfg.TEST.EVAL_PERIOD
        if step != self.trainer.max_iter and not (period > 0 and step % period == 0):
            return
        if self._loader is None:
            # In this process: workers would cost more memory than time saved.
            self._loader = make_train_loader(self._cfg, purpose="precise batch norm", workers=0)
        count = self._cfg.TEST.PRECISE_BN.NUM_ITER
        self._loader.batches.start = (step // period if period > 0 else 0) * count
        torch.manual_seed(step_seed(self._cfg.SEED, step, comm.get_rank()))
        with EventStorage(), _without_tqdms_thread():  # what the losses tell of these passes is nobody's business
            update_bn_stats(self._model, iter(self._loader), count)


@contextlib.contextmanager
def _without_tqdms_thread() -> Iterator[None]:
    """fvcore makes a bar even where none is to be seen, and tqdm begins a thread that never ends with a process's first bar."""
    interval, tqdm.monitor_interval = tqdm.monitor_interval, 0
    try:
        yield
    finally:
        tqdm.monitor_interval = interval


class _Recorder(HookBase):
    """The log, TensorBoard's curves and the progress bar."""

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg
        self._folder = Path(cfg.OUTPUT_DIR)
        self._written = 0

    def before_train(self) -> None:
        trainer = self.trainer
        start, total = trainer.start_iter, trainer.max_iter
        self._log = Log(self._folder / LOG_NAME, step=start).__enter__()
        trainer.evaluations[:] = [row[EVALUATION_KEY] for row in read_log(self._folder / LOG_NAME) if EVALUATION_KEY in row]
        self._written = len(trainer.evaluations)
        self._tensorboard = TensorboardXWriter(str(self._folder / TENSORBOARD_FOLDER))
        self._bar = TrainingProgress(total, done=start, images_per_step=self._cfg.SOLVER.IMS_PER_BATCH).__enter__()

    def after_step(self) -> None:
        trainer = self.trainer
        storage, step = trainer.storage, trainer.iter
        latest = {name: value for name, (value, when) in storage.latest().items() if when == step}
        losses = {name: round(value, 6) for name, value in latest.items() if "loss" in name}
        row: dict[str, Any] = {"step": step, **losses, "lr": latest.get("lr"), "data_time": latest.get("data_time")}
        self._log.write(row | self._evaluation())
        if step % 20 == 19 or step + 1 == trainer.max_iter:
            self._tensorboard.write()
        epoch = (step + 1) * self._cfg.SOLVER.IMS_PER_BATCH / trainer.data_loader.batches.size
        so_far = f"  box AP {trainer.evaluations[-1]['box_AP']:.1f}" if trainer.evaluations else ""
        self._bar.advance(step + 1, epoch=f"epoch {epoch:.1f}{so_far}", loss=latest.get("total_loss", float("nan")))

    def _evaluation(self) -> dict[str, Any]:
        """What evaluations there were since the last row."""
        new = self.trainer.evaluations[self._written :]
        self._written = len(self.trainer.evaluations)
        for evaluation in new:
            named = [f"{name.replace('_', ' ')} {evaluation[name]:.2f}" for name in _SAID if name in evaluation]
            self._bar.say(f"after {evaluation['step']} iterations: {', '.join(named)}")
        return {EVALUATION_KEY: new[-1]} if new else {}

    def after_train(self) -> None:
        # The last evaluation runs behind the last step.
        last = self._evaluation()
        if last:
            self._log.write({"step": self.trainer.max_iter, **last})
            self._tensorboard.write()
        self._bar.__exit__(None, None, None)
        self._log.__exit__(None, None, None)
        self._tensorboard.close()


class _Stopper(HookBase):
    """Saves and leaves between two steps where a signal or the time limit asks for it."""

    def __init__(self, stop: StopRequest, device: torch.device) -> None:
        self._stop, self._device = stop, device

    def after_step(self) -> None:
        trainer = self.trainer
        if trainer.iter + 1 < trainer.max_iter and self._stop.asked(self._device):
            trainer.checkpointer.save(f"model_{trainer.iter:07d}", iteration=trainer.iter)
            raise Stopped
