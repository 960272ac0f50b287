"""``zoo verify``: measure again what a model's card claims. What needs torch is imported when the command runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.catalogue import load_catalogue
from zoo.catalogue.files import matching
from zoo.console import when_memory_runs_out
from zoo.console.tables import Quiet
from zoo.data.spec import check_data_word
from zoo.errors import UserError, did_you_mean
from zoo.hub.names import HUB_SCHEME
from zoo.model_folder.agreement import disagreements
from zoo.model_folder.manifest import MANIFEST_FILE, read_manifest
from zoo.ranges import BATCH_SIZE, WORKERS
from zoo.words.models import check_model_word
from zoo.words.runtime import check_device_word

if TYPE_CHECKING:
    from evaluation.commands.verify import Verdict, Verification

EXIT_FAILED = 1


@when_memory_runs_out("lower --batch-size")
def verify(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A zoo model folder, a name of the catalogue, or hub:ORG/NAME[@REVISION]; with --catalogue a part of names, or a pattern.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", metavar="NAME[:ROOT]", help="Data that is at hand; may be given several times.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", metavar="TASK", help="Only claims of this task; may be given again.")] = None,
    catalogue: Annotated[bool, typer.Option("--catalogue", help="Go through the catalogue's rows whose data is at hand.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: every claim, every number, and what was measured now.")] = False,
    quiet: Quiet = False,
    device: Annotated[str, typer.Option("--device", help="auto (a GPU where there is one), cpu or cuda.")] = "auto",
    batch_size: Annotated[int | None, BATCH_SIZE, typer.Option("--batch-size", help="Images per forward pass of one process.")] = None,
    workers: Annotated[int | None, WORKERS, typer.Option("--workers", help="Processes that decode files; by default one per core.")] = None,
) -> None:
    """Measure again what a model's card claims, and say claim by claim whether it holds, and by how much.

    Each claim is measured by its own task, preset, options and seed, on data whose fingerprint is compared. Exit status 1: a claim does not
    hold or cannot be measured again; claims whose data is not at hand do not count.

    Examples:

    * `zoo verify models/moco --data cifar10:data`

    * `zoo verify hub:my-lab/resnet50.moco_200ep --data imagenet:/data --task knn`

    * `zoo verify --catalogue hcsc --data imagenet:/data`: whatever the catalogue says of these models
    """
    if model is None and not catalogue:
        raise UserError("say which model to verify, or --catalogue for those of the catalogue")
    _check_words(model, catalogue, data or [], task or [], device)
    # From here on it takes torch, and seconds.
    from evaluation.commands.verify import Verification, summarise
    from evaluation.extraction.cache import FeatureCache
    from evaluation.parallel import choose_device, start_processes, stop_processes
    from evaluation.tasks.runtime import Runtime, device_name

    place = choose_device(device)
    processes = start_processes(place)
    try:
        settings: dict[str, Any] = {"batch_size": batch_size, "workers": workers}
        runtime = Runtime(
            device=place,
            processes=processes,
            progress=not quiet,
            # Features are computed anew, once for all claims of one model; none are taken from the disk.
            cache=FeatureCache(None, processes=processes),
            **{name: value for name, value in settings.items() if value is not None},
        )
        if processes.is_main and not quiet:
            typer.echo(f"verifying on {device_name(place)}", err=True)
        verification = Verification(data or [], runtime, task)
        models: dict[str, list[Verdict]] = {}
        for name, verdict in _verdicts(model, catalogue, verification):
            models.setdefault(name, []).append(verdict)
            if processes.is_main and not as_json:
                typer.echo(f"{name}: {verdict}" if catalogue else str(verdict))
        verdicts = [verdict for of_model in models.values() for verdict in of_model]
        if processes.is_main:
            if as_json:
                typer.echo(json.dumps({name: [verdict.to_dict() for verdict in of_model] for name, of_model in models.items()}, indent=2))
            if not quiet:
                typer.echo(summarise(verdicts), err=as_json)
        _check_any(verdicts)
    finally:
        stop_processes()
    if any(verdict.failed for verdict in verdicts):
        raise typer.Exit(EXIT_FAILED)


def _verdicts(model: str | None, catalogue: bool, verification: Verification) -> Iterator[tuple[str, Verdict]]:
    if not catalogue:
        assert model is not None
        yield from ((model, verdict) for verdict in _of_model(model, verification))
        return
    entries = matching(load_catalogue(), model)
    if not entries:
        raise UserError(f"the catalogue has no model like '{model}'; `zoo list` shows them all")
    for entry in entries:
        if entry.home is not None:
            yield from ((entry.name, verdict) for verdict in verification.catalogue(entry))


def _check_words(model: str | None, catalogue: bool, data: list[str], tasks: list[str], device: str) -> None:
    """Raise UserError for a word that means nothing, before torch is imported."""
    for spec in data:
        check_data_word(spec)
    check_device_word(device)
    if tasks:
        from evaluation.commands.verify import known_tasks

        known = known_tasks()
        for word in tasks:
            if word not in known:
                raise UserError(f"unknown task '{word}'{did_you_mean(word, known)}; known: {', '.join(known)}")
    if model is None or catalogue:
        return
    if model.startswith(f"{HUB_SCHEME}:"):
        check_model_word(model)
    elif not Path(model).exists() and model not in load_catalogue():
        raise UserError(f"there is no zoo model '{model}': it is a folder with a {MANIFEST_FILE}, a name of the catalogue or hub:ORG/NAME")


def _of_model(model: str, verification: Verification) -> Iterator[Verdict]:
    from zoo.hub.pull import folder_of

    hub = model.startswith(f"{HUB_SCHEME}:")
    folder = folder_of(model.removeprefix(f"{HUB_SCHEME}:")) if hub or not Path(model).exists() else Path(model)
    manifest = read_manifest(folder)
    results = manifest.results
    wanted = [result for result in results if verification.wanted(result.task)]
    entry = load_catalogue().get(model) if not Path(model).exists() else None
    if not wanted and entry is None:
        what = "nothing" if not results else f"nothing of the task asked for, but of: {', '.join(sorted({one.task for one in results}))}"
        raise UserError(f"'{model}' claims {what}; `evaluate --out` and `zoo add-result` put a result on its card")
    from evaluation.commands.verify import Verdict

    yield from (Verdict(f"the numbers of {folder.name}", "card disagrees", problem) for problem in disagreements(folder, manifest))
    yield from verification.claims(str(folder), wanted)
    if entry is not None:
        yield from verification.catalogue(entry)


def _check_any(verdicts: list[Verdict]) -> None:
    """Raise UserError where nothing was verified: that must not pass for success."""
    from evaluation.commands.verify import UNTRIED

    if not verdicts:
        raise UserError("no claim fits what was asked for")
    if all(verdict.status in UNTRIED for verdict in verdicts):
        ways = sorted({verdict.reason for verdict in verdicts if verdict.status == "no data"})
        if not ways:
            raise UserError("nothing was verified, for all claims are of an older procedure; the lines above say how each is measured anew")
        raise UserError(f"nothing was verified, for the claims' data is not at hand: {'; '.join(ways)}")
