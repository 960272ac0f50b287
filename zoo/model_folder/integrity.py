"""Whether a weights file is the one that it should be."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import UserError
from zoo.hashing import file_sha256
from zoo.model_folder.manifest import MANIFEST_FILE, WEIGHTS_FILE, Manifest
from zoo.reading.file_head import appearance


def check_weights(folder: str | Path, manifest: Manifest, *, found: str | None = None) -> None:
    """Raise UserError where ``model.safetensors`` is missing or is not the file that ``zoo.json`` describes.

    ``found`` is the file's sha256 where it was taken from its bytes just now.
    """
    path = Path(folder) / WEIGHTS_FILE
    try:
        found = file_sha256(path) if found is None else found
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {WEIGHTS_FILE}, so it is not a whole zoo model folder") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    if found != manifest.file_sha256:
        raise UserError(
            f"{path} is not the file that {MANIFEST_FILE} describes ({appearance(path)}: sha256 {found[:12]}, not "
            f"{manifest.file_sha256[:12]}); get it again"
        )
