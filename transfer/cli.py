"""The ``transfer`` command."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Annotated

import typer

from transfer.words import DETECTRON2_SCHEME, check_target_word
from zoo.console import EXIT_STOPPED, make_app, run, version_option, when_memory_runs_out
from zoo.console.subcommands import Subcommands
from zoo.console.tables import AsJson, Quiet, columns, facts
from zoo.errors import UserError
from zoo.files import check_can_write
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
from zoo.ranges import NORM_EPS, SEED, SHARE, STEM_PADDING, Range
from zoo.words.models import RANDOM, check_model_word
from zoo.words.runtime import check_device_word

app = make_app(
    "Take a backbone to other frameworks, and to detection and segmentation.\n\n"
    "Examples:\n\n"
    "* `transfer convert models/moco --to torchvision --out moco.pth`\n"
    "* `transfer convert runs/moco --to detectron2 --out moco.pkl`\n"
    "* `transfer detect voc0712_r50_c4_24k --model models/moco --data voc:VOCDEVKIT --out runs/moco-voc`\n"
    "* `transfer predict runs/moco-voc photos --out found`\n"
    "* `transfer compare small_r18_fpn --models models/moco,random --seeds 3 --data voc:cells --out runs/compared`",
    cls=Subcommands,
    no_args_is_help=True,
)

_MODEL = (
    "A zoo model folder, run or checkpoint file, `hub:ORG/NAME`, `timm:NAME`, `torchvision:NAME`, `random:ARCH[:SEED]` or "
    "`detectron2:FILE` (.pkl or .pth)."
)
_TO = "`torchvision` (.pth), `timm` (.safetensors), `detectron2` (.pkl), `onnx` (.onnx) or `transformers` (a folder)."
_CONFIG = "A config's name (`transfer detect --list`), or a YAML file that detectron2 reads."
_OVERRIDES = "Values over the config's, such as SOLVER.MAX_ITER 2000."
_GPUS = "Number of GPUs; by default all, or one if the config is for one process."
_DATA = "`voc:ROOT` or `coco:ROOT`: your own images in that layout, or the sets themselves."
_VERIFY = "Compare the written file, in the other library, with the model; by default where that library is installed."


@app.callback()
def _transfer(version: bool = version_option("transfer")) -> None: ...


@app.command("convert")
def convert_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL)],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help=_TO)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file, or of transformers the folder, to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file at --out.")] = False,
    verify: Annotated[bool | None, typer.Option("--verify/--no-verify", help=_VERIFY)] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help=KEY_HELP)] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="PREFIX", help=PREFIX_HELP)] = None,
    rename: Annotated[list[str] | None, typer.Option("--rename", metavar="A=B", help=RENAME_HELP)] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", metavar="RE", help=DROP_HELP)] = None,
    heads: Annotated[int | None, Range(1), typer.Option("--heads", metavar="N", help=HEADS_HELP)] = None,
    norm_eps: Annotated[float | None, NORM_EPS, typer.Option("--norm-eps", metavar="EPS", help=NORM_EPS_HELP)] = None,
    stem_padding: Annotated[int | None, STEM_PADDING, typer.Option("--stem-padding", metavar="PX", help=STEM_PADDING_HELP)] = None,
) -> None:
    """Write the backbone as another library's weights file.

    A verified file is kept only if that library's own network, loaded from it, computes the same.

    Examples:

    * `transfer convert models/moco --to detectron2 --out moco.pkl`

    * `transfer convert timm:resnet50.a1_in1k --to torchvision --out resnet50.pth`

    * `transfer convert detectron2:moco.pkl --to timm --out moco.safetensors`

    * `transfer convert models/dinov2 --to transformers --out dinov2`

    * `transfer convert mine.pth --to torchvision --out resnet50.pth --key state.model --prefix student.backbone.`
    """
    selection = read_selection(key, prefix, rename, drop)
    check_target_word(to)
    check_can_write(out, folder=to == "transformers")
    check_model_word(model, also=(DETECTRON2_SCHEME,))
    from transfer.conversion import convert

    hints = Hints(heads, norm_eps, stem_padding)
    conversion = convert(model, to, out, overwrite=overwrite, verify=verify, hints=hints, selection=selection)
    typer.echo("\n".join([f"{out}:", *conversion.checks, "use it with", conversion.usage]))


_CONTINUE = "Start where --out is nothing yet, and go on where it is a run that the same command began."
_LESS_MEMORY = "set a smaller SOLVER.IMS_PER_BATCH, or smaller images by INPUT.MIN_SIZE_TRAIN"


@app.command("detect")
@when_memory_runs_out(_LESS_MEMORY)
def detect_command(
    config: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help=_CONFIG)] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY VALUE]...", help=_OVERRIDES)] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help=f"{_MODEL} Or `random`.")] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help=_DATA)] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="The run folder to write.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run folder if it exists.")] = False,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a run folder.")] = None,
    go_on: Annotated[bool, typer.Option("--continue", help=_CONTINUE)] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse broken annotations instead of leaving them out.")] = False,
    seed: Annotated[int, SEED, typer.Option("--seed", help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto (GPUs where there are any), cpu or cuda.")] = "auto",
    gpus: Annotated[int | None, Range(1), typer.Option("--gpus", help=_GPUS)] = None,
    max_time: Annotated[str | None, typer.Option("--max-time", help="Save and stop after 45m, 3h, 1h30m.")] = None,
    list_configs: Annotated[bool, typer.Option("--list", help="List the configs and leave.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a backbone for detection and instance segmentation with detectron2, and evaluate it.

    Batch, learning rate and steps are scaled linearly to the GPUs that are there, and printed; values that are given are taken as they
    are. A run that a signal or --max-time stopped has saved a checkpoint and leaves with exit status 3.

    Examples:

    * `transfer detect --list`

    * `transfer detect voc0712_r50_c4_24k --model models/moco --data voc:VOCDEVKIT --out runs/moco-voc`

    * `transfer detect small_r18_fpn --model random --data coco:nuts --out runs/nuts MODEL.MASK_ON True SOLVER.MAX_ITER 500`

    * `transfer detect voc0712_r50_c4_24k --model models/moco --data voc:VOCDEVKIT --out runs/moco-voc --continue`: start, or go on; for
      jobs that are queued again

    * `transfer detect --resume runs/moco-voc`
    """
    if list_configs:
        from transfer.detection.config_files import CONFIGS

        listed = CONFIGS.listed()
        rows = [(one["name"], one["summary"]) for one in listed]
        typer.echo(json.dumps(listed, indent=2, ensure_ascii=False) if as_json else columns(rows) if quiet else facts(rows))
        return

    def say(text: str) -> None:
        if not quiet:
            typer.echo(text, err=as_json)

    words = [word for word in [config, *(overrides or [])] if word is not None]
    if resume is not None and (model or data or out or overwrite or go_on):
        raise UserError("--resume goes on with what the run was started with: leave out --model, --data, --out, --overwrite and --continue")
    if overwrite and go_on:
        raise UserError("--continue keeps what is there and --overwrite replaces it; give one of them")
    if resume is None:
        if not words:
            raise UserError("name a config (`transfer detect --list` shows them), or a run to go on with by --resume RUN")
        for option, value in (("--model MODEL", model), ("--data voc:ROOT or coco:ROOT", data), ("--out RUN", out)):
            if value is None:
                raise UserError(f"give {option}")
        assert model is not None
        _check_words(words[0], [model], device)
    seconds = _seconds(max_time)
    _prepare()
    from transfer.detection import detect

    if resume is not None:
        outcome = detect.resume(resume, words, max_seconds=seconds, say=say)
    else:
        assert model is not None
        assert data is not None
        assert out is not None
        outcome = detect.start(
            words[0],
            model,
            data,
            out,
            words[1:],
            seed=seed,
            device=device,
            gpus=gpus,
            strict=strict,
            overwrite=overwrite,
            go_on=go_on,
            max_seconds=seconds,
            say=say,
        )
    run_folder = resume or out
    if outcome.result is None:
        typer.echo(f"stopped by {outcome.stopped}; go on with: transfer detect --resume {run_folder}", err=as_json)
        raise typer.Exit(EXIT_STOPPED)
    named = _named(outcome.result.metrics)
    if as_json:
        typer.echo(outcome.result.to_json(), nl=False)
    else:
        typer.echo(named if quiet else f"done: {named}\nwritten: {run_folder}/result.json, {run_folder}/detections.png")


