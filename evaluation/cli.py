"""The ``evaluate`` command."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from evaluation.presets import find
from evaluation.table import print_results
from evaluation.tasks import TASKS, Preset, Task
from zoo.console import make_app, run, version_option
from zoo.data.base import CLASS_LEVEL
from zoo.errors import UserError
from zoo.results import check_result_path, save_result

if TYPE_CHECKING:
    from evaluation.labelled import LabelledData
    from evaluation.runtime import Runtime
    from zoo.data.scan import OnBad
    from zoo.results import Result

HELP = """Measure what a model is worth.

Examples:

* `evaluate --task knn --model runs/moco --data cifar10:data --out knn.json`
* `evaluate --task knn --model pixels --model random:resnet18 --model runs/moco --data shapes`: side by side
* `evaluate --task knn --model timm:resnet50 --data imagenet:/data --preset moco --device cuda`
* `evaluate --task knn --model models/moco --data cifar100:data --level superclass --k 1,5,20`
* `torchrun --nproc_per_node 8 -m evaluation --task knn --model runs/moco --data imagenet:/data`: on 8 GPUs, with the same counts

A MODEL is a zoo model folder, a run, a checkpoint file, `timm:NAME`, `torchvision:NAME`, `random:ARCH[:SEED]` or `pixels`.
DATA is `NAME[:ROOT]`.
"""

_PRESETS = "; ".join(f"{task.name}: {', '.join(task.presets)}" for task in TASKS.values())
_IMAGE_SIZE = "Side in pixels of the network's input, instead of the preset's crop (or of the images' own size where that is smaller)."
_PICTURES = "Folder for a picture per model: some test images and their nearest training images."
_SKIP = "Leave out images that cannot be decoded; the result counts them."
_DTYPE = "What networks compute in: float32; on a GPU also bfloat16 or float16."

app = make_app(HELP)


@app.command(help=HELP)
def evaluate(
    models: Annotated[list[str], typer.Option("--model", metavar="MODEL", help="What to evaluate; may be given several times.")],
    data: Annotated[str, typer.Option("--data", metavar="DATA", help="Data set with labelled train and test images.")],
    task: Annotated[str, typer.Option("--task", help=f"What to do: {', '.join(TASKS)}.")] = "knn",
    preset: Annotated[str | None, typer.Option("--preset", help=f"Protocol ({_PRESETS}).")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Result file (.json) to write; for several models a folder.")] = None,
    pictures: Annotated[Path | None, typer.Option("--pictures", metavar="DIR", help=_PICTURES)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace result files that exist.")] = False,
    k: Annotated[str | None, typer.Option("--k", metavar="K[,K...]", help="knn: numbers of neighbours, not the preset's.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", metavar="T", help="knn: temperature, not the preset's.")] = None,
    level: Annotated[str, typer.Option("--level", help="Label level that accuracy refers to.")] = CLASS_LEVEL,
    image_size: Annotated[int | None, typer.Option("--image-size", metavar="PIXELS", help=_IMAGE_SIZE)] = None,
    skip_bad_images: Annotated[bool, typer.Option("--skip-bad-images", help=_SKIP)] = False,
    device: Annotated[str, typer.Option("--device", help="auto (a GPU where there is one), cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help=_DTYPE)] = "float32",
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images per forward pass of one process.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes that decode files; by default one per core.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="For tasks that draw at random; knn does not.")] = 0,
    version: bool = version_option("evaluate"),
) -> None:
    chosen = find("task", task, TASKS)
    protocol = chosen.preset(preset, _task_options(chosen, {"k": _numbers(k), "temperature": temperature}))
    targets = _targets(models, out, overwrite=overwrite)
    sheets = _sheets(models, pictures, overwrite=overwrite)

    # From here on it takes torch, and seconds.
    from evaluation.parallel import choose_device, start_processes, stop_processes
    from evaluation.runtime import Runtime

    place = choose_device(device)
    processes = start_processes(place)
    try:
        settings = {"batch_size": batch_size, "workers": workers}
        runtime = Runtime(
            device=place,
            processes=processes,
            dtype=dtype,
            seed=seed,
            progress=True,
            **{name: value for name, value in settings.items() if value is not None},
        )
        _announce(runtime)
        results = []
        computed = _results(chosen, protocol, models, data, level, skip_bad_images, image_size, runtime)
        for (result, labelled), target, sheet in zip(computed, targets, sheets, strict=True):
            results.append(result)
            if target is not None and processes.is_main:
                save_result(result, target, overwrite=overwrite)
            if sheet is not None and processes.is_main:
                from evaluation.pictures import draw_result

                draw_result(sheet, result, labelled)
        if processes.is_main:
            _report(results, out)
    finally:
        stop_processes()


def _results(
    task: Task,
    preset: Preset,
    models: Sequence[str],
    data: str,
    level: str,
    skip_bad_images: bool,
    image_size: int | None,
    runtime: Runtime,
) -> Iterator[tuple[Result, LabelledData]]:
    """One result after the other; everything is opened, and so checked, before the first is computed."""
    from evaluation.labelled import labelled_data
    from zoo.data import open_data
    from zoo.models import open_model

    on_bad: OnBad = "skip" if skip_bad_images else "refuse"
    opened_data = open_data(data, on_bad)
    side = preset.images.fitting(opened_data.image_size, image_size).crop
    opened = deque((spec, open_model(spec, image_size=side)) for spec in models)
    labelled = labelled_data(opened_data, level=level, on_bad=on_bad, processes=runtime.processes, progress=runtime.progress)
    run_task = task.load()
    while opened:
        spec, model = opened.popleft()  # and with it, in the end, its memory on the device
        result = run_task(model, labelled, preset=preset, image_size=image_size, runtime=runtime)
        yield replace(result, model=replace(result.model, spec=spec)), labelled


def _task_options(task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given. Raises UserError for one that the task does not have."""
    options = {name: value for name, value in given.items() if value is not None}
    foreign = sorted(options.keys() - task.options)
    if foreign:
        raise UserError(f"task '{task.name}' has no option --{foreign[0]}; leave it out")
    return options


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = text.split(",")
    if not all(word.strip().isascii() and word.strip().isdecimal() for word in words):
        raise UserError(f"--k takes whole numbers with commas between them, such as --k 1,5,20, not '{text}'")
    return [int(word) for word in words]


