"""``zoo list`` and ``zoo info`` as functions. Free of torch."""

from __future__ import annotations

from pathlib import Path

from zoo.catalogue import CatalogueEntry, find_entry, load_catalogue
from zoo.catalogue.files import matching
from zoo.errors import UserError
from zoo.model_folder.manifest import Manifest, is_zoo_model, read_manifest


def list(pattern: str | None = None) -> tuple[CatalogueEntry, ...]:
    """The models of the catalogue whose name holds ``pattern`` or fits it (``"*hcsc*"``); all of them by default.

    Raises UserError where a catalogue file of the user's cannot be read.
    """
    return tuple(matching(load_catalogue(), pattern))


def info(model: str | Path) -> CatalogueEntry | Manifest:
    """What a model is: of a zoo model folder what its ``zoo.json`` says, of a name of the catalogue its entry.

    Raises UserError for another folder, an unknown name, or a ``zoo.json`` that cannot be read.
    """
    folder = Path(model).expanduser()
    if is_zoo_model(folder):
        return read_manifest(folder)
    if folder.exists():
        raise UserError(f"'{folder}' is no zoo model: it has no zoo.json; of a run `zoo export` makes one")
    return find_entry(str(model))
