"""``zoo doctor``: what is installed here, what is missing, and what to do about it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from zoo.console import EXIT_USER_ERROR
from zoo.console.tables import AsJson, Quiet, table

_MARKS = {True: "ok", None: "-", False: "wrong"}


def doctor(
    hub: Annotated[bool, typer.Option("--hub", help="Also ask the Hub whether it answers and knows the token.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Look at this installation: versions, devices, what is optional, disk, settings of the Hub; and what to do about what is wrong.

    It leaves with status 2 where something is wrong. Without --hub it asks nothing of the network.

    Examples:

    * `zoo doctor`

    * `zoo doctor --hub --json`
    """
    from zoo.commands.examine import examine

    found = examine(hub=hub)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        rows = [(one.part, one.what, _MARKS[one.ok], one.detail + (f"; {one.remedy}" if one.remedy else "")) for one in found]
        typer.echo(table(("part", "what", "state", "found"), rows, quiet=quiet))
    wrong = [one for one in found if one.ok is False]
    if wrong:
        raise typer.Exit(EXIT_USER_ERROR)