def _targets(models: Sequence[str], out: Path | None, *, overwrite: bool) -> Sequence[Path | None]:
    """The result file of each model, None where nothing is to be written. Raises UserError for what could not be written later."""
    if out is None:
        return [None] * len(models)
    if len(models) == 1:
        if out.suffix != ".json":
            raise UserError(f"--out {out} must end in .json: with one model it is the result file")
        targets = [out]
    else:
        if out.suffix == ".json" or out.is_file():
            raise UserError(f"--out {out} must be a folder: with several models it gets a result file for each")
        if out.exists() and not overwrite:
            raise UserError(f"{out} exists already; choose another --out, or give --overwrite to replace results in it")
        targets = [out / f"{_file_name(model)}.json" for model in models]
        twice = next((path for path in targets if targets.count(path) > 1), None)
        if twice is not None:
            raise UserError(f"two of the models would be written to {twice}; evaluate them one by one")
    for target in targets:
        check_result_path(target, overwrite=overwrite)
    return targets


def _sheets(models: Sequence[str], folder: Path | None, *, overwrite: bool) -> Sequence[Path | None]:
    """The picture of each model, None where none is wanted."""
    if folder is None:
        return [None] * len(models)
    if folder.exists() and not overwrite:
        raise UserError(f"{folder} exists already; choose another --pictures, or give --overwrite to replace pictures in it")
    return [folder / f"{_file_name(model)}.png" for model in models]


def _file_name(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", model).strip("-.") or "model"


def _announce(runtime: Runtime) -> None:
    import torch

    from evaluation.runtime import device_name

    if runtime.processes.is_main:
        count = runtime.processes.count
        threads = f", {torch.get_num_threads()} threads" if runtime.device.type == "cpu" else ""
        several = f"{count} processes, " if count > 1 else ""
        typer.echo(f"evaluating on {several}{device_name(runtime.device)}{threads}, {runtime.dtype}", err=True)


def _report(results: Sequence[Result], out: Path | None) -> None:
    print_results(results, Console())
    if out is None:
        typer.echo("nothing was written; --out keeps the result with all its details", err=True)
    else:
        typer.echo(f"written: {out}", err=True)


def main() -> None:
    run(app)


if __name__ == "__main__":
    main()
