"""``zoo report``. What computes is imported when the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.report.settings import DEFAULT_TITLE, MAP_METHODS, PAGE, check_map_word
from zoo.console import when_memory_runs_out
from zoo.data.spec import check_data_word
from zoo.words.models import check_model_word
from zoo.words.runtime import check_device_word

_RESULTS = "Result files, folders of result files, or zoo models with results."
_OUT = "Folder to make: index.html, which is the whole report, and copies of the results."
_DATA = "Where the results' images lie, instead of where each result says; may be given several times."
_MODEL = "Model to compute features with, where they are not kept from its evaluation; may be given several times."
_WEIGHTS = "Weights of a python: model; for several such models once for each, in their order."
_NUMBERS = "Open no data and no models: tables, charts and provenance alone."


@when_memory_runs_out("give --map none, or --numbers-only, which opens no images")
def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help=_RESULTS, show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help=_OUT, show_default=False)],
    title: Annotated[str, typer.Option("--title", help="Title of the page.")] = DEFAULT_TITLE,
    data: Annotated[list[str] | None, typer.Option("--data", metavar="NAME:ROOT", help=_DATA)] = None,
    models: Annotated[list[str] | None, typer.Option("--model", metavar="MODEL", help=_MODEL)] = None,
    weights: Annotated[list[Path] | None, typer.Option("--weights", metavar="FILE", help=_WEIGHTS)] = None,
    map_method: Annotated[str, typer.Option("--map", help=f"Map of the features: {', '.join(MAP_METHODS)}.")] = MAP_METHODS[0],
    numbers_only: Annotated[bool, typer.Option("--numbers-only", help=_NUMBERS)] = False,
    device: Annotated[str, typer.Option("--device", help="For features and votes: auto (a GPU where there is one), cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that exists.")] = False,
) -> None:
    """Make one page of results that needs no server and no network.

    Examples:

    * `zoo report results --out report`

    * `zoo report knn.json linear.json --out report --data cifar10:data --model runs/moco`
    """
    check_map_word(map_method)
    check_device_word(device)
    for spec in models or []:
        check_model_word(spec)
    for spec in data or []:
        check_data_word(spec)
    from evaluation.report.write import write_report
    from evaluation.tasks.model_source import model_sources

    write_report(
        results,
        out,
        title=title,
        data=data or [],
        models=model_sources(models or [], weights or [], None, None, None, None),
        map_method=map_method,
        numbers_only=numbers_only,
        device=device,
        overwrite=overwrite,
        say=lambda text: typer.echo(text, err=True),
    )
    typer.echo(f"written: {out / PAGE}", err=True)
