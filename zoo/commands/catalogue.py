"""``zoo list``, and what ``zoo info`` says of a model of the catalogue. Free of torch."""

from __future__ import annotations

import json
import textwrap
from typing import Annotated

import typer

from zoo.catalogue import CatalogueEntry, find_entry, load_catalogue
from zoo.catalogue.files import matching
from zoo.console.tables import Quiet, table, terminal_width
from zoo.errors import UserError

_COLUMNS = ("Name", "Method", "Epochs", "Crops", "Linear", "kNN", "Licence", "Weights")
_UNKNOWN = "-"
_WIDTH = 100


def list_models(
    pattern: Annotated[
        str | None, typer.Argument(metavar="[PATTERN]", help="A part of the name, or a shell pattern such as `*.hcsc_*`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: every entry, whole; what is unknown is null.")] = False,
    quiet: Quiet = False,
) -> None:
    """List the published backbones that the catalogue knows, and your own.

    Accuracies are ImageNet top-1 as their sources print them; `zoo info NAME` names each source. A dash: unknown, or not printed.

    Examples:

    * `zoo list`

    * `zoo list hcsc`

    * `zoo list "*swav*800ep*" --json`
    """
    entries = matching(load_catalogue(), pattern)
    if as_json:
        typer.echo(json.dumps([entry.to_dict() for entry in entries], indent=2, ensure_ascii=False))
        return
    if not entries:
        raise UserError(f"the catalogue has no model like '{pattern}'; `zoo list` shows them all")
    typer.echo(table(_COLUMNS, map(_row, entries), quiet=quiet))


def _row(entry: CatalogueEntry) -> tuple[str, ...]:
    if entry.home is None:
        weights = "on request" if entry.ask else "not published"
    else:
        weights = entry.home.repository or ("authors' URL" if entry.reader else "authors' URL, no reader")
    return (
        entry.name,
        entry.method,
        _UNKNOWN if entry.epochs is None else str(entry.epochs),
        entry.crops or _UNKNOWN,
        _top1(entry, "linear"),
        _top1(entry, "knn"),
        entry.licence or _UNKNOWN,
        weights,
    )


def _top1(entry: CatalogueEntry, task: str) -> str:
    values = [result.value for result in entry.published if (result.task, result.metric, result.data) == (task, "top1", "imagenet")]
    return str(values[0]) if values else _UNKNOWN


def show_entry(name: str, *, as_json: bool) -> None:
    """Print what the catalogue knows of ``name``. Raises UserError, with the nearest names, where it does not know it."""
    entry = find_entry(name)
    typer.echo(json.dumps(entry.to_dict(), indent=2, ensure_ascii=False) if as_json else describe_entry(entry))


def describe_entry(entry: CatalogueEntry) -> str:
    """What is known of an entry, for a person to read."""
    facts = {
        "catalogue": entry.origin,
        "architecture": entry.arch + (f" ({entry.parameters:,} parameters without head)" if entry.parameters else ""),
        "method": entry.method + (f" ({entry.encoder} network)" if entry.encoder else ""),
        "trained": ", ".join(
            (
                f"{entry.epochs} epochs" if entry.epochs else "epochs unknown",
                f"batch {entry.batch}" if entry.batch else "batch unknown",
                f"crops {entry.crops}" if entry.crops else "crops unknown",
                f"on {entry.data}" if entry.data else "data unknown",
            )
        ),
        "licence": (entry.licence or "not stated") + (f" ({entry.licence_note})" if entry.licence_note else ""),
        "weights": _home(entry),
        "sha256": entry.sha256 or _known_digits(entry) or "unknown",
        "format": "no reader of ours fits"
        if entry.reader is None
        else f"{entry.reader} ({'read from the real file' if entry.confirmed else 'not yet tried on the real file'})",
        "recipe": f"pretrain {entry.recipe}" if entry.recipe else "none of this toolkit",
        "citation": entry.citation or "unknown",
    }
    if entry.ask:
        facts["weights"] = f"given to those who ask and accept the terms: {entry.ask}"
    if entry.note:
        facts["note"] = entry.note
    width = max(map(len, facts))
    # At least as much beside the names as they take.
    wide = max(min(_WIDTH, terminal_width() or _WIDTH), 2 * width)
    lines = [entry.name, ""]
    for key, value in facts.items():
        lines += textwrap.wrap(
            value,
            wide,
            initial_indent=f"{key:<{width}}  ",
            subsequent_indent=" " * (width + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
    lines += ["", *_published(entry), *_own(entry)]
    return "\n".join(lines)


def _home(entry: CatalogueEntry) -> str:
    home = entry.home
    if home is None:
        made = f"; `pretrain {entry.recipe}` would make such a model" if entry.recipe else ""
        return f"published nowhere, as far as we know{made}"
    if home.repository:
        return home.repository + (f" at {home.revision}" if home.revision else "")
    return str(home.url)


def _known_digits(entry: CatalogueEntry) -> str | None:
    home = entry.home
    if home is not None and home.sha256_prefix:
        return f"begins with {home.sha256_prefix}, as its authors print"
    if home is not None and home.md5_prefix:
        return f"unknown; its md5 begins with {home.md5_prefix}, as its authors print"
    return None


def _published(entry: CatalogueEntry) -> list[str]:
    if not entry.published:
        return ["no published result was found"]
    lines = ["published, not measured by us:"]
    for result in entry.published:
        note = f", {result.note}" if result.note else ""
        lines.append(f"  {result.task} on {result.data}{note}: {result.metric} {result.value}  [{result.source}]")
    return lines


def _own(entry: CatalogueEntry) -> list[str]:
    if not entry.own:
        return ["measured with this toolkit: nothing yet"]
    lines = ["measured with this toolkit:"]
    for result in entry.own:
        value = f"{result.headline.metric} {result.headline.value:.2f}"
        lines.append(f"  {result.task} on {result.data.name}, {result.preset}: {value}  [{result.date[:10]}]")
    return lines
