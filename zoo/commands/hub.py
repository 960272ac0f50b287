"""``zoo pull`` and ``zoo push``. The Hub's client takes a moment to import, and is imported when a command runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.hub.retries import DEFAULT_DEADLINE
from zoo.ranges import POSITIVE

if TYPE_CHECKING:
    from zoo.hub.pins import Pins

_LOCK = "The lock file that remembers what was got first; without it, the user's own."
_DEADLINE = "Give up after so many seconds, whatever the other side does."


def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of the catalogue (`zoo list`), or ORG/NAME[@REVISION] on the Hub.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Copy the zoo model folder there; without it, it stays in the cache.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use no network: only what was pulled before, checked again. HF_HUB_OFFLINE=1 does the same.")
    ] = False,
    deadline: Annotated[float, POSITIVE, typer.Option("--deadline", metavar="SECONDS", help=_DEADLINE)] = DEFAULT_DEADLINE,
    update: Annotated[
        bool, typer.Option("--update", help="Accept that a branch, tag or URL has changed since it was first pulled.")
    ] = False,
    lock: Annotated[Path | None, typer.Option("--lock", metavar="FILE", help=_LOCK)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the zoo model folder at --out.")] = False,
) -> None:
    """Get a zoo model and check every byte of it; the last line printed is its folder.

    A model on the Hub is pinned to a commit, and its sha256 is compared on every pull, also of what is in the cache. A name of the
    catalogue whose weights lie at their authors' is downloaded from there and imported.

    Examples:

    * `zoo pull my-lab/resnet50.moco_200ep`

    * `zoo pull my-lab/resnet50.moco_200ep@v1 --out models/moco`

    * `zoo pull resnet50.hcsc_200ep`
    """
    from zoo.hub import pull as hub

    pulled = hub.pull(
        name,
        out=out,
        offline=offline,
        deadline=deadline,
        pins=_pins(lock),
        update=update,
        overwrite=overwrite,
        progress=sys.stderr.isatty(),
    )
    for note in pulled.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{name}: {pulled.origin}, sha256 {pulled.sha256} checked", err=True)
    typer.echo(str(pulled.folder))


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A zoo model folder.")],
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Where it goes on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make the new repository private.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose the change in a pull request.")] = False,
    message: Annotated[str | None, typer.Option("--message", metavar="TEXT", help="Of the commit.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go up, and change nothing.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Push although the repository holds another model.")] = False,
    deadline: Annotated[float, POSITIVE, typer.Option("--deadline", metavar="SECONDS", help=_DEADLINE)] = DEFAULT_DEADLINE,
) -> None:
    """Put a zoo model on the Hub in one commit, compare what arrived, and load it again from there through timm.

    What goes up is the weights, config.json, zoo.json, the card, the training curve and the Hub's result files. The card must be the one
    that zoo.json makes.

    Examples:

    * `zoo push models/moco my-lab/resnet18.moco_200ep --dry-run`

    * `zoo push models/moco my-lab/resnet18.moco_200ep --private`
    """
    from zoo.hub.push import plan_push

    plan = plan_push(folder, repository, private=private, create_pr=create_pr, replace=replace, deadline=deadline)
    for line in plan.lines():
        typer.echo(line, err=True)
    if dry_run:
        typer.echo("nothing was pushed (--dry-run)", err=True)
        return
    pushed = plan.carry_out(message, progress=sys.stderr.isatty())
    for note in pushed.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(pushed.url)


def _pins(lock: Path | None) -> Pins | None:
    from zoo.files import check_can_write
    from zoo.hub.pins import Pins

    if lock is None:
        return None
    check_can_write(lock)
    return Pins(lock)
