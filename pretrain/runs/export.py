"""``zoo export``: make a zoo model folder of a run.

The command is registered with ``zoo`` by the entry-point group ``zoo.commands``; what needs torch is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any

import typer

from zoo.data.spec import without_place
from zoo.errors import UserError
from zoo.files import check_new_folder
from zoo.model_folder.claims import read_claims
from zoo.model_folder.licences import LICENCE_HELP, LICENCE_LINK_HELP, check_stated
from zoo.model_folder.manifest import MANIFEST_FILE, Manifest
from zoo.models.runs import DEFAULT_ENCODER, is_run, latest_checkpoint, read_environment


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder, as `pretrain --out` made it.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The zoo model folder to write.")],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder", metavar="query|key", help="The trained encoder (query) or, where the method has one, its moving average (key)."
        ),
    ] = DEFAULT_ENCODER,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="One checkpoint of the run; without it, the newest.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the model; without it ARCH.METHOD_EPOCHSep, as timm names models.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", "--license", metavar="ID", help=LICENCE_HELP)] = None,
    licence_link: Annotated[str | None, typer.Option("--licence-link", "--license-link", metavar="URL", help=LICENCE_LINK_HELP)] = None,
    result: Annotated[
        list[Path] | None, typer.Option("--result", metavar="FILE", help="A result of these weights for the card; may be given again.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the zoo model folder at --out.")] = False,
) -> None:
    """Make a zoo model of a run: the backbone alone, which the zoo and timm load, with a model card.

    The folder is written, loaded again both ways and compared bit for bit before it gets its name.

    Examples:

    * `zoo export runs/moco --out models/resnet18.moco`

    * `zoo export runs/moco --out models/resnet18.moco --result knn.json --licence MIT`
    """
    _check_run(run)
    check_new_folder(out, overwrite=overwrite, marker=MANIFEST_FILE)
    folder = export_run(
        run,
        out,
        encoder=encoder,
        checkpoint=checkpoint,
        name=name,
        licence=licence,
        licence_link=licence_link,
        results=result or (),
        overwrite=overwrite,
    )
    typer.echo(f"{folder}: a zoo model; `zoo info {folder}` shows it")


def _check_run(run: Path) -> None:
    if not is_run(run):
        raise UserError(f"'{run}' is not a run folder (it needs recipe.yaml and checkpoints/)")


def export_run(
    run: str | Path,
    out: str | Path,
    *,
    encoder: str = DEFAULT_ENCODER,
    checkpoint: str | Path | None = None,
    name: str | None = None,
    licence: str | None = None,
    licence_link: str | None = None,
    results: Sequence[str | Path] = (),
    curve: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write the zoo model folder ``out`` of one encoder of a run.

    Parameters
    ----------
    run
        A run folder.
    encoder
        Which encoder of the method; ``"query"`` is the trained one.
    checkpoint
        A checkpoint file of this run; None: the newest.
    name
        None: ``ARCH.METHOD_EPOCHSep``.
    licence
        Of the weights, an SPDX identifier or one of the Hub's.
    licence_link
        Where the text of a licence stands that neither of them knows.
    results
        Result files that were measured with these very weights.
    curve
        Draw the training's curve for the card, with matplotlib.
    overwrite
        Replace the zoo model folder at ``out``.

    Returns
    -------
    ``out``. The features of the model equal those of the run bit for bit (:func:`zoo.model_folder.folder.write_zoo_model` checks it).

    Raises
    ------
    UserError
        ``run`` is no run or its checkpoint is damaged; a result is of other weights; ``out`` exists or cannot be written.
    """
    from zoo.model_folder.folder import write_zoo_model
    from zoo.model_spec import open_model

    run = Path(run)
    _check_run(run)
    if checkpoint is not None and Path(checkpoint).resolve().parent.parent != run.resolve():
        raise UserError(f"the checkpoint {checkpoint} does not belong to the run {run}")
    check_stated(licence, licence_link)
    check_new_folder(out, overwrite=overwrite, marker=MANIFEST_FILE)
    # A model to keep is of the newest checkpoint, or of the one that was asked for: not of the one before a damaged one.
    model = open_model(str(checkpoint or latest_checkpoint(run)), weights_encoder=encoder)
    recipe = model.metadata["recipe"]
    method = _method_name(recipe)
    epochs = int(model.metadata["epoch"])
    environment = read_environment(run)
    if model.input_size is None or model.mean is None or model.std is None or model.interpolation is None or model.crop_pct is None:
        raise UserError(f"the run '{run}' does not record how its images were prepared (image_size, mean, std)")
    manifest = Manifest(
        name=name or f"{model.arch}.{method}_{epochs}ep",
        arch=model.arch,
        method=method,
        image_size=model.input_size,
        normalisation={"mean": list(model.mean), "std": list(model.std)},
        interpolation=model.interpolation,
        crop_pct=model.crop_pct,
        encoder=encoder,
        epochs=epochs,
        steps=int(model.metadata["step"]),
        data=without_place(str(model.metadata["data"])),
        recipe=_without_places(recipe),
        source={
            "run": run.resolve().name,
            "checkpoint": model.metadata["checkpoint"],
            # Not the whole file: it may name the machine and its folders, which nobody means to publish.
            **{key: environment[key] for key in ("commit", "versions") if key in environment},
        },
        licence=licence,
        licence_link=licence_link,
        results=read_claims(results),
    )
    picture = None
    if curve:
        from pretrain.runs.curve import draw_curve

        picture = draw_curve(run, steps=int(model.metadata["step"]), title=manifest.name)
    return write_zoo_model(out, model.module, manifest, curve=picture, overwrite=overwrite)


def _method_name(recipe: dict[str, Any]) -> str:
    method = recipe.get("method")
    name = method.get("name") if isinstance(method, dict) else method
    if not isinstance(name, str):
        raise UserError("the recipe of the run names no method (method.name)")
    return name


def _without_places(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe without where its data and the model it started from lay."""
    recipe = dict(recipe)
    if isinstance(data := recipe.get("data"), str):
        recipe["data"] = without_place(data)
    if isinstance(start := recipe.get("init"), str) and ("/" in start or Path(start).exists()):
        recipe["init"] = PurePath(start).name
    return recipe
