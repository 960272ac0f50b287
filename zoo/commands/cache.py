"""``zoo cache``: what is kept on the disk, and removing it. Imports no torch."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.console import EXIT_USER_ERROR
from zoo.console.tables import Quiet, table
from zoo.errors import UserError, did_you_mean
from zoo.ranges import Range

if TYPE_CHECKING:
    from zoo.cache.kept import Item, Kind

# Named here, so that the help needs none of what looks at the disk.
_KINDS = "`downloads`, `models`, `hub`, `features`, `looks` or `interrupted`; may be given several times."


def cache(
    kind: Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help=f"Only these, one by one: {_KINDS}")] = None,
    older_than: Annotated[
        float | None,
        Range(0),
        typer.Option("--older-than", metavar="DAYS", help="Only what was written (features: used) last before so many days."),
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Show what would be removed; with --yes, remove it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --prune: remove it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, with sizes in bytes.")] = False,
    quiet: Quiet = False,
) -> None:
    """Show what is kept on the disk: downloads, models, features, findings of `zoo data`, interrupted downloads; and remove it.

    Everything here can be had again: by another download or another computation. What another process is at stays. Of the Hub client's
    cache only models that were pulled by `zoo` count, and all interrupted downloads, which that client never goes on with.

    Examples:

    * `zoo cache`: sizes, by kind

    * `zoo cache --kind features`: one by one

    * `zoo cache --prune --kind interrupted --yes`

    * `zoo cache --prune --kind features --kind downloads --older-than 30`: what that would remove
    """
    if yes and not prune:
        raise UserError("--yes is for --prune")
    from zoo.cache.kept import KIND_NAMES, items, kinds, remove, size_text

    for word in kind or ():
        if word not in KIND_NAMES:
            raise UserError(f"there is no kind '{word}': {', '.join(KIND_NAMES)}{did_you_mean(word, KIND_NAMES)}")
    now = time.time()
    chosen = [item for item in items(now) if (not kind or item.kind in kind) and (older_than is None or item.age(now) >= older_than)]
    if prune and yes:
        freed, stay = remove(chosen)
        for sentence in stay:
            typer.echo(sentence, err=True)
        typer.echo(f"{len(chosen) - len(stay)} removed, {size_text(freed)} freed")
        if stay:
            raise typer.Exit(EXIT_USER_ERROR)
        return
    known = kinds()
    if as_json:
        typer.echo(json.dumps([_facts(item, known[item.kind]) for item in chosen], indent=2))
    elif prune or kind:
        if chosen:
            heading = ("kind", "size", "age", "name")
            rows = [(item.kind, size_text(item.bytes), f"{item.age(now):.0f} days", item.name) for item in chosen]
            typer.echo(table(heading, rows, quiet=quiet))
        if not quiet:
            typer.echo(f"{len(chosen)} in all, {size_text(sum(item.bytes for item in chosen))}", err=prune)
    else:
        sums = []
        for one in known.values():
            own = [item for item in chosen if item.kind == one.name]
            sums.append((one.name, str(len(own)), size_text(sum(item.bytes for item in own)), one.about, str(one.place)))
        typer.echo(table(("kind", "count", "size", "what", "where"), sums, quiet=quiet))
    if prune and not quiet:
        typer.echo("nothing was removed; --yes removes it", err=True)


def _facts(item: Item, kind: Kind) -> dict[str, object]:
    written = datetime.fromtimestamp(item.time, UTC).isoformat(timespec="seconds")
    return {
        "kind": item.kind,
        "name": item.name,
        "bytes": item.bytes,
        "written": written,
        "paths": [str(path) for path in item.paths] or [str(kind.place)],
    }
