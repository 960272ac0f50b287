"""``zoo add-result`` and ``zoo card``: the results of a zoo model, and the card that shows them. Free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_result(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A zoo model folder.")],
    results: Annotated[list[Path], typer.Argument(metavar="RESULT.json...", help="Results, as `evaluate --out` writes them.")],
) -> None:
    """Add results to a zoo model: to its zoo.json, and to its card.

    A result must have been measured with the very weights of the model; its own hash of them is compared.

    Example:

    * `zoo add-result models/moco knn.json linear.json`
    """
    from zoo.model_folder.claims import add_results, read_claims

    add_results(folder, read_claims(results))
    typer.echo(f"{folder}: {len(results)} result{'s' if len(results) > 1 else ''} added")


def card(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A zoo model folder.")],
) -> None:
    """Make the card, README.md, from zoo.json again.

    Example:

    * `zoo card models/moco`
    """
    from zoo.model_folder.claims import add_results

    add_results(folder, ())
    typer.echo(f"{folder / 'README.md'}: made from zoo.json")
