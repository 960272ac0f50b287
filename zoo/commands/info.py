"""``zoo info``: what a zoo model, a run or a model of the catalogue is. Free of torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.commands.catalogue import show_entry
from zoo.console.tables import Quiet, facts, table
from zoo.errors import UserError, printable, some_of
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import Manifest, is_zoo_model, read_manifest
from zoo.models.runs import checkpoint_step, checkpoints, is_run, read_recipe
from zoo.words.complete import catalogue_words
from zoo.words.models import as_folder

_MODEL = "A zoo model folder, a run folder, or a name of the catalogue."
_CHECK = "Compare the weights' sha256, and every number on the card, with zoo.json; exit status 2 where one differs."


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL, autocompletion=catalogue_words)],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: the content of zoo.json, or what is known of the run or of the entry.")
    ] = False,
    quiet: Quiet = False,
    check: Annotated[bool, typer.Option("--check", help=_CHECK)] = False,
) -> None:
    """Show what a zoo model or a run is, or a model of the catalogue.

    Examples:

    * `zoo info models/moco`

    * `zoo info resnet50.hcsc_200ep`

    * `zoo info models/moco --json | jq .results`
    """
    folder = as_folder(Path(model))
    if is_zoo_model(folder):
        manifest = read_manifest(folder)
        if check:
            from zoo.model_folder.agreement import check_agreement

            check_weights(folder, manifest)
            check_agreement(folder, manifest)
        typer.echo(manifest.to_json() if as_json else _describe_model(folder, manifest, checked=check, quiet=quiet), nl=not as_json)
    elif is_run(folder):
        known = _run_facts(folder)
        typer.echo(json.dumps(known, indent=2, default=str) if as_json else _describe_run(folder, known, quiet=quiet))
    elif folder.exists():
        raise UserError(f"'{folder}' is neither a zoo model (it has no zoo.json) nor a run (it has no recipe.yaml and checkpoints/)")
    elif _looks_like_path(model):
        raise UserError(
            f"there is no folder '{folder}'" + ("" if "/" in model else f", nor a model of that name (`zoo list {model}` looks for one)")
        )
    else:
        show_entry(model, as_json=as_json)


def _looks_like_path(text: str) -> bool:
    """Whether a word that names nothing that is there was meant as a path: names of the catalogue are ARCHITECTURE.TAG."""
    return "/" in text or "\\" in text or text.startswith(("~", ".")) or "." not in text


def _describe_model(folder: Path, manifest: Manifest, *, checked: bool, quiet: bool) -> str:
    from zoo.model_folder.card import RESULT_COLUMNS, result_row

    trained = [f"epochs {manifest.epochs}" if manifest.epochs else "", f"steps {manifest.steps}" if manifest.steps else ""]
    lines = {
        "zoo model": manifest.name + (", a classifier" if manifest.classes else ""),
        "folder": str(folder),
        "architecture": f"{manifest.arch} ({manifest.parameters:,} parameters, {manifest.num_features} features)"
        + ("" if manifest.timm_native else "; timm needs `import zoo.backbones` first"),
        **({"classes": f"{len(manifest.classes):,}: {printable(some_of(manifest.classes, 8))}"} if manifest.classes else {}),
        "method": " ".join(filter(None, [manifest.method, f"({manifest.encoder} encoder)" if manifest.encoder else ""])) or "not stated",
        "trained": ", ".join(filter(None, trained)) or "not stated",
        "data": f"{manifest.data or 'not stated'}, images of {manifest.image_size} px",
        "licence": manifest.licence or "not stated",
        "created": manifest.created,
        "file sha256": manifest.file_sha256 + (" (checked)" if checked else ""),
        "tensors sha256": manifest.tensors_sha256,
    }
    text = facts(lines.items())
    if not manifest.results and quiet:
        return text
    if not manifest.results:
        return text + "\n\nno results yet: `evaluate --task knn --model DIR --out RESULT.json`, then `zoo add-result DIR RESULT.json`"
    return f"{text}\n\n{table(RESULT_COLUMNS, map(result_row, manifest.results), quiet=quiet)}"


def _run_facts(folder: Path) -> dict[str, Any]:
    saved = checkpoints(folder)
    return {
        "kind": "run",
        "checkpoints": [path.name for path in saved],
        "step": checkpoint_step(saved[-1]) if saved else None,
        "recipe": read_recipe(folder),
    }


def _describe_run(folder: Path, known: dict[str, Any], *, quiet: bool) -> str:
    recipe = known["recipe"]
    method, views = recipe.get("method"), recipe.get("views")
    size = views.get("size") if isinstance(views, dict) else recipe.get("image_size")
    lines = {
        "run": str(folder),
        "architecture": str(recipe["backbone"]),
        "method": str(method.get("name") if isinstance(method, dict) else method),
        "data": f"{recipe.get('data')}, images of {size or '?'} px",
        "checkpoints": f"{len(known['checkpoints'])}, the newest at step {known['step']}" if known["checkpoints"] else "none yet",
    }
    hint = f"\n\na run is not a zoo model yet; make one with: zoo export {folder} --out DIR"
    return facts(lines.items()) + ("" if quiet else hint)
