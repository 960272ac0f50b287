"""The ``evaluate`` command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evaluation.commands.plans import ALL, DEFAULT_TASK, Plan, make_plans, picture_paths, result_paths, save_paths, wanted_tasks
from evaluation.tasks.again import INPUT_OPTIONS
from evaluation.tasks.model_source import ModelSource, model_sources
from evaluation.tasks.registry import TASKS
from evaluation.tasks.task import load
from zoo.console import EXIT_STOPPED, make_app, run, version_option, when_memory_runs_out
from zoo.console.tables import AsJson, Quiet
from zoo.data.spec import CLASS_LEVEL, check_data_word
from zoo.errors import UserError, as_user_error
from zoo.models.selection import (
    DROP_HELP,
    HEADS_HELP,
    KEY_HELP,
    NORM_EPS_HELP,
    PREFIX_HELP,
    RENAME_HELP,
    STEM_PADDING_HELP,
    Hints,
    read_selection,
)
from zoo.ranges import BATCH_SIZE, NORM_EPS, SEED, SIDE, STEM_PADDING, WORKERS, Range
from zoo.results import save_result
from zoo.words.complete import data_words, device_words, dtype_words, model_words, starting
from zoo.words.models import check_model_word
from zoo.words.runtime import check_device_word, check_dtype_word

if TYPE_CHECKING:
    from evaluation.tasks.runtime import Runtime, TrainedClassifier
    from zoo.data.scan import OnBad
    from zoo.models.model import Model
    from zoo.results import Result

HELP = """Measure what a model is worth.

Examples:

* `evaluate --task knn --model runs/moco --data cifar10:data --out knn.json`
* `evaluate --task knn --model pixels --model random:resnet18 --model runs/moco --data shapes`: side by side
* `evaluate --task knn --model timm:resnet50 --data imagenet:/data --preset moco --device cuda`
* `evaluate --task knn --model models/moco --data cifar100:data --level superclass --k 1,5,20`
* `evaluate --task all --model runs/moco --data cifar10:data --out results`: every task, from features that are computed once
* `evaluate --task linear --model models/moco --data folder:photos,holdout=0.2 --save models/mine`: keep the classifier for `zoo predict`
* `evaluate --task knn --model python:nets.py:resnet20 --weights resnet20.th --features avgpool --data cifar10:data`: any network
* `torchrun --nproc_per_node 8 -m evaluation --task knn --model runs/moco --data imagenet:/data`: on 8 GPUs, with the same counts

A MODEL is a zoo model folder, a name of the catalogue, `hub:ORG/NAME[@REVISION]`, a run, a checkpoint file, `timm:NAME`,
`torchvision:NAME`, `random:ARCH[:SEED]`, `pixels`, or any network: `python:FILE_OR_MODULE:CALLABLE` with `--weights FILE`.
DATA is `NAME[:PLACE][,KEY=VALUE...]`, such as `folder:photos,holdout=0.2`.

Tasks:

