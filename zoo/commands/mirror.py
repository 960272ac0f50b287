"""``zoo mirror``: a published backbone of the catalogue, imported and put on the Hub where its licence allows it. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zoo.catalogue import CatalogueEntry, find_entry
from zoo.commands.hub import DEADLINE_HELP, DRY_RUN_HELP, MESSAGE_HELP, PRIVATE_HELP, publish, show_progress
from zoo.errors import UserError
from zoo.hub.names import parse_hub_name
from zoo.hub.retries import DEFAULT_DEADLINE
from zoo.models.selection import TRUST_HELP
from zoo.ranges import POSITIVE

if TYPE_CHECKING:
    from zoo.hub.push import PushPlan

# SPDX identifiers of licences that let everybody publish the work again, also in another file format, under the same licence. Some want no
# commercial use, which this is not; those without derivatives (ND) do not allow another format.
REDISTRIBUTABLE = (
    "AFL-3.0",
    "AGPL-3.0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-NC-3.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-SA-3.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "GPL-2.0",
    "GPL-3.0",
    "ISC",
    "LGPL-2.1",
    "LGPL-3.0",
    "MIT",
    "MPL-2.0",
    "Unlicense",
)
# What SPDX puts behind the GNU licences' names.
_GNU_ENDS = ("-only", "-or-later")


def mirror(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of the catalogue (`zoo list`).")],
    organisation: Annotated[str, typer.Argument(metavar="ORG", help="Your account or organisation on the Hub; it becomes ORG/NAME there.")],
    private: Annotated[bool, typer.Option("--private", help=PRIVATE_HELP)] = False,
    message: Annotated[str | None, typer.Option("--message", metavar="TEXT", help=MESSAGE_HELP)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)] = False,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help=TRUST_HELP)] = False,
    deadline: Annotated[float, POSITIVE, typer.Option("--deadline", metavar="SECONDS", help=DEADLINE_HELP)] = DEFAULT_DEADLINE,
) -> None:
    """Put a published backbone on the Hub: download it from its authors, import it, push it with its card.

    Refused before anything is downloaded where no licence is stated, or one that does not let others publish the weights again. The
    catalogue says what the licence was stated for, often the authors' code alone: whether it covers the weights is for you to judge.

    Examples:

    * `zoo mirror resnet50.hcsc_200ep my-lab --dry-run`

    * `zoo mirror resnet50.hcsc_200ep my-lab`
    """
    entry = find_entry(name)
    repository = parse_hub_name(f"{organisation}/{entry.name}").repository
    check_may_mirror(entry)
    from zoo.hub.pull import pull
    from zoo.hub.push import check_can_push, plan_push
    from zoo.hub.retries import Deadline

    limit = Deadline(deadline)
    check_can_push()
    note = f" ({entry.licence_note})" if entry.licence_note else ""
    typer.echo(f"{entry.name} is under {entry.licence}{note}", err=True)

    def plan() -> PushPlan:
        pulled = pull(entry.name, deadline=limit.left, progress=show_progress(), trust_pickle=trust_pickle)
        for sentence in pulled.notes:
            typer.echo(f"note: {sentence}", err=True)
        return plan_push(pulled.folder, repository, private=private, deadline=limit.left)

    publish(plan, message, dry_run=dry_run)


def check_may_mirror(entry: CatalogueEntry) -> None:
    """Raise UserError, with the reason, where the weights of an entry may not be published by others, or need not be."""
    if entry.home is not None and entry.home.repository is not None:
        raise UserError(f"'{entry.name}' lies on the Hub already: {entry.home.repository}")
    note = f" ({entry.licence_note})" if entry.licence_note else ""
    if entry.licence is None:
        raise UserError(
            f"'{entry.name}' is not mirrored: nobody states a licence of it{note}, and without one only its authors may publish it; "
            "ask them"
        )
    known = entry.licence
    for end in _GNU_ENDS:
        known = known.removesuffix(end)
    if known.lower() not in (licence.lower() for licence in REDISTRIBUTABLE):
        raise UserError(
            f"'{entry.name}' is not mirrored: its licence {entry.licence}{note} is not one that is known to let others publish it in "
            "another file format; ask its authors"
        )
