"""The ``transfer`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.console import make_app, run, version_option

app = make_app(
    "Take a backbone to other frameworks.\n\n"
    "Examples:\n\n"
    "* `transfer convert models/moco --to torchvision --out moco.pth`\n"
    "* `transfer convert runs/moco --to timm --out moco.safetensors`",
    no_args_is_help=True,
)


@app.callback()
def _transfer(version: bool = version_option("transfer")) -> None: ...


@app.command("convert")
def convert_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A zoo model folder, run or checkpoint file, `timm:NAME`, `torchvision:NAME` or `random:ARCH[:SEED]`."
        ),
    ],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="`torchvision` (a .pth state dict) or `timm` (.safetensors).")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file at --out.")] = False,
) -> None:
    """Write the backbone as another library's weights file.

    The file is kept only if that library's own network, loaded from it, gives the same features.

    Examples:

    * `transfer convert models/moco --to torchvision --out moco.pth`

    * `transfer convert timm:resnet50.a1_in1k --to torchvision --out resnet50.pth`
    """
    from transfer.convert import convert

    usage = convert(model, to, out, overwrite=overwrite)
    typer.echo(f"{out}: checked by a forward pass; load it with\n{usage}")


def main() -> None:
    """Entry point of the ``transfer`` command."""
    run(app)
