"""``zoo pull`` and ``zoo push``. The Hub's client takes a moment to import, and is imported when a command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.hub.retries import DEFAULT_DEADLINE
from zoo.models.selection import TRUST_HELP
from zoo.ranges import POSITIVE

if TYPE_CHECKING:
    from zoo.hub.pins import Pins
    from zoo.hub.push import PushPlan

_NAME = "A name of the catalogue (`zoo list`), or ORG/NAME[@REVISION] on the Hub, or the address of its page there."
_LOCK = "The lock file that remembers what was got first; without it, the user's own."
DEADLINE_HELP = "Give up after so many seconds, whatever the other side does."
PRIVATE_HELP = "Make the new repository private."
MESSAGE_HELP = "Of the commit."
DRY_RUN_HELP = "Show what would go up, and change nothing."
# A shell's exit status of a command that a signal ended is this and the signal's number.
_SIGNAL_STATUS = 128


def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help=_NAME)],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Copy the zoo model folder there; without it, it stays in the cache.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use no network: only what was pulled before, checked again. HF_HUB_OFFLINE=1 does the same.")
    ] = False,
    deadline: Annotated[float, POSITIVE, typer.Option("--deadline", metavar="SECONDS", help=DEADLINE_HELP)] = DEFAULT_DEADLINE,
    update: Annotated[
        bool, typer.Option("--update", help="Accept that a branch, tag or URL has changed since it was first pulled.")
    ] = False,
    lock: Annotated[Path | None, typer.Option("--lock", metavar="FILE", help=_LOCK)] = None,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help=TRUST_HELP)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the zoo model folder at --out.")] = False,
) -> None:
    """Get a zoo model and check every byte of it; the last line printed is its folder.

    A model on the Hub is pinned to a commit, and its sha256 is compared on every pull, also of what is in the cache. A repository that
    holds weights and no zoo.json (timm's, or a checkpoint that `zoo import` knows) is made into a zoo model here, which says what is not
    known of it. A name of the catalogue whose weights lie at their authors' is downloaded from there and imported.

    Examples:

    * `zoo pull my-lab/resnet50.moco_200ep`

    * `zoo pull my-lab/resnet50.moco_200ep@v1 --out models/moco`

    * `zoo pull resnet50.hcsc_200ep`

    * `zoo pull timm/resnet50.a1_in1k`
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
        trust_pickle=trust_pickle,
        progress=show_progress(),
    )
    for note in pulled.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{name}: {pulled.origin}, sha256 {pulled.sha256} checked", err=True)
    typer.echo(str(pulled.folder))


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A zoo model folder.")],
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Where it goes on the Hub.")],
    private: Annotated[bool, typer.Option("--private", help=PRIVATE_HELP)] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose the change in a pull request.")] = False,
    message: Annotated[str | None, typer.Option("--message", metavar="TEXT", help=MESSAGE_HELP)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Push although the repository holds another model.")] = False,
    deadline: Annotated[float, POSITIVE, typer.Option("--deadline", metavar="SECONDS", help=DEADLINE_HELP)] = DEFAULT_DEADLINE,
) -> None:
    """Put a zoo model on the Hub in one commit, compare what arrived, and load it again from there through timm.

    What goes up is the weights, config.json, zoo.json, the card, the training curve and the Hub's result files, nothing else. The card must
    be the one that zoo.json makes. Ctrl-C, SIGTERM and the deadline end the work itself; the last sentence says which commit stands on the
    Hub.

    Examples:

    * `zoo push models/moco my-lab/resnet18.moco_200ep --dry-run`

    * `zoo push models/moco my-lab/resnet18.moco_200ep --private`
    """
    from zoo.hub.push import plan_push

    publish(
        lambda: plan_push(folder, repository, private=private, create_pr=create_pr, replace=replace, deadline=deadline),
        message,
        dry_run=dry_run,
    )


def publish(make_plan: Callable[[], PushPlan], message: str | None, *, dry_run: bool) -> None:
    """Make a plan, show it and carry it out; what ends it before its end is told with what stands on the Hub."""
    from zoo.hub.upload.cancelling import Cancelled, Cancelling

    try:
        with Cancelling():
            plan = make_plan()
            for line in plan.lines():
                typer.echo(line, err=True)
            if dry_run:
                typer.echo("nothing was pushed (--dry-run)", err=True)
                return
            pushed = plan.carry_out(message, progress=show_progress())
    except Cancelled as error:
        typer.echo(f"cancelled: {str(error) or 'nothing had been sent, and the Hub is as it was'}", err=True)
        raise typer.Exit(_SIGNAL_STATUS + error.number) from error
    for note in pushed.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(pushed.url)


def show_progress() -> bool:
    """Whether transfers show progress bars."""
    return sys.stderr.isatty()


def _pins(lock: Path | None) -> Pins | None:
    from zoo.files import check_can_write
    from zoo.hub.pins import Pins

    if lock is None:
        return None
    check_can_write(lock)
    return Pins(lock)
