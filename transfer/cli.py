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
    "* `transfer convert runs/moco --to detectron2 --out moco.pkl`",
    no_args_is_help=True,
)

_MODEL = "A zoo model folder, a run folder, `timm:NAME`, `torchvision:NAME`, `random:ARCH[:SEED]` or `detectron2:FILE` (.pkl or .pth)."
_TO = "`torchvision` (.pth), `timm` (.safetensors), `detectron2` (.pkl) or `onnx` (.onnx)."
_VERIFY = "Compare the written file, in the other library, with the model; by default where that library is installed."


@app.callback()
def _transfer(version: bool = version_option("transfer")) -> None: ...


@app.command("convert")
def convert_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL)],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help=_TO)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file at --out.")] = False,
    verify: Annotated[bool | None, typer.Option("--verify/--no-verify", help=_VERIFY)] = None,
) -> None:
    """Write the backbone as another library's weights file.

    A verified file is kept only if that library's own network, loaded from it, computes the same.

    Examples:

    * `transfer convert models/moco --to detectron2 --out moco.pkl`

    * `transfer convert timm:resnet50.a1_in1k --to torchvision --out resnet50.pth`

    * `transfer convert detectron2:moco.pkl --to timm --out moco.safetensors`
    """
    from transfer.convert import convert

    conversion = convert(model, to, out, overwrite=overwrite, verify=verify)
    typer.echo("\n".join([f"{out}:", *conversion.checks, "use it with", conversion.usage]))


def main() -> None:
    """Entry point of the ``transfer`` command."""
    run(app)
