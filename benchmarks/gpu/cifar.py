"""CIFAR-10: two methods, equally many epochs on all images that have arrived; then kNN, linear and 1 % of the labels."""

from __future__ import annotations

import re
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import numpy as np
import torch
from context import Context, NotPossible
from measure import seconds
from pack import KEYS, NAME, arrived
from pieces import PAIRS
from steps import BareStep, Size

from evaluation.extraction.labelled import labelled_data
from evaluation.tasks.knn.run import run_knn
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.linear.run import run_linear
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.semi.presets import SEMI_PRESETS
from evaluation.tasks.semi.run import run_semi
from evaluation.training.kernels import kernels
from evaluation.training.log import LOG_NAME, read_log
from pretrain.loop import train
from pretrain.recipes import load_recipe
from pretrain.runs.export import export_run
from pretrain.trial import try_recipe
from zoo.data import open_data
from zoo.model_folder.claims import add_results
from zoo.model_folder.folder import load_zoo_model, write_zoo_model
from zoo.model_spec import open_model
from zoo.results import Result

# What an arm's three evaluations and its export are given.
EVALUATION = 45.0
FEWEST, MOST = 5, 200
_ESTIMATED_EPOCHS = 50


def pair(context: Context) -> None:
    began = time.monotonic()
    match = re.fullmatch(r"cifar10 (\w+) \+ (\w+) seed (\d+)", context.name)
    arms, seed = ((match[1], match[2]), int(match[3])) if match else (PAIRS[0], 0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if context.data is None and not context.dry:
            raise NotPossible("no images: give DATA=cifar10.npz, or a folder with parts of it")
        images, tests = _made(root) if context.data is None else arrived(context.data, root)
        if images == 0:
            raise NotPossible(f"no images have arrived in {context.data}")
        settings = [f"data=cifar10:{root}", "trackers=[]", "knn.every_epochs=0", "checkpoint.every_epochs=9999", f"seed={seed}"]
        settings += _TINY if context.dry else ["device=cuda"]
        epochs = _planned(context, arms, settings, images, began, seed)
        context.report(images=images, test_images=tests, epochs=epochs, seed=seed)
        for arm in arms:
            context.report(**{arm: _arm(context, arm, settings, epochs, root, seed)})


_TINY = ["device=cpu", "backbone=resnet10_small", "batch=32", "bn_splits=1", "workers=0", "threads=1"]


def _made(root: Path) -> tuple[int, int]:
    """Made images in the place of CIFAR-10's, for a dry walk."""
    draw = np.random.default_rng(0)
    arrays = {}
    for images, labels, count in (("xtr", "ytr", 192), ("xte", "yte", 60)):
        arrays[labels] = np.arange(count) % 10
        arrays[images] = (draw.integers(0, 60, (count, 32, 32, 3)) + 19 * arrays[labels][:, None, None, None]).astype(np.uint8)
    assert set(arrays) == set(KEYS)
    np.savez(root / NAME, **arrays)
    return 192, 60


def _recipe(arm: str, settings: list[str], epochs: int) -> Any:
    queue = ["method.queue=64"] if settings[-1] == _TINY[-1] and not arm.startswith("simclr") else []
    return load_recipe(f"{arm}_cifar10", [*settings, *queue, f"epochs={epochs}"])


def _planned(context: Context, arms: tuple[str, str], settings: list[str], images: int, began: float, seed: int) -> int:
    """Epochs for both arms: those of an earlier pair on as many images, or as many as the time allows; said before the first one."""
    if context.dry:
        # Two have a survey between them; once is enough.
        return 2 if seed == 0 else 1
    costs = []
    for arm in arms:
        tried = try_recipe(_recipe(arm, settings, _ESTIMATED_EPOCHS))
        costs.append(3600 * tried.hours / _ESTIMATED_EPOCHS)
    left = context.seconds - (time.monotonic() - began) - 2 * EVALUATION
    fitting = int(left / sum(costs))
    earlier = [row["figures"] for row in context.rows if row["piece"].startswith("cifar10") and row["status"] == "done" and not row["dry"]]
    same = [figures["epochs"] for figures in earlier if figures.get("images") == images]
    epochs = same[-1] if same else min(fitting, MOST)
    context.report(estimated_epoch_s=dict(zip(arms, costs, strict=True)), planned_epochs=epochs, epochs_that_fit=fitting)
    if fitting < max(epochs, FEWEST):
        raise NotPossible(f"{max(epochs, FEWEST)} epochs of both do not fit: {fitting} would; give more MINUTES")
    return epochs


def _arm(context: Context, arm: str, settings: list[str], epochs: int, root: Path, seed: int) -> dict[str, Any]:
    run, config = root / f"run-{arm}", _recipe(arm, settings, epochs)
    started = time.perf_counter()
    train(config, run)
    found: dict[str, Any] = {"train_s": time.perf_counter() - started}
    rows = read_log(run / "log.jsonl")
    surveys = sum(row.get("survey_seconds", 0.0) for row in rows)
    steady = [row["seconds"] for row in rows[min(20, len(rows) // 2) :]]
    batch = 32 if context.dry else int(config.batch)
    found |= {
        "steps": len(rows),
        "loss": rows[-1]["loss"],
        "images_per_second": batch / statistics.mean(steady),
        "survey_s": surveys,
        "memory_gib": max((row["device_memory"] / 2**30 for row in rows if "device_memory" in row), default=None),
    }
    if arm == "moco" and not context.dry:
        # The recipe's batch norm has eight groups; so has this bare step.
        found["loop_over_bare"] = _bare_seconds(config, context) / statistics.mean(steady)
    model = root / f"model-{arm}"
    name = f"{config.backbone}.{arm}_cifar10_{epochs}ep" + (f"_seed{seed}" if seed else "")
    # Its curve is drawn where the model is put together again: the machine may have nothing to draw with.
    export_run(run, root / f"exact-{arm}", name=name, curve=False)
    backbone, manifest = load_zoo_model(root / f"exact-{arm}")
    manifest = replace(manifest, source={**manifest.source, "weights": "matrices and kernels rounded to half precision"})
    write_zoo_model(model, models.round_to_half(backbone), manifest)
    started = time.perf_counter()
    results = _evaluated(model, root, context)
    found |= {result.task: {"preset": result.preset, result.headline.metric: result.headline.value} for result in results}
    found["evaluate_s"] = time.perf_counter() - started
    add_results(model, results)
    if seed == 0 and arm in PAIRS[0]:
        found["kept"] = [path.name for path in models.keep(model, context.out, name, log=run / LOG_NAME)]
    shutil.rmtree(run)
    return found


def _bare_seconds(config: Any, context: Context) -> float:
    from pretrain.batchnorm import split_batchnorm

    size = Size(config.backbone, config.views.size, int(config.batch), 50_000, int(config.batch), (2, 1))
    with kernels(context.device):
        bare = BareStep(size, context.device, bf16=True)
        if config.bn_splits > 1:
            split_batchnorm(bare.method, config.bn_splits)
        return seconds(bare, context.device, repeats=20, warm_up=5)


def _evaluated(model: Path, root: Path, context: Context) -> list[Result]:
    """kNN, a linear classifier, and 1 % of the labels, of the weights that are kept."""
    runtime = Runtime(device=context.device, cache=None)
    data = labelled_data(open_data(f"cifar10:{root}"))
    linear, few = LINEAR_PRESETS["ccrop-cifar"], SEMI_PRESETS["frozen"]
    if context.dry:
        linear, few = linear.change(epochs=1, batch=32), few.change(percent=50)
    opened = open_model(str(model))
    with torch.no_grad():
        results = [
            run_knn(opened, data, runtime=runtime),
            run_linear(opened, data, preset=linear, runtime=runtime),
            run_semi(opened, data, preset=few, runtime=runtime),
        ]
    return [replace(result, model=replace(result.model, spec=opened.name)) for result in results]