""" + "\n".join(f"* `{task.name}`: {task.summary}. Presets: {', '.join(task.presets)}" for task in TASKS.values())

_MODEL = "What to evaluate; may be given several times."
_DATA = "Data set with labelled train and test images."
_FIRST = "The same as --task: `evaluate knn --model ...`."
_TASK = f"What to do: {', '.join(TASKS)}; several with commas between them, or `{ALL}`. [default: {DEFAULT_TASK}]"
_PRESET = "Protocol, by default the task's first one; for several tasks TASK=NAME,TASK=NAME or a NAME that all of them have."
_OUT = "Result file (.json) to write; for several models or tasks a folder."
_IMAGE_SIZE = "Side in pixels of the network's input, instead of the preset's crop (or of the images' own size where that is smaller)."
_PICTURES = "Folder for a picture per model: some test images and their nearest training images."
_SAVE = "Keep the classifier that the task trains, with the names of its classes, as the zoo model DIR (for several, folders in it)."
_SKIP = "Leave out images that cannot be decoded; the result counts them."
_DTYPE = "What networks compute in: float32; on a GPU also bfloat16 or float16."

_DEVICE = "auto (a GPU where there is one), cpu or cuda."
_NO_CACHE = "Neither use features that earlier calls kept on disk ($BACKBONE_LOOP_CACHE) nor keep any."
_WEIGHTS = "Weights of a python: model (safetensors or a checkpoint); for several such models once for each, in their order."
_FEATURES = (
    "Take the features of this layer: a submodule such as layer3, or a node of the graph that torchvision traces; `output` is the "
    "network's own output, and LAYER:PART one part of a tuple (counted from 0) or dict, such as output:last_hidden_state."
)
_MEAN = "Mean of each channel (of pixels in [0, 1]) that the input is normalised with, instead of the model's or the data's."
_STD = "Standard deviation of each channel, likewise."
_CHANNELS = "Order of the channels that the network gets, rgb or bgr, instead of the model's."

BATCH_SIZE_HELP = "Images per forward pass of one process; by default 256, on a CPU in smaller pieces where a trial finds these faster."
_DOWNLOAD = "First fetch the data set into its folder, by torchvision: CIFAR, STL-10, Fashion-MNIST and other small ones."
_WORKERS = "Processes that decode files; by default one per core."

LESS_MEMORY = "lower --batch-size or --image-size"

app = make_app(HELP)


def _task_words(incomplete: str) -> list[str]:
    return starting(incomplete, [*TASKS, ALL])


@when_memory_runs_out(LESS_MEMORY)
def evaluate(
    models: Annotated[list[str], typer.Option("--model", metavar="MODEL", help=_MODEL, autocompletion=model_words)],
    data: Annotated[str, typer.Option("--data", metavar="DATA", help=_DATA, autocompletion=data_words)],
    first_tasks: Annotated[list[str] | None, typer.Argument(metavar="[TASK]...", help=_FIRST, autocompletion=_task_words)] = None,
    weights: Annotated[list[Path] | None, typer.Option("--weights", metavar="FILE", help=_WEIGHTS)] = None,
    features: Annotated[str | None, typer.Option("--features", metavar="NODE", help=_FEATURES)] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help=KEY_HELP)] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="PREFIX", help=PREFIX_HELP)] = None,
    rename: Annotated[list[str] | None, typer.Option("--rename", metavar="A=B", help=RENAME_HELP)] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", metavar="RE", help=DROP_HELP)] = None,
    heads: Annotated[int | None, Range(1), typer.Option("--heads", metavar="N", help=HEADS_HELP)] = None,
    norm_eps: Annotated[float | None, NORM_EPS, typer.Option("--norm-eps", metavar="EPS", help=NORM_EPS_HELP)] = None,
    stem_padding: Annotated[int | None, STEM_PADDING, typer.Option("--stem-padding", metavar="PX", help=STEM_PADDING_HELP)] = None,
    task: Annotated[list[str] | None, typer.Option("--task", metavar="TASK[,TASK...]", help=_TASK, autocompletion=_task_words)] = None,
    preset: Annotated[list[str] | None, typer.Option("--preset", metavar="NAME", help=_PRESET)] = None,
    out: Annotated[Path | None, typer.Option("--out", help=_OUT)] = None,
    pictures: Annotated[Path | None, typer.Option("--pictures", metavar="DIR", help=_PICTURES)] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="DIR", help=_SAVE)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace result files and saved classifiers that exist.")] = False,
    level: Annotated[str, typer.Option("--level", help="Label level that accuracy refers to.")] = CLASS_LEVEL,
    image_size: Annotated[int | None, SIDE, typer.Option("--image-size", metavar="PIXELS", help=_IMAGE_SIZE)] = None,
    mean: Annotated[str | None, typer.Option("--mean", metavar="A,B,C", help=_MEAN)] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="A,B,C", help=_STD)] = None,
    channels: Annotated[str | None, typer.Option("--channels", metavar="ORDER", help=_CHANNELS)] = None,
    download: Annotated[bool, typer.Option("--download", help=_DOWNLOAD)] = False,
    skip_bad_images: Annotated[bool, typer.Option("--skip-bad-images", help=_SKIP)] = False,
    device: Annotated[str, typer.Option("--device", help=_DEVICE, autocompletion=device_words)] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help=_DTYPE, autocompletion=dtype_words)] = "float32",
    batch_size: Annotated[int | None, BATCH_SIZE, typer.Option("--batch-size", help=BATCH_SIZE_HELP)] = None,
    workers: Annotated[int | None, WORKERS, typer.Option("--workers", help=_WORKERS)] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help=_NO_CACHE)] = False,
    seed: Annotated[int, SEED, typer.Option("--seed", help="For tasks that draw at random; knn does not.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    version: bool = version_option("evaluate"),
    **task_options: Any,
) -> None:
    plans = make_plans(wanted_tasks(first_tasks or [], task or []), preset or [], task_options)
    tasks = [plan.task for plan in plans]
    selection = read_selection(key, prefix, rename, drop)
    hints = Hints(heads, norm_eps, stem_padding)
    sources = model_sources(models, weights or [], features, mean, std, channels, hints=hints, selection=selection)
    models = [source.name for source in sources]
    # How images and files reached the networks, as it was asked for: results keep it with the task's options.
    asked = (image_size, mean, std, channels, heads, norm_eps, stem_padding, key, prefix, rename, drop)
    inputs = {name: value for name, value in zip(INPUT_OPTIONS, asked, strict=True) if value or value == 0}
    targets = result_paths(models, tasks, out, overwrite=overwrite)
    sheets = picture_paths(models, tasks, pictures, overwrite=overwrite)
    folders = save_paths(models, tasks, save, overwrite=overwrite)
    for source in sources:
        check_model_word(source.arguments["spec"])
    check_data_word(data)
    check_device_word(device)
    check_dtype_word(dtype)

    # From here on it takes torch, and seconds.
    if download:
        from zoo.data import download_data

        download_data(data)
    from evaluation.extraction.cache import FeatureCache, cache_folder, cache_limit
    from evaluation.parallel import choose_device, start_processes, stop_processes
    from evaluation.stopping import TrainingStopped
    from evaluation.tasks.runtime import Runtime

    place = choose_device(device)
    processes = start_processes(place)
    try:

        def say(text: str) -> None:
            if processes.is_main and not quiet:
                typer.echo(text, err=True)

        settings = {"batch_size": batch_size, "workers": workers}
        kept: list[TrainedClassifier] = []
        runtime = Runtime(
            device=place,
            processes=processes,
            dtype=dtype,
            seed=seed,
            progress=not quiet,
            cache=FeatureCache(
                None if no_cache else cache_folder(),
                limit=cache_limit(),
                processes=processes,
                say=say,
            ),
            say=say,
            keep=kept.append if folders else lambda _classifier: None,
            **{name: value for name, value in settings.items() if value is not None},
        )
        _announce(runtime, say)
        done: dict[str, list[Result]] = {plan.task.name: [] for plan in plans}
        failures: list[str] = []
        try:
            outcomes = _results(plans, sources, data, level, skip_bad_images, image_size, inputs, runtime, saves=bool(folders))
            for position, plan, result, prepared, model in outcomes:
                if isinstance(result, UserError):
                    kept.clear()
                    alone = len(plans) == len(sources) == 1
                    failures.append(str(result) if alone else f"{plan.task.name} of {sources[position].name}: {result}")
                    continue
                done[plan.task.name].append(result)
                if processes.is_main:
                    place_of_result = (position, plan.task.name)
                    failures += _write(result, prepared, plan, targets.get(place_of_result), sheets.get(place_of_result), overwrite)
                if kept and (position, plan.task.name) in folders:
                    folder = folders[position, plan.task.name]
                    failures += _save(folder, model, kept.pop(), prepared, result, runtime, overwrite)
                kept.clear()
        finally:
            # Also of an evaluation that is stopped, or fails in one of several processes: what was measured is not lost.
            if processes.is_main and any(done.values()):
                _report(done, out, save, say, as_json=as_json, quiet=quiet)
        if failures:
            raise UserError(f"{failures[0]}{_and_others(failures)}")
    except TrainingStopped as stopped:
        if processes.is_main:
            typer.echo(str(stopped), err=True)
        raise typer.Exit(EXIT_STOPPED) from stopped
    finally:
        stop_processes()


def _and_others(failures: Sequence[str]) -> str:
    others = failures[1:]
    return f"; and {len(others)} more failed: {'; '.join(others)}" if others else ""


def _write(result: Result, prepared: Any, plan: Plan, file: Path | None, picture: Path | None, overwrite: bool) -> list[str]:
    """Write a result and its picture; returns what could not be written, in sentences. A result that cannot is printed."""
    refused = []
    if file is not None:
        try:
            save_result(result, file, overwrite=overwrite)
        except UserError as error:
            typer.echo(result.to_json(), nl=False)
            refused.append(f"{error}; the result was printed")
    if picture is not None and plan.task.draw is not None:
        try:
            load(plan.task.draw)(picture, result, prepared)
        except UserError as error:
            refused.append(str(error))
    return refused


def _save(
    folder: Path, model: Model, trained: TrainedClassifier, prepared: Any, result: Result, runtime: Runtime, overwrite: bool
) -> list[str]:
    """Write a trained classifier; returns why it could not be written, in a sentence."""
    from evaluation.classifiers.save import save_classifier

    try:
        saved = save_classifier(folder, model, trained, prepared, result, runtime, overwrite=overwrite)
    except UserError as error:
        if runtime.processes.count > 1:
            raise
        return [str(error)]
    if runtime.processes.is_main:
        other = f"where the evaluation counted {saved.counted:,}, for sums are rounded otherwise"
        same = "as the evaluation counted" if saved.correct == saved.counted else other
        right = f"{saved.correct:,} of {saved.images:,} test images right, {same}"
        runtime.say(f"saved: {folder}: {saved.name}, {saved.classes} classes; {right}")
    return []


def _results(
    plans: Sequence[Plan],
    sources: Sequence[ModelSource],
    data: str,
    level: str,
    skip_bad_images: bool,
    image_size: int | None,
    inputs: dict[str, Any],
    runtime: Runtime,
    *,
    saves: bool,
) -> Iterator[tuple[int, Plan, Result | UserError, Any, Model]]:
    """Position of the model, plan, result (or why there is none), prepared data and model, one after the other.

    Everything is opened, and so checked, before the first is computed. A task that then fails, with one model, does not keep the others
    from being measured; one of several processes that fails does, for the others may wait for it.
    """
    from evaluation.extraction.shared import looked_doubts
    from zoo.data import open_data
    from zoo.data.inspection.known import known_lines, known_of

    on_bad: OnBad = "skip" if skip_bad_images else "refuse"
    opened_data = open_data(data, on_bad)
    ways = {plan.task.name: (plan.preset.side(opened_data.image_size, image_size), plan.task.classifier) for plan in plans}
    # Networks that are built for one size of image are built once for each size that the tasks want, and with a classifier or without.
    opened = [_opened(source, list(dict.fromkeys(ways.values()))) for source in sources]
    if runtime.processes.is_main:
        for note in dict.fromkeys(note for by_way in opened for model in by_way.values() for note in model.notes):
            runtime.say(note)
    prepared = {
        way: load(way)(opened_data, level=level, on_bad=on_bad, processes=runtime.processes, progress=runtime.progress)
        for way in dict.fromkeys(plan.task.prepare for plan in plans)
    }
    known = {way: known_of(opened_data, made.ready) for way, made in prepared.items() if made.ready}
    if runtime.processes.is_main:
        for line in dict.fromkeys(line for one in known.values() for line in known_lines(one, data)):
            runtime.say(line)
    if saves:
        from evaluation.classifiers.save import check_can_save

        for by_way in opened:
            for plan in (plan for plan in plans if plan.task.saves):
                check_can_save(by_way[ways[plan.task.name]], prepared[plan.task.prepare].classes)
    runs = [load(plan.task.run) for plan in plans]
    for position, source in enumerate(sources):
        by_way = opened[position]
        for plan, run_task in zip(plans, runs, strict=True):
            made, model = prepared[plan.task.prepare], by_way[ways[plan.task.name]]
            try:
                result = run_task(model, made, preset=plan.preset, image_size=image_size, runtime=runtime)
            except Exception as error:
                failure = as_user_error(error, _less_memory(plan))
                if failure is None:
                    raise
                if runtime.processes.count > 1:
                    raise failure from error
                # Its frames hold what the task had in memory.
                yield position, plan, failure.with_traceback(None), made, model
                continue
            protocol = {**result.protocol, "options": {"preset": plan.preset.name, **plan.options, **inputs}}
            seen = known.get(plan.task.prepare) or known_of(opened_data, made.ready)
            details = {**result.details, "data": seen}
            known_doubts = list(details.get("warnings", []))
            used = {split.split for split in result.data.splits.values()}
            if doubts := [*known_doubts, *looked_doubts(seen["look"], used, known_doubts)]:
                details["warnings"] = doubts
            named = replace(result, protocol=protocol, model=replace(result.model, spec=source.name), details=details)
            yield position, plan, named, made, model
        # And with them their memory on the device, and the features in memory.
        by_way.clear()
        runtime.forget_features()


def _opened(source: ModelSource, ways: Sequence[tuple[int | None, bool]]) -> dict[tuple[int | None, bool], Model]:
    """A model by the side that it is built for and whether with its classifier; what has none to take off is opened once for both."""
    from zoo.model_spec import open_model
    from zoo.models.model import KINDS_WITH_CLASSES

    opened: dict[tuple[int | None, bool], Model] = {}
    for side, classifier in ways:
        known = opened.get((side, not classifier))
        if known is None or known.kind in KINDS_WITH_CLASSES:
            known = open_model(image_size=side, classifier=classifier, **source.arguments)
        opened[side, classifier] = known
    return opened


def _less_memory(plan: Plan) -> str:
    """What to lower where memory runs out: of a task that trains its batch, too."""
    trains = any(option.name == "batch" for option in plan.task.options)
    return f"{LESS_MEMORY.replace('lower', 'lower --batch,', 1)}" if trains else LESS_MEMORY


def _announce(runtime: Runtime, say: Callable[[str], None]) -> None:
    import torch

    from evaluation.tasks.runtime import device_name

    if runtime.processes.is_main:
        count = runtime.processes.count
        threads = f", {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}" if runtime.device.type == "cpu" else ""
        several = f"{count} processes, " if count > 1 else ""
        say(f"evaluating on {several}{device_name(runtime.device)}{threads}, {runtime.dtype}")


def _report(
    results: dict[str, list[Result]], out: Path | None, save: Path | None, say: Callable[[str], None], *, as_json: bool, quiet: bool
) -> None:
    if as_json:
        typer.echo("[" + ",\n".join(result.to_json().rstrip() for of_task in results.values() for result in of_task) + "]")
    else:
        from evaluation.commands.table import print_results

        for of_task in filter(None, results.values()):
            print_results(of_task, quiet=quiet)
    files = [file["file"] for of_task in results.values() for one in of_task for file in one.details.get("files", {}).values()]
    for file in files:
        say(f"written: {file}")
    if out is None:
        say(f"{'no result file' if files or save else 'nothing'} was written; --out keeps the result with all its details")
    else:
        say(f"written: {out}")


def _with_task_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the tasks' own options in the place of its ``**task_options``, grouped in the help by the tasks that have them."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    added = {}
    for option in (option for task in TASKS.values() for option in task.options):
        tasks = [task.name for task in TASKS.values() if option.name in [other.name for other in task.options]]
        panel = f"Options of {', '.join(tasks)}"
        declared = typer.Option(option.flag, help=option.full_help, metavar=option.metavar, rich_help_panel=panel)
        added[option.name] = inspect.Parameter(
            option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[option.kind | None, declared]
        )
    setattr(command, "__signature__", signature.replace(parameters=[*own, *added.values()]))  # noqa: B010 (a function has no such attribute)
    return command


app.command(help=HELP)(_with_task_options(evaluate))


def main() -> None:
    """Entry point of the ``evaluate`` command."""
    run(app)