_RUN = "A run folder of `transfer detect`, finished or not."
_CHECKPOINT = "A file, or of the run's: `final`, or a number as in model_0000999.pth; by default the newest."
_DEVICE = "auto (a GPU where there is one), cpu or cuda."
_PART = "Which of its images: `test`, `train` or `all`."


@app.command("evaluate")
@when_memory_runs_out("set smaller images by INPUT.MIN_SIZE_TEST in RUN/config.yaml")
def evaluate_command(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help=_RUN)],
    data: Annotated[str, typer.Option("--data", metavar="DATA", help=f"{_DATA} Its classes must be the run's, by their names.")],
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", metavar="CHECKPOINT", help=_CHECKPOINT)] = None,
    part: Annotated[str, typer.Option("--part", metavar="PART", help=_PART)] = "test",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The result to write; by default one in RUN, named by checkpoint and data.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file at --out.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse broken annotations instead of leaving them out.")] = False,
    device: Annotated[str, typer.Option("--device", help=_DEVICE)] = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a checkpoint of a detection run, on the data of its training or on any with the same classes.

    Examples:

    * `transfer evaluate runs/cells --data voc:cells`

    * `transfer evaluate runs/cells --data coco:other-cells --checkpoint 999 --part all`
    """
    _prepare()
    from transfer.detection.evaluate import evaluate

    result, path = evaluate(
        run_folder,
        data,
        checkpoint=checkpoint,
        part=part,
        device=device,
        strict=strict,
        out=out,
        overwrite=overwrite,
        say=lambda text: None if quiet else typer.echo(text, err=as_json),
    )
    named = _named(result.metrics)
    typer.echo(result.to_json() if as_json else named if quiet else f"done: {named}\nwritten: {path}", nl=not as_json)


@app.command("predict")
@when_memory_runs_out("give a smaller --batch")
def predict_command(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help=_RUN)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")],
    places: Annotated[
        list[Path] | None, typer.Argument(metavar="[FOLDER|IMAGE]...", help="Images, and folders with images in and below them.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Annotated images instead, voc:ROOT or coco:ROOT: misses and false finds are marked."),
    ] = None,
    part: Annotated[str, typer.Option("--part", metavar="PART", help=f"With --data. {_PART}")] = "test",
    score: Annotated[float, SHARE, typer.Option("--score", help="Detections with a lower score are left out.")] = 0.5,
    batch: Annotated[int, Range(1), typer.Option("--batch", help="Images that go through the network at once.")] = 1,
    sheet_images: Annotated[int, Range(1, 200), typer.Option("--sheet-images", help="With --data: how many images the sheet shows.")] = 12,
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", metavar="CHECKPOINT", help=_CHECKPOINT)] = None,
    device: Annotated[str, typer.Option("--device", help=_DEVICE)] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder at --out, if this command wrote it.")] = False,
) -> None:
    """Detect in images: draw boxes and masks, and write them as COCO's JSON and as a table.

    DIR gets `drawn/` with a picture for each image, `detections.json`, `detections.csv` and, with --data, `sheet.png`.

    Examples:

    * `transfer predict runs/cells photos --out found`

    * `transfer predict runs/cells a.jpg b.jpg --out found --score 0.3 --device cpu`

    * `transfer predict runs/cells --data voc:cells --out found`: what is missed, and what is false
    """
    _prepare()
    from transfer.detection.predict import predict

    done = predict(
        run_folder,
        places or [],
        out,
        data=data,
        part=part,
        score=score,
        batch=batch,
        sheet_images=sheet_images,
        checkpoint=checkpoint,
        device=device,
        overwrite=overwrite,
        say=typer.echo,
    )
    if done.unread:
        typer.echo(f"  {done.unread:,} images could not be read: listed in {out}/not_read.txt")
    sheet = "" if data is None else f", {out}/sheet.png"
    typer.echo(f"done: {done.detections:,} detections in {done.images:,} images")
    typer.echo(f"written: {out}/detections.json, {out}/detections.csv, {out}/drawn{sheet}")


def _named(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in metrics.items())


@app.command("compare")
@when_memory_runs_out(_LESS_MEMORY)
def compare_command(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help=_CONFIG)],
    models: Annotated[str, typer.Option("--models", metavar="A,B,...", help="Models with commas between them; `random` is one.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the runs; finished ones in it are collected, not run again.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY VALUE]...", help=_OVERRIDES)] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help=_DATA)] = None,
    seeds: Annotated[int, Range(1, 1000), typer.Option("--seeds", help="Number of seeds: each model is trained with 0, 1, ... ")] = 3,
    collect: Annotated[bool, typer.Option("--collect", help="Run nothing: only show what is finished.")] = False,
    go_on: Annotated[bool, typer.Option("--continue", help=_CONTINUE)] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse broken annotations instead of leaving them out.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto (GPUs where there are any), cpu or cuda.")] = "auto",
    gpus: Annotated[int | None, Range(1), typer.Option("--gpus", help=_GPUS)] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune several models alike, with several seeds each, and print their AP side by side.

    Examples:

    * `transfer compare small_r18_fpn --models models/hcsc,models/moco,random --seeds 3 --data voc:cells --out runs/cells`

    * `transfer compare small_r18_fpn --models models/hcsc,random --out runs/cells --collect`
    """
    if data is None and not collect:
        raise UserError("give --data voc:ROOT or coco:ROOT, or --collect to show what is finished")
    # What is only shown may be of models that are elsewhere now.
    _check_words(config, [] if collect else models.split(","), device)
    from transfer.detection.compare import compare, print_table

    def say(text: str) -> None:
        if not quiet:
            typer.echo(text, err=as_json)

    def run_one(model: str, seed: int, folder: Path) -> None:
        from transfer.detection import detect
        from transfer.detection.run_folder import is_detection_run

        say(f"--- {model}, seed {seed}: {folder}")
        if is_detection_run(folder):
            outcome = detect.resume(folder, say=say)
        else:
            assert data is not None
            outcome = detect.start(
                config, model, data, folder, overrides or [], seed=seed, device=device, gpus=gpus, strict=strict, say=say
            )
        if outcome.result is None:
            typer.echo(f"stopped by {outcome.stopped}; the same command goes on", err=as_json)
            raise typer.Exit(EXIT_STOPPED)

    if not collect:
        check_can_write(out, folder=True)
        _prepare()
    rows = compare(out, models.split(","), range(seeds), None if collect else run_one)
    if as_json:
        typer.echo(json.dumps([row.to_dict() for row in rows], indent=2, ensure_ascii=False))
    else:
        print_table(rows, quiet=quiet)


def _check_words(config: str, models: list[str], device: str) -> None:
    """Raise UserError for a config, a model or a device that there is none of, before torch is imported."""
    from transfer.detection.config_files import CONFIGS

    CONFIGS.find(config)
    for model in models:
        check_model_word(model, also=(RANDOM, DETECTRON2_SCHEME))
    check_device_word(device)


def _seconds(max_time: str | None) -> float | None:
    if max_time is None:
        return None
    from evaluation.stopping import parse_duration

    return parse_duration(max_time)


def _prepare() -> None:
    """Ask for detectron2, and keep what torch and it say of their own matters from the user's terminal."""
    from transfer.presence import require_detectron2

    require_detectron2()
    warnings.filterwarnings("ignore", module=r"torch\..*|detectron2\..*|fvcore\..*|pycocotools\..*")
    logging.getLogger("torch.fx").setLevel(logging.ERROR)


def main() -> None:
    """Entry point of the ``transfer`` command."""
    run(app)
