"""The `pretrain` command."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evaluation.stopping import StoppedAtOnce, StopRequest
from pretrain.mistakes import RecipeCommand
from zoo.console import EXIT_STOPPED, is_main_process, make_app, run, version_option, when_memory_runs_out
from zoo.console.subcommands import nearest_form
from zoo.console.tables import AsJson, Quiet, columns, facts, table
from zoo.errors import UserError
from zoo.ranges import Range
from zoo.words.complete import starting

# In the place of a recipe's name: draw a run's boxes, or its prototypes; the runs below a folder; how one
# goes; draw the views of a recipe.
BOXES_WORD, PROTOTYPES_WORD, RUNS_WORD, WATCH_WORD, VIEWS_WORD = "boxes", "prototypes", "runs", "watch", "views"
# In that place too: what options say as well.
LIST_WORD, RESUME_WORD, SHOW_WORD, TRIAL_WORD = "list", "resume", "show", "trial"
WORDS = (BOXES_WORD, PROTOTYPES_WORD, RUNS_WORD, WATCH_WORD, VIEWS_WORD, LIST_WORD, RESUME_WORD, SHOW_WORD, TRIAL_WORD)
# How many of them are drawn where --count says nothing.
BOXES_SHOWN, PROTOTYPES_SHOWN, VIEWS_SHOWN = 60, 4, 8
# Seconds between two looks at a run's log.
_WATCHED_EVERY = 2.0

HELP = """Pre-train a backbone without labels.

Examples:

- `pretrain shapes_demo --out runs/demo`
- `pretrain moco_cifar10 --out runs/moco data=cifar10:ROOT epochs=100 seed=1`: with other values
- `pretrain --list`: one recipe a line
- `pretrain --show moco_cifar10`: every key of a recipe, with its value
- `pretrain moco_cifar10 --trial data=cifar10:ROOT`: twenty steps; then speed, hours and memory of the whole run; nothing is written
- `pretrain moco_cifar10 --out runs/moco --continue`: start, or go on where there is a run; for jobs that are queued again
- `pretrain --resume runs/moco`: go on where a stopped or killed run was
- `pretrain boxes runs/ccrop --out boxes.png`: a contact sheet of ContrastiveCrop's boxes over training images
- `pretrain views simclr_cifar10 data=cifar10:ROOT --out views.png`: a contact sheet of the views that a recipe draws
- `pretrain prototypes runs/hcsc --out tree.png`: HCSC's prototypes, from a few of the coarsest down to their nearest images
- `pretrain runs [DIR]`: all runs below a folder, with state, step, loss and kNN
- `pretrain watch runs/moco`: how a run goes: pace, time left, curves of loss, kNN and the rest of its log
- `torchrun --nproc_per_node 8 -m pretrain moco_imagenet --out runs/moco data=imagenet:ROOT`: on 8 GPUs

