"""`zoo data`: the look at a data set before it is used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo.console import EXIT_USER_ERROR, when_memory_runs_out
from zoo.console.tables import AsJson
from zoo.data.spec import BOX_SETS, check_data_word, parse_spec
from zoo.ranges import WORKERS

_QUIET = "Print what is wrong, a line each, and nothing else; no progress."


@when_memory_runs_out("lower --workers")
def data(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC", help="The data: folder:ROOT, csv:FILE, voc:ROOT, coco:ROOT, ... as --data takes it.")
    ],
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help=_QUIET)] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="PAGE", help="Write a page with pictures: one file, no network.")] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="PNG", help="Of voc: and coco:, write a picture of images with their boxes.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Leave with exit status 2 where a problem was found.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="First fetch the set into its folder, by torchvision: CIFAR, STL-10 and other small ones.")
    ] = False,
    workers: Annotated[int | None, WORKERS, typer.Option("--workers", help="Processes that decode (one per core).")] = None,
    again: Annotated[bool, typer.Option("--again", help="Look at every file anew, whatever is known of it from before.")] = False,
) -> None:
    """Look at a data set before it is used: every image once, without any training.

    It says how many images, classes, formats, modes and sizes there are, what cannot be read and why, which images are there twice or
    are both trained and tested on, and what was decided about folders and splits. What is known of a file is kept by its path, size and
    time, so that a second look takes seconds.

    Examples:

    * `zoo data folder:photos`

    * `zoo data folder:photos --html photos.html`

    * `zoo data coco:fruits --sheet fruits.png`

    * `zoo data voc:cells --strict --json`
    """
    if parse_spec(spec).name not in BOX_SETS:
        check_data_word(spec)
    from zoo.files import check_can_write

    for path in filter(None, (html, sheet)):
        check_can_write(path)
    from rich.console import Console
    from rich.progress import Progress

    from zoo.data import download_data
    from zoo.data.inspection.look import look_at

    if download:
        download_data(spec)

    with Progress(console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        tasks: dict[str, object] = {}

        def show(split: str, done: int, total: int) -> None:
            task = tasks.setdefault(split, bar.add_task(f"looking at {split}", total=total) if split not in tasks else None)
            bar.update(task, completed=done)  # type: ignore[arg-type]

        look = look_at(spec, show, workers, again=again)
    # First what was found: the pictures may fail still.
    if as_json:
        typer.echo(look.to_json(), nl=False)
    elif quiet:
        for finding in look.problems:
            typer.echo(f"{finding.kind}: {finding.text}")
    else:
        from zoo.data.inspection.text import look_text

        typer.echo(look_text(look))
    if html is not None:
        from zoo.data.inspection.page import write_page

        write_page(html, look)
    if sheet is not None:
        from zoo.data.inspection.sheet import sheet_of

        sheet_of(spec, sheet)
    if not as_json and not quiet:
        for path in filter(None, (html, sheet)):
            typer.echo(f"written: {path}")
    if strict and look.problems:
        raise typer.Exit(EXIT_USER_ERROR)
