"""``zoo predict``: what a classifier says of images. What needs torch is imported when the command runs.

The command is registered with ``zoo`` by the entry-point group ``zoo.commands``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evaluation.classifiers import DEFAULT_TOP
from zoo.console import when_memory_runs_out
from zoo.console.tables import AsJson, Quiet
from zoo.errors import UserError
from zoo.files import check_can_write
from zoo.ranges import BATCH_SIZE, WORKERS, Range

_MODEL = (
    "A classifier: a zoo model with classes (`evaluate --save` makes one), `hub:ORG/NAME[@REVISION]`, a name of the catalogue, "
    "`timm:NAME` or `torchvision:NAME[.WEIGHTS]`."
)
_OUT = "Table to write (.csv); without it the likeliest classes are printed."
_HTML = "Page to write: thumbnails by class, the least certain first."
_SHOWN = 3


@when_memory_runs_out("lower --batch-size")
def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL)],
    images: Annotated[list[str], typer.Argument(metavar="FOLDER|IMAGE...", help="Images, and folders of images at any depth.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.csv", help=_OUT)] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="PAGE.html", help=_HTML)] = None,
    top: Annotated[int, Range(1), typer.Option("--top", metavar="K", help="Classes of each image, the likeliest first.")] = DEFAULT_TOP,
    device: Annotated[str, typer.Option("--device", help="auto (a GPU where there is one), cpu or cuda.")] = "auto",
    batch_size: Annotated[int | None, BATCH_SIZE, typer.Option("--batch-size", "--batch", help="Images per forward pass.")] = None,
    workers: Annotated[int | None, WORKERS, typer.Option("--workers", help="Processes that decode files; by default one per core.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table and the page where they exist.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Classify images: the most likely classes of each, with their probabilities.

    Images are prepared as the model says (size, crop, normalisation), and read as those that it was trained on. Those that cannot be read
    are named and left out. The table has a column `image` with the path, then `class_1`, `probability_1`, `class_2`, ...

    Examples:

    * `evaluate --task linear --model models/moco --data folder:photos,holdout=0.2 --save models/mine`: make a classifier

    * `zoo predict models/mine new-photos --out predictions.csv --html predictions.html`

    * `zoo predict timm:resnet50.a1_in1k cat.jpg dog.jpg --top 3`
    """
    _check_out("--out", out, ".csv", overwrite)
    _check_out("--html", html, ".html", overwrite)
    if out is not None and out == html:
        raise UserError("--out and --html name the same file; give each its own")
    # From here on it takes torch, and seconds.
    from evaluation.classifiers.page import write_page
    from evaluation.classifiers.predict import check_classifier, find_images, predict_images, say_what_was_left_out, summary_line
    from evaluation.classifiers.table import predictions_of, write_table
    from evaluation.extraction.batches import BATCH_SIZE as DEFAULT_BATCH
    from evaluation.parallel import choose_device
    from evaluation.tasks.runtime import device_name
    from zoo.data.base import UnusedFile
    from zoo.model_spec import open_model

    def say(text: str) -> None:
        if not quiet:
            typer.echo(text, err=True)

    unused: list[UnusedFile] = []
    paths = find_images(images, unused)
    place = choose_device(device)
    opened = open_model(model, classifier=True)
    check_classifier(opened)
    for note in opened.notes:
        say(note)
    count = len(paths)
    say(f"{opened.name}, {len(opened.classes):,} classes, on {device_name(place)}: {count:,} image{'s' if count > 1 else ''}")
    size = DEFAULT_BATCH if batch_size is None else batch_size
    found = predict_images(opened, paths, top=top, batch_size=size, device=place, workers=workers, progress=not quiet)
    # Also where little is wanted: an image that is missing among the predictions is no note.
    say_what_was_left_out(found, unused, lambda text: typer.echo(text, err=True))
    if out is not None:
        write_table(out, found)
        say(f"written: {out}: {len(found.top):,} images" + (f", {len(found.bad):,} left out" if found.bad else ""))
    if as_json:
        typer.echo(json.dumps([predictions_of(found, row) for row in range(len(found.top))], indent=2, ensure_ascii=False))
    elif out is None:
        for row in range(len(found.top)):
            typer.echo(summary_line(found, row, min(top, _SHOWN) if top == DEFAULT_TOP else top))
    if html is not None:
        write_page(html, found, opened.name, progress=not quiet)
        say(f"written: {html}")


def _check_out(flag: str, path: Path | None, ending: str, overwrite: bool) -> None:
    """Raise UserError, before anything is computed, for a file that could not be written at the end."""
    if path is None:
        return
    if path.suffix.lower() != ending:
        raise UserError(f"{flag} {path} must end in {ending}")
    check_can_write(path)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already; choose another {flag}, or give --overwrite to replace it")
