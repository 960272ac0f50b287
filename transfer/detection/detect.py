"""Fine-tuning a backbone for detection: what `transfer detect` does."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import launch
from detectron2.utils import comm
from torch.multiprocessing.spawn import ProcessExitedException

from evaluation.stopping import StoppedAtOnce, StopRequest
from transfer.detection import run_folder
from transfer.detection.engine.dataset_catalog import register
from transfer.detection.engine.mapper import LayerMapper
from transfer.detection.engine.settings import given_keys, read_config
from transfer.detection.engine.trainer import Stopped, Trainer
from transfer.detection.prepare import choose_place, prepare
from transfer.detection.result import make_result
from transfer.detection.run_folder import RunFacts, check_out, check_same_call, is_detection_run, read_facts
from transfer.detection.sheet import draw_sheet
from transfer.formats import detectron2_file
from transfer.formats.detectron2_stages import compare_stages, stage_table
from zoo.console import EXIT_USER_ERROR
from zoo.data.boxes.detection_data import DetectionData, open_detection_data
from zoo.data.spec import parse_spec, without_place
from zoo.errors import UserError, first_line
from zoo.hashing import file_sha256
from zoo.models.run_lock import new_locked_folder, run_lock
from zoo.ranges import SEED
from zoo.results import Result, load_result, save_result
from zoo.results.provenance import toolkit_commit

# What may be said anew when a run is resumed: none of it changes what is computed.
_FREE_ON_RESUME = ("DATALOADER.NUM_WORKERS", "SOLVER.CHECKPOINT_PERIOD")


@dataclass(frozen=True)
class Detection:
    """What became of a run: its result, or the reason that it stopped before its end."""

    result: Result | None
    stopped: str | None = None


def start(
    config: str,
    model: str,
    data: str,
    out: Path,
    overrides: Sequence[str] = (),
    *,
    seed: int = 0,
    device: str = "auto",
    gpus: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    go_on: bool = False,
    max_seconds: float | None = None,
    say: Any = print,
    stop: StopRequest | None = None,
) -> Detection:
    """Fine-tune a backbone on boxes (and masks) and evaluate it.

    Parameters
    ----------
    config
        Name of a config of this toolkit, or path of one.
    model
        As :func:`transfer.conversion.open_source` takes it; ``"random"`` is a random network of the config's depth, by the seed.
    data
        ``voc:ROOT`` or ``coco:ROOT``.
    out
        The run folder.
    overrides
        ``KEY VALUE`` words over the config.
    seed
        Of everything random.
    device, gpus
        ``auto``, ``cpu`` or ``cuda``; number of GPUs (None: all, or one if the config is for one process).
    strict
        Refuse broken annotations.
    go_on
        Go on with ``out`` where it is a run that the same call began.
    max_seconds
        Save and stop after this time.
    say
        Is called with each line for the user.
    stop
        Has the signals been turned into requests already; None: they are here.

    Raises
    ------
    UserError
        Anything that does not fit: model and config, config and data, broken annotations with ``strict``, an existing folder; and a
        training that diverges.
    """
    SEED.check("--seed", seed)
    if go_on and is_detection_run(out):
        check_same_call(out, config=Path(config).stem, overrides=overrides, model=model, data=str(parse_spec(data).absolute()), seed=seed)
        return resume(out, max_seconds=max_seconds, say=say, stop=stop)
    check_out(out, overwrite=overwrite)
    with contextlib.ExitStack() as held:
        stop = held.enter_context(StopRequest()) if stop is None else stop
        try:
            with stop.at_once():
                # Held before anything is made, so that what is replaced is nobody's.
                if out.exists():
                    held.enter_context(run_lock(out))
                prepared = prepare(config, model, data, out, overrides, seed, device, gpus, strict, say)
        except StoppedAtOnce:
            return Detection(None, stop.reason)
        with new_locked_folder(out, held) as folder:
            prepared.write(folder)
        prepared.announce(say)
        return _launch(out, prepared.data, prepared.facts.processes, max_seconds=max_seconds, say=say, stop=stop)


def resume(
    run: Path, overrides: Sequence[str] = (), *, max_seconds: float | None = None, say: Any = print, stop: StopRequest | None = None
) -> Detection:
    """Go on with a run where its newest checkpoint is, or from its start where there is none; parameters as in :func:`start`.

    Raises
    ------
    UserError
        The folder is no run, its data has changed (other classes, other annotations or images), or an override would change the training.
    """
    facts = read_facts(run)
    if (run / run_folder.RESULT_FILE).exists():
        say(f"{run} is finished already")
        return Detection(load_result(run / run_folder.RESULT_FILE))
    foreign = sorted(given_keys(overrides) - set(_FREE_ON_RESUME))
    if foreign:
        raise UserError(f"{foreign[0]} cannot be changed when a run is resumed; only {', '.join(_FREE_ON_RESUME)} can")
    found = _open_again(facts)
    if found.classes != facts.classes:
        raise UserError(
            f"{run} was trained for {len(facts.classes)} classes ({', '.join(facts.classes[:5])}, ...), and '{facts.data}' now has "
            f"{len(found.classes)} ({', '.join(found.classes[:5])}, ...); resuming needs the same data"
        )
    for role, split in (("train", found.train), ("test", found.test)):
        if split.fingerprint() != facts.fingerprints[role]:
            raise UserError(f"the {role} images or annotations of '{facts.data}' are not those that {run} began with; start a new run")
    _, processes = choose_place(facts.device, facts.processes if facts.device == "cuda" else None, several=True)
    if processes != facts.processes:
        raise UserError(f"{run} ran on {facts.processes} processes, and here are {processes}")
    with contextlib.ExitStack() as held:
        held.enter_context(run_lock(run))
        stop = held.enter_context(StopRequest()) if stop is None else stop
        return _launch(run, found, processes, overrides=overrides, max_seconds=max_seconds, say=say, stop=stop)


def _open_again(facts: RunFacts) -> DetectionData:
    """The data of a run, without the images that it began without."""
    found = open_detection_data(facts.data, strict=facts.strict)
    return found.without(facts.undecodable) if facts.undecodable else found


def _launch(
    run: Path,
    data: DetectionData,
    processes: int,
    *,
    overrides: Sequence[str] = (),
    max_seconds: float | None,
    say: Any,
    stop: StopRequest,
) -> Detection:
    if processes == 1:
        stop.limit(max_seconds)
        return _train(run, data, list(overrides), stop, say)
    # Each process reads the annotations itself: to hand them over would cost more.
    try:
        launch(_train_quietly, processes, dist_url="auto", args=(run, list(overrides), max_seconds))
    except ProcessExitedException as error:
        raise UserError(f"a training process of {run} failed; {run / run_folder.ENGINE_LOG} says more") from error
    result = run / run_folder.RESULT_FILE
    return Detection(load_result(result)) if result.exists() else Detection(None, "a signal or the time limit")


def _train_quietly(run: Path, overrides: list[str], max_seconds: float | None) -> None:
    """One process of several: a mistake of the user's is one sentence of the main one's."""

    def say(line: str) -> None:
        if comm.is_main_process():
            os.write(1, f"{line}\n".encode())

    try:
        with StopRequest(max_seconds) as stop:
            _train(run, None, overrides, stop, say)
    except UserError as error:
        say(f"error: {error}")
        raise SystemExit(EXIT_USER_ERROR) from error


def _train(run: Path, data: DetectionData | None, overrides: list[str], stop: StopRequest, say: Any) -> Detection:
    """One process: all that is known of the run stands in its folder."""
    facts = read_facts(run)
    _log_to(run)
    cfg = read_config(run / run_folder.CONFIG_FILE)
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(run), str(run / run_folder.BACKBONE_FILE)  # the folder may have been moved
    cfg.merge_from_list(overrides)
    data = data or _open_again(facts)
    train, test = register(data, run / run_folder.EVALUATION_FOLDER, masks=cfg.MODEL.MASK_ON)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), (test,)
    cfg.freeze()
    # Before the training: the files of a checkout may change while it runs.
    began, commit = time.monotonic(), toolkit_commit()
    torch.manual_seed(facts.seed)
    with closing(Trainer(cfg, stop)) as trainer:
        trainer.resume_or_load()
        if trainer.start_iter == 0 and comm.is_main_process():
            source = detectron2_file.open_file(cfg.MODEL.WEIGHTS)
            stage_table(source, compare_stages(source, trainer.checkpointer.model))  # raises where they differ
            say("the backbone's activations in detectron2 equal the model's, stem to res5")
        elif comm.is_main_process():
            if trainer.checkpointer.note:
                say(trainer.checkpointer.note)
            say(f"going on after {trainer.start_iter:,} iterations")
        try:
            trainer.train()
        except Stopped:
            return Detection(None, stop.reason)
        except FloatingPointError as error:
            advice = "lower SOLVER.BASE_LR, or give SOLVER.CLIP_GRADIENTS.ENABLED True"
            raise UserError(f"the training diverged at iteration {trainer.iter} ({first_line(error)}); {advice}") from error
    if not comm.is_main_process():
        return Detection(None)
    result = make_result(
        facts,
        cfg,
        data,
        {name: value for name, value in trainer.evaluations[-1].items() if name != "step"},
        trainer.per_class,
        seconds=time.monotonic() - began,
        commit=commit,
        curve=trainer.evaluations,
        weights_sha256=file_sha256(cfg.MODEL.WEIGHTS),
    )
    title = f"{result.model.name} on {without_place(data.spec)}: {facts.config}, box AP {result.headline.value:.1f}"
    records = DatasetCatalog.get(test)
    mapper = LayerMapper.of_dataset(cfg, test, is_train=False)
    try:
        save_result(result, run / run_folder.RESULT_FILE)
    except UserError as error:
        say(result.to_json())
        raise UserError(f"{error}; the result was printed") from error
    draw_sheet(run / run_folder.SHEET_FILE, trainer.checkpointer.model, mapper, records, data.classes, title)
    return Detection(result)


def _log_to(run: Path) -> None:
    """detectron2's own log, and that of its libraries, into a file: what a user must know is said by us."""
    rank = comm.get_rank()
    path = run / (run_folder.ENGINE_LOG if rank == 0 else f"{run_folder.ENGINE_LOG}.rank{rank}")
    for name in ("detectron2", "fvcore"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        for old in logger.handlers[:]:
            logger.removeHandler(old)
            old.close()
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
        logger.addHandler(handler)
