"""The ``zoo`` command. Other rooms add subcommands by the entry-point group ``zoo.commands``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from zoo.commands import hub as hub_commands
from zoo.commands.catalogue import list_models, show_entry
from zoo.commands.data import data as look_at_data
from zoo.commands.import_checkpoint import import_model
from zoo.console import make_app, run, version_option
from zoo.errors import UserError, first_line
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import Manifest, is_zoo_model, read_manifest
from zoo.models.runs import checkpoint_step, checkpoints, is_run, read_recipe

COMMAND_GROUP = "zoo.commands"


class CommandGroup(TyperGroup):
    """The subcommands of this module, and those that installed packages register in the group ``zoo.commands``.

    An entry point names a function with typer's annotations, or a typer application. It is imported when its help or the command itself
    is asked for; one that cannot be imported is shown as unavailable, with the reason, and the others go on working.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return own + sorted(name for name in _registered() if name not in own)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in _registered():
            return own
        return _registered_command(_registered()[cmd_name])


@cache
def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=COMMAND_GROUP)}


def _registered_command(entry: EntryPoint) -> Any:
    """The command behind an entry point, in whichever click typer was built on."""
    settings: dict[str, Any] = {"context_settings": {"help_option_names": ["-h", "--help"]}}
    try:
        target = entry.load()
    except Exception as error:  # whatever the importing of somebody else's module may raise
        target, settings = _unavailable(entry, error)
    app = target
    if not isinstance(target, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        app.command(entry.name, **settings)(target)
    command = typer.main.get_command(app)
    command.name = entry.name
    return command


def _unavailable(entry: EntryPoint, error: Exception) -> tuple[Callable[[], None], dict[str, Any]]:
    reason = f"{type(error).__name__}: {first_line(error)}"

    def refuse() -> None:
        raise UserError(f"`zoo {entry.name}` is unavailable: {entry.value} cannot be imported ({reason})")

    # Its arguments are unknown, so any are let through to the sentence above.
    return refuse, {
        "help": f"(unavailable: {reason})",
        "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    }


app = make_app(
    "Zoo models: find them, look at them, make them of runs and of checkpoints of others, add results to their cards.\n\n"
    "Examples:\n\n"
    "* `zoo list hcsc`: published backbones, with what is claimed of them\n"
    "* `zoo import hcsc_200eps.pth --out models/hcsc`: make a zoo model of a checkpoint\n"
    "* `zoo export runs/moco --out models/moco`: make a zoo model of a run\n"
    "* `zoo info models/moco`: what it is, and what was measured\n"
    "* `zoo add-result models/moco knn.json`: add a result to its card\n"
    "* `zoo push models/moco my-lab/resnet18.moco_200ep`: publish it\n"
    "* `zoo pull my-lab/resnet18.moco_200ep`: get it, checked",
    cls=CommandGroup,
    no_args_is_help=True,
)


@app.callback()
def _zoo(version: bool = version_option("zoo")) -> None: ...


@app.command()
def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A zoo model folder, a run folder, or a name of the catalogue.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: the content of zoo.json, or what is known of the run or of the entry.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare the weights' sha256 with zoo.json; exit status 2 if it differs.")] = False,
) -> None:
    """Show what a zoo model or a run is, or a model of the catalogue.

    Examples:

    * `zoo info models/moco`

    * `zoo info resnet50.hcsc_200ep`

    * `zoo info models/moco --json | jq .results`
    """
    folder = Path(model)
    if is_zoo_model(folder):
        manifest = read_manifest(folder)
        if check:
            check_weights(folder, manifest)
        typer.echo(manifest.to_json() if as_json else _describe_model(folder, manifest, checked=check), nl=not as_json)
    elif is_run(folder):
        known = _run_facts(folder)
        typer.echo(json.dumps(known, indent=2, default=str) if as_json else _describe_run(folder, known))
    elif folder.exists():
        raise UserError(f"'{folder}' is neither a zoo model (it has no zoo.json) nor a run (it has no recipe.yaml and checkpoints/)")
    elif _looks_like_path(model):
        raise UserError(
            f"there is no folder '{folder}'" + ("" if "/" in model else f", nor a model of that name (`zoo list {model}` looks for one)")
        )
    else:
        show_entry(model, as_json=as_json)


app.command("list")(list_models)
app.command("import")(import_model)
app.command("data")(look_at_data)


@app.command("add-result")
def add_result_command(
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


def _looks_like_path(text: str) -> bool:
    """Whether a word that names nothing that is there was meant as a path: names of the catalogue are ARCHITECTURE.TAG."""
    return "/" in text or "\\" in text or text.startswith(("~", ".")) or "." not in text


for _command in (hub_commands.pull, hub_commands.push, hub_commands.card):
    app.command()(_command)


def _describe_model(folder: Path, manifest: Manifest, *, checked: bool) -> str:
    from zoo.model_folder.card import RESULT_COLUMNS, result_row

    trained = [f"epochs {manifest.epochs}" if manifest.epochs else "", f"steps {manifest.steps}" if manifest.steps else ""]
    lines = {
        "zoo model": manifest.name,
        "folder": str(folder),
        "architecture": f"{manifest.arch} ({manifest.parameters:,} parameters, {manifest.num_features} features)"
        + ("" if manifest.timm_native else "; timm needs `import zoo.backbones` first"),
        "method": " ".join(filter(None, [manifest.method, f"({manifest.encoder} encoder)" if manifest.encoder else ""])) or "not stated",
        "trained": ", ".join(filter(None, trained)) or "not stated",
        "data": f"{manifest.data or 'not stated'}, images of {manifest.image_size} px",
        "licence": manifest.licence or "not stated",
        "created": manifest.created,
        "file sha256": manifest.file_sha256 + (" (checked)" if checked else ""),
        "tensors sha256": manifest.tensors_sha256,
    }
    text = _table(lines)
    if not manifest.results:
        return text + "\n\nno results yet: `evaluate --task knn --model DIR --out RESULT.json`, then `zoo add-result DIR RESULT.json`"
    rows = [RESULT_COLUMNS, *map(result_row, manifest.results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return (
        text + "\n\n" + "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    )


def _run_facts(folder: Path) -> dict[str, Any]:
    saved = checkpoints(folder)
    return {
        "kind": "run",
        "checkpoints": [path.name for path in saved],
        "step": checkpoint_step(saved[-1]) if saved else None,
        "recipe": read_recipe(folder),
    }


def _describe_run(folder: Path, known: dict[str, Any]) -> str:
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
    hint = f"a run is not a zoo model yet; make one with: zoo export {folder} --out DIR"
    return _table(lines) + "\n\n" + hint


def _table(lines: dict[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def main() -> None:
    """Entry point of the ``zoo`` command."""
    run(app)
