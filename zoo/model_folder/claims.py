"""The results that a zoo model claims: each was measured with its very weights, and stands in its ``zoo.json`` and on its card."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from zoo.errors import UserError
from zoo.files import replace_text
from zoo.model_folder.card import make_card
from zoo.model_folder.eval_results import write_eval_files
from zoo.model_folder.integrity import check_weights
from zoo.model_folder.manifest import CARD_FILE, MANIFEST_FILE, Manifest, read_manifest
from zoo.results import Result, load_result


def read_claims(paths: Sequence[str | Path]) -> tuple[Result, ...]:
    """Result files as they may be published: without the paths of the machine they were measured on.

    Raises UserError for a file that is no result.
    """
    return tuple(publishable(load_result(path)) for path in paths)


def check_claims(results: Sequence[Result], manifest: Manifest) -> None:
    """Raise UserError where a result was measured with other weights than the model's; of a classifier, also than its backbone's."""
    for result in results:
        measured = result.model.tensors_sha256
        if measured not in (manifest.tensors_sha256, manifest.backbone_sha256):
            raise UserError(
                f"the {result.task} result of {result.date} is not of '{manifest.name}': it was measured with the weights of "
                f"'{result.model.name}' (tensors_sha256 {measured[:12]}, the model's is {manifest.tensors_sha256[:12]})"
            )


def add_results(folder: str | Path, results: Sequence[Result]) -> Manifest:
    """Add results to a zoo model folder: to its zoo.json, then to its card and the Hub's result files, each replaced as a whole.

    A result of the same task, protocol, data and seeds as an earlier one takes its place.

    Returns
    -------
    The new content of zoo.json.

    Raises
    ------
    UserError
        The folder is no zoo model or its weights were changed, or a result is of other weights; nothing is changed then.
    """
    folder = Path(folder)
    with _locked(folder):
        manifest = read_manifest(folder)
        check_weights(folder, manifest)
        check_claims(results, manifest)
        claims = {_question(result): result for result in [*manifest.results, *map(publishable, results)]}
        before, manifest = manifest, replace(manifest, results=tuple(claims.values()))
        replace_text(folder / MANIFEST_FILE, manifest.to_json())
        replace_text(folder / CARD_FILE, make_card(manifest))
        write_eval_files(folder, manifest, before)
    return manifest


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes of this kind out of the folder: of two evaluations that end together, neither result may be lost."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"'{folder}' cannot be opened ({error.strerror}); a zoo model is a folder") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def publishable(result: Result) -> Result:
    """A result without the paths of the machine it was measured on."""
    from zoo.data.spec import without_place  # only a new claim needs what the room of data imports

    return replace(result, model=replace(result.model, spec=None), data=replace(result.data, spec=without_place(result.data.spec)))


def _question(result: Result) -> str:
    """What the result answers: two results with the same text claim the same thing."""
    splits = {role: (split.split, split.images, split.fingerprint) for role, split in sorted(result.data.splits.items())}
    asked = [result.task, result.preset, result.protocol, result.data.name, result.data.level, splits, result.seeds]
    return json.dumps(asked, sort_keys=True)
