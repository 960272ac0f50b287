"""``zoo import``: make a zoo model of somebody else's checkpoint. What needs torch is imported when the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.catalogue import load_catalogue
from zoo.errors import UserError, printable
from zoo.files import check_can_write, check_new_folder
from zoo.formats.beside import Preprocessing
from zoo.formats.readers import get_reader, reader_names
from zoo.model_folder.licences import LICENCE_HELP, LICENCE_LINK_HELP, check_stated
from zoo.model_folder.manifest import MANIFEST_FILE
from zoo.models.selection import (
    DROP_HELP,
    HEADS_HELP,
    KEY_HELP,
    NORM_EPS_HELP,
    PREFIX_HELP,
    RENAME_HELP,
    STEM_PADDING_HELP,
    TRUST_HELP,
    Hints,
    read_selection,
)
from zoo.normalisation import three_channels
from zoo.ranges import NORM_EPS, SIDE, STEM_PADDING, Range

if TYPE_CHECKING:
    from zoo.model_folder.importing import Imported


def import_model(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A checkpoint file (.pth, .pth.tar, .ckpt, .safetensors ...), its URL, or a folder of transformers."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The zoo model folder to write.")],
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help=f"`auto`: recognise the layout. Else one of {', '.join(reader_names())}.")
    ] = "auto",
    arch: Annotated[
        str | None, typer.Option("--arch", metavar="NAME", help="timm's name of the architecture; without it, by the tensors' shapes.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", metavar="NAME", help="Which network of the file (query, key, teacher ...); without it, the authors' own choice."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the model. A name of the catalogue takes over what the catalogue says."),
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", "--license", metavar="ID", help=LICENCE_HELP)] = None,
    licence_link: Annotated[str | None, typer.Option("--licence-link", "--license-link", metavar="URL", help=LICENCE_LINK_HELP)] = None,
    method: Annotated[str | None, typer.Option("--method", metavar="NAME", help="The pre-training method, for the card.")] = None,
    epochs: Annotated[int | None, Range(1), typer.Option("--epochs", metavar="N", help="Epochs of the pre-training, for the card.")] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="NAME", help="What it was trained on, for the card.")] = None,
    image_size: Annotated[
        int | None, SIDE, typer.Option("--image-size", metavar="PX", help="Side of the images it was trained on.")
    ] = None,
    mean: Annotated[str | None, typer.Option("--mean", metavar="R,G,B", help="Mean of pixels in [0, 1]; without it, ImageNet's.")] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="R,G,B", help="Standard deviation; without it, ImageNet's.")] = None,
    interpolation: Annotated[str | None, typer.Option("--interpolation", metavar="NAME", help="`bilinear` or `bicubic` resizing.")] = None,
    crop_pct: Annotated[
        float | None,
        Range(0.1, 1),
        typer.Option("--crop-pct", metavar="PART", help="Part of the side that the centre crop keeps."),
    ] = None,
    heads: Annotated[int | None, Range(1), typer.Option("--heads", metavar="N", help=HEADS_HELP)] = None,
    norm_eps: Annotated[float | None, NORM_EPS, typer.Option("--norm-eps", metavar="EPS", help=NORM_EPS_HELP)] = None,
    stem_padding: Annotated[int | None, STEM_PADDING, typer.Option("--stem-padding", metavar="PX", help=STEM_PADDING_HELP)] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help=KEY_HELP)] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="PREFIX", help=PREFIX_HELP)] = None,
    rename: Annotated[list[str] | None, typer.Option("--rename", metavar="A=B", help=RENAME_HELP)] = None,
    drop: Annotated[list[str] | None, typer.Option("--drop", metavar="RE", help=DROP_HELP)] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option("--trust-pickle", help=TRUST_HELP),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the zoo model folder at --out.")] = False,
) -> None:
    """Make a zoo model of a checkpoint that somebody else published or trained.

    The layout is recognised, every tensor is accounted for, and the folder is loaded again and compared before it gets its name.
    Nothing in the file is run.

    Examples:

    * `zoo import hcsc_200eps.pth --out models/hcsc --name resnet50.hcsc_200ep`

    * `zoo import checkpoint.pth.tar --out models/mine --format simsiam --licence MIT`

    * `zoo import mine.pth --out models/mine --key state.model --prefix student.backbone. --rename 'ln_=norm' --drop '^extra'`

    * `zoo import resnet18.ckpt --out models/r18 --image-size 32 --mean 0.49,0.48,0.45 --std 0.2,0.2,0.2`
    """
    stated = (_numbers("--mean", mean), _numbers("--std", std, positive=True), _interpolation(interpolation))
    if format not in ("auto", *reader_names()):
        get_reader(format)
    selection = read_selection(key, prefix, rename, drop)
    check_stated(licence, licence_link)  # before a download
    entries = load_catalogue()
    url = file if file.startswith(("http://", "https://")) else None
    check_can_write(out, folder=True)
    check_new_folder(out, overwrite=overwrite, marker=MANIFEST_FILE)
    if url is None and not Path(file).expanduser().exists():
        raise UserError(f"there is no file {file}")
    from zoo.hub.fetch import fetch
    from zoo.model_folder.importing import import_checkpoint

    preprocessing = Preprocessing(image_size, *stated, crop_pct)
    path = Path(file).expanduser() if url is None else fetch(url, progress=True)
    done = import_checkpoint(
        path,
        out,
        format=format,
        arch=arch,
        encoder=encoder,
        name=name,
        licence=licence,
        licence_link=licence_link,
        method=method,
        epochs=epochs,
        data=data,
        preprocessing=preprocessing,
        entry=entries.get(name) if name else None,
        url=url,
        hints=Hints(heads, norm_eps, stem_padding),
        selection=selection,
        trust_pickle=trust_pickle,
        overwrite=overwrite,
    )
    typer.echo("\n".join(map(printable, _report(done))))
    if name is None:
        same = [
            entry.name for entry in entries.values() if entry.home and entry.home.url and _file_name(entry.home.url) == _file_name(file)
        ]
        if same:
            typer.echo(f"its file name is that of {', '.join(same)} in the catalogue: --name {same[0]} takes over what is known of it")


def _report(done: Imported) -> list[str]:
    reading = done.reading
    lines = [
        f"{done.folder}: a zoo model ({reading.architecture.name}); through the zoo and through timm it gives the same features",
        f"recognised {reading.reader.name} ({reading.reader.title}) by {reading.evidence}",
    ]
    if reading.also:
        lines.append(f"it fits {', '.join(reading.also)} as well, which take the same tensors")
    if not reading.reader.confirmed:
        lines.append("no file of its authors has confirmed this layout yet: compare an accuracy with a published one before you rely on it")
    if reading.reader.note:
        lines.append(f"note: {reading.reader.note}")
    lines += [f"note: {note}" for note in (*reading.function.notes, *([reading.resized] if reading.resized else []))]
    lines.append(f"network: {reading.encoder}" if len(reading.reader.parts) != 1 else "network: the only one")
    lines += reading.accounting.lines()
    if reading.replaced:
        lines.append(f"left out, not run: {', '.join(reading.replaced)}")
    if done.assumed:
        lines.append(f"assumed, since nothing says otherwise: {'; '.join(done.assumed)}")
    return lines


def _numbers(option: str, text: str | None, *, positive: bool = False) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        numbers = three_channels(map(float, text.split(",")))
    except ValueError as error:
        raise UserError(f"{option} takes three numbers, R,G,B, of pixels in [0, 1], and '{text}' is not that") from error
    # Written so that what is not a number fails too.
    if not all(0 <= value <= 1 and not (positive and value == 0) for value in numbers):
        raise UserError(f"{option} is of pixels in [0, 1], and '{text}' is not; divide numbers of pixels in 0 .. 255 by 255")
    return numbers


def _interpolation(name: str | None) -> str | None:
    if name is not None and name not in ("bilinear", "bicubic"):
        raise UserError(f"--interpolation is bilinear or bicubic, not '{name}'")
    return name


def _file_name(path_or_url: str) -> str:
    return path_or_url.partition("?")[0].rpartition("/")[2]