A run that a signal (SIGTERM, SIGUSR1, Ctrl-C) or max_time stopped has saved a checkpoint and leaves with exit status 3.
"""

_RECIPE = "A recipe's name, or a YAML file; or `views` and a recipe; `boxes`, `prototypes` or `watch` and a run; `runs` and a folder."
_COUNT = f"How many images `boxes` ({BOXES_SHOWN}) and `views` ({VIEWS_SHOWN}) show, how many coarse `prototypes` ({PROTOTYPES_SHOWN})."

_CONTINUE = "Start where --out is nothing yet, and go on where it is a run that the same command began: one command for every time."

app = make_app(HELP)


def _first_words(incomplete: str) -> list[str]:
    from pretrain.recipe_files import RECIPES

    return starting(incomplete, [*WORDS, *RECIPES.names()])


@app.command(help=HELP, cls=RecipeCommand)
@when_memory_runs_out("set a smaller batch=N, or micro_batch=N, which keeps the batch and passes it in parts")
def pretrain(
    recipe: str | None = typer.Argument(None, help=_RECIPE, autocompletion=_first_words),
    overrides: list[str] | None = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Values to set, such as epochs=3 or method.queue=4096."
    ),
    out: Path | None = typer.Option(None, "--out", help="The run folder to write; with `boxes` or `prototypes`, the picture."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run folder if it exists."),
    go_on: bool = typer.Option(False, "--continue", help=_CONTINUE),
    resume: Path | None = typer.Option(None, "--resume", metavar="RUN", help="Go on with a run folder."),
    count: Annotated[int | None, Range(1), typer.Option("--count", help=_COUNT)] = None,
    trial: bool = typer.Option(
        False,
        "--trial",
        help="Run twenty steps and one survey batch; print speed, hours, memory and disk of the whole run; write nothing.",
    ),
    download: bool = typer.Option(
        False, "--download", help="First fetch the recipe's data set into its folder, by torchvision: CIFAR, STL-10 and other small ones."
    ),
    show: bool = typer.Option(False, "--show", help="Print the resolved recipe and leave."),
    list_recipes: bool = typer.Option(False, "--list", help="List the recipes and leave."),
    as_json: AsJson = False,
    quiet: Quiet = False,
    version: bool = version_option("pretrain"),
) -> None:
    words = [word for word in [recipe, *(overrides or [])] if word is not None]
    first = nearest_form(words[0], WORDS) if words and not words[0].endswith((".yaml", ".yml")) else None
    if first is not None:
        words[0] = first
    if first == RESUME_WORD and resume is None:
        if len(words) < 2 or "=" in words[1]:
            raise UserError("name the run to go on with: pretrain --resume RUN")
        resume, words = Path(words[1]), words[2:]
    elif first in (LIST_WORD, SHOW_WORD, TRIAL_WORD):
        list_recipes, show, trial = list_recipes or first == LIST_WORD, show or first == SHOW_WORD, trial or first == TRIAL_WORD
        words = words[1:]
    printing = list_recipes or show or trial or first == RUNS_WORD
    if (as_json or quiet) and (resume is not None or not printing):
        raise UserError(f"{'--json' if as_json else '--quiet'} is for what prints a table: --list, --show, --trial and `{RUNS_WORD}`")
    if list_recipes:
        _list(words, as_json=as_json, quiet=quiet)
    elif resume is not None:
        if go_on:
            raise UserError("--resume RUN goes on already; --continue is for RECIPE --out RUN")
        _resume(resume, words, out, overwrite)
    elif words[:1] == [BOXES_WORD]:
        _boxes(words[1:], out, count or BOXES_SHOWN)
    elif words[:1] == [PROTOTYPES_WORD]:
        _prototypes(words[1:], out, count or PROTOTYPES_SHOWN)
    elif words[:1] == [RUNS_WORD]:
        _runs(words[1:], as_json=as_json, quiet=quiet)
    elif words[:1] == [VIEWS_WORD]:
        _views(words[1:], out, count or VIEWS_SHOWN)
    elif words[:1] == [WATCH_WORD]:
        _watch(words[1:])
    elif not words or "=" in words[0]:
        raise UserError("name a recipe (`pretrain --list` shows them), or a run to go on with by --resume RUN")
    elif show:
        _show(words[0], words[1:], as_json=as_json)
    elif trial:
        _try(words[0], words[1:], out, as_json=as_json, quiet=quiet)
    else:
        if overwrite and go_on:
            raise UserError("--continue keeps what is there and --overwrite replaces it; give one of them")
        _start(words[0], words[1:], out, overwrite, download=download, go_on=go_on)


def _list(words: list[str], *, as_json: bool, quiet: bool) -> None:
    from pretrain.recipe_files import RECIPES

    if words:
        raise UserError(f"--list takes no words, and '{words[0]}' was given; `pretrain --show {words[0]}` prints one recipe")
    listed = RECIPES.listed()
    rows = [(one["name"], one["summary"]) for one in listed]
    typer.echo(json.dumps(listed, indent=2, ensure_ascii=False) if as_json else columns(rows) if quiet else facts(rows))


def _show(name: str, overrides: list[str], *, as_json: bool) -> None:
    _check_recipe(name)
    from pretrain.recipes import as_yaml, load_recipe

    text = as_yaml(load_recipe(name, overrides))
    if as_json:
        from zoo.plain_yaml import parse_yaml

        text = json.dumps(parse_yaml(text), indent=2, ensure_ascii=False) + "\n"
    typer.echo(text, nl=False)


def _runs(words: list[str], *, as_json: bool, quiet: bool) -> None:
    if len(words) > 1:
        raise UserError(f"`pretrain {RUNS_WORD}` takes one folder, not {len(words)}")
    from pretrain.runs.listing import RunState, runs_below

    def shown(value: float | None, text: str) -> str:
        return "-" if value is None else format(value, text)

    def row(run: RunState) -> tuple[str, ...]:
        step = f"{run.step}" + (f" of {run.steps}" if run.steps is not None else "")
        knn = None if run.knn is None else 100 * run.knn
        return (str(run.path), run.state, step, shown(run.loss, ".4g"), shown(knn, ".2f"), shown(run.rankme, ".1f"), run.recipe)

    folder = Path(words[0] if words else ".")
    found = list(runs_below(folder))
    if not found:
        raise UserError(f"there is no run in {folder}, nor three folders down")
    if as_json:
        typer.echo(json.dumps([{**asdict(run), "path": str(run.path)} for run in found], indent=2, ensure_ascii=False))
    else:
        typer.echo(table(("run", "state", "step", "loss", "kNN %", "RankMe", "what"), map(row, found), quiet=quiet))


def _views(words: list[str], out: Path | None, count: int) -> None:
    if not words or "=" in words[0]:
        raise UserError(f"name a recipe: pretrain {VIEWS_WORD} RECIPE [KEY=VALUE ...] --out {VIEWS_WORD}.png")
    name = words[0]
    _check_recipe(name)
    picture = out or Path(f"{Path(name).stem}-{VIEWS_WORD}.png")
    from zoo.files import check_can_write

    check_can_write(picture)
    from pretrain.pictures.views import draw_views, views_of_recipe
    from pretrain.recipes import load_recipe

    sheet = views_of_recipe(load_recipe(name, words[1:]), Path(name).stem, count)
    draw_views(picture, sheet)
    typer.echo(f"{sheet.title}\n{picture}")


def _watch(words: list[str]) -> None:
    if len(words) != 1:
        raise UserError(f"`pretrain {WATCH_WORD} RUN` takes one run, and {len(words)} were given")
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from pretrain.runs.watch import watch

    console = Console()
    if not console.is_terminal:
        watch(Path(words[0]), typer.echo, width=console.width, every=None)
        return
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        watch(Path(words[0]), lambda text: live.update(Text(text), refresh=True), width=console.width, every=_WATCHED_EVERY)


def _boxes(words: list[str], out: Path | None, count: int) -> None:
    run_folder, picture = _run_and_picture(BOXES_WORD, words, out)
    from pretrain.pictures.boxes import boxes_of_run, draw_boxes

    sheet = boxes_of_run(run_folder, count)
    draw_boxes(picture, sheet)
    typer.echo(f"{sheet.title}\n{picture}")


def _prototypes(words: list[str], out: Path | None, count: int) -> None:
    run_folder, picture = _run_and_picture(PROTOTYPES_WORD, words, out)
    from pretrain.pictures.prototypes import draw_prototypes, prototypes_of_run

    tree = prototypes_of_run(run_folder, count)
    draw_prototypes(picture, tree)
    typer.echo(f"{tree.title}\n{picture}")


def _run_and_picture(word: str, words: list[str], out: Path | None) -> tuple[Path, Path]:
    """The run folder that is named after ``word``, and where its picture shall be written."""
    if len(words) != 1:
        raise UserError(f"name one run folder: pretrain {word} RUN --out {word}.png")
    run_folder = Path(words[0])
    picture = out or Path(f"{run_folder.resolve().name}-{word}.png")
    if picture.is_dir():
        raise UserError(f"{picture} is a folder; name the picture to write, such as {picture / f'{word}.png'}")
    from zoo.files import check_can_write

    check_can_write(picture)
    _check_run(run_folder)
    return run_folder, picture


def _check_run(run_folder: Path) -> None:
    from zoo.models.runs import is_run

    if not is_run(run_folder):
        raise UserError(f"{run_folder} is not a run folder: it has no recipe.yaml and checkpoints/")


def _check_recipe(name: str) -> None:
    """Raise UserError where there is no recipe of that name: before torch is imported."""
    from pretrain.recipe_files import RECIPES

    RECIPES.find(name)


def _try(name: str, overrides: list[str], out: Path | None, *, as_json: bool, quiet: bool) -> None:
    _check_recipe(name)
    from pretrain.recipes import load_recipe
    from pretrain.trial import try_recipe

    found = try_recipe(load_recipe(name, overrides), out=out)
    if is_main_process():
        lines = found.lines()
        # The last line says that nothing was written.
        typer.echo(json.dumps(asdict(found), indent=2) if as_json else "\n".join(lines[:-1] if quiet else lines))


def _start(name: str, overrides: list[str], out: Path | None, overwrite: bool, *, download: bool, go_on: bool) -> None:
    if out is None:
        raise UserError("say where the run folder shall be written with --out RUN")
    _check_recipe(name)
    from pretrain.runs.run_folder import check_out
    from zoo.models.runs import is_run

    # From here on a signal is a wish to stop, and leaves with the status of a training that can be queued again.
    with StopRequest() as stop:
        try:
            with stop.at_once():
                if not go_on or not is_run(out):
                    check_out(out, overwrite=overwrite or go_on)
                from pretrain.loop import train
                from pretrain.recipes import load_recipe

                config = load_recipe(name, overrides)
                if download:
                    from zoo.data import download_data

                    download_data(config.data)
        except StoppedAtOnce:
            _stopped_at_once(stop)
        _finish(train(config, out, overwrite=overwrite, go_on=go_on, stop=stop), out)


def _resume(run_folder: Path, overrides: list[str], out: Path | None, overwrite: bool) -> None:
    if out is not None or overwrite:
        raise UserError("--resume goes on in the run's own folder: leave out --out and --overwrite")
    from zoo.models.runs import read_recipe

    _check_run(run_folder)
    with StopRequest() as stop:
        try:
            with stop.at_once():
                from pretrain.loop import train
                from pretrain.recipes import resume_recipe

                config = resume_recipe(read_recipe(run_folder), overrides)
        except StoppedAtOnce:
            _stopped_at_once(stop)
        _finish(train(config, run_folder, resume=True, stop=stop), run_folder)


def _stopped_at_once(stop: StopRequest) -> None:
    """Leave where a signal came before anything of a training was there."""
    if is_main_process():
        typer.echo(f"stopped by {stop.reason} before the first step; the same command starts again")
    raise typer.Exit(EXIT_STOPPED)


def _finish(outcome: object, run_folder: Path) -> None:
    from pretrain.loop import Outcome

    assert isinstance(outcome, Outcome)
    if is_main_process():
        if outcome.stopped and not outcome.steps:
            typer.echo(f"stopped by {outcome.stopped} before the first step; the same command starts again")
        elif outcome.was_finished:
            typer.echo(f"{run_folder} is finished already ({outcome.steps} steps)")
        elif outcome.stopped:
            typer.echo(
                f"stopped by {outcome.stopped} after step {outcome.step} of {outcome.steps}; go on with: pretrain --resume {run_folder}"
            )
        else:
            typer.echo(
                f"done: {run_folder} ({outcome.steps} steps); evaluate it with: evaluate --task knn --model {run_folder} --data DATA"
            )
    if outcome.stopped:
        raise typer.Exit(EXIT_STOPPED)


def main() -> None:
    try:
        run(app)
    finally:
        # Only a training starts processes' talk, and only then is torch here.
        if "torch" in sys.modules:
            from evaluation.parallel import stop_processes

            stop_processes()


if __name__ == "__main__":
    main()
