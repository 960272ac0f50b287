"""Making a run folder, and writing down what a run was made with."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.data import BadImage, Data, FileImages, Images, without_bad_images
from zoo.data.identity import Identity, difference, identify
from zoo.data.inspection.scan import scan_images
from zoo.errors import UserError, printable
from zoo.files import PARTIAL_SUFFIX, check_can_write, replace_text
from zoo.models.run_lock import LOCK_FILE
from zoo.models.runs import CHECKPOINT_FOLDER, ENVIRONMENT_FILE, RECIPE_FILE, is_run
from zoo.results.provenance import software_versions, toolkit_commit

if TYPE_CHECKING:  # whether a folder may be written is asked before torch is loaded
    from pretrain.settings import Recipe

BAD_IMAGES_FILE = "bad_images.txt"
# The identity of the training images, and the checkpoint's key of its hash.
IDENTITY_FILE = "images.npz"
IDENTITY_KEY = "data_identity"
# The checkpoint's key of the recipe that it was made by.
RECIPE_KEY = "recipe"


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raise UserError where ``out`` may not become a run folder: it exists, and is no run that ``--overwrite`` may replace."""
    check_can_write(out, folder=True)
    if not out.exists():
        return
    ours = is_run(out) or is_half_made(out)
    if not overwrite:
        advice = f"go on with `pretrain --resume {out}`, or give --overwrite to start again" if is_run(out) else "choose another --out"
        advice = "it was killed while it was made: give --overwrite, or --continue" if is_half_made(out) else advice
        raise UserError(f"{out} exists already; {advice}")
    if not out.is_dir() or (any(out.iterdir()) and not ours):
        raise UserError(f"{out} is not a run folder, so --overwrite does not remove it; choose another --out")


def is_half_made(out: Path) -> bool:
    """Whether ``out`` is what a process left that was killed while it made a run folder: no recipe yet, no checkpoint, nothing else."""
    if not out.is_dir() or out.is_symlink() or is_run(out):
        return False
    there = [path for path in out.iterdir() if not (path.name.startswith(".") and path.name.endswith(PARTIAL_SUFFIX))]
    first = {CHECKPOINT_FOLDER, ENVIRONMENT_FILE, IDENTITY_FILE, LOCK_FILE}
    nothing_saved = not (out / CHECKPOINT_FOLDER).is_dir() or not any((out / CHECKPOINT_FOLDER).iterdir())
    return bool(there) and {path.name for path in there} <= first and nothing_saved


def fill_run_folder(folder: Path, recipe_yaml: str) -> None:
    """The resolved recipe, the environment and a place for checkpoints, in a new folder."""
    (folder / CHECKPOINT_FOLDER).mkdir()
    replace_text(folder / ENVIRONMENT_FILE, json.dumps(environment(), indent=2) + "\n")
    replace_text(folder / RECIPE_FILE, recipe_yaml)


def training_images(run: Path, recipe: Recipe, data: Data) -> Images:
    """The images that a run was trained on: not more than ``max_images`` of them, without those that it listed as bad."""
    images = data.role("pretrain")
    if recipe.max_images is not None:
        images = images.thinned(recipe.max_images)
    listed = run / BAD_IMAGES_FILE
    bad = set(listed.read_text(encoding="utf-8").splitlines()) if listed.exists() else set()
    # Asking each image for its name takes a while, and mostly there are no bad ones.
    found = [BadImage(row, images.where(row), "") for row in range(len(images)) if printable(images.where(row)) in bad] if bad else []
    return without_bad_images(images, found)


def check_identity(run: Path, checkpoint: Mapping[str, Any], images: Images, data: Data) -> None:
    """Raise UserError, naming what is different, unless ``images`` are those that a run began with; of an old run that is not known."""
    recorded = checkpoint.get(IDENTITY_KEY)
    if recorded is None:
        return
    path = run / IDENTITY_FILE
    if path.exists():
        then = Identity.load(path)
        if then.digest() != recorded:
            raise UserError(f"{path} is not the one that the run's checkpoint belongs to; put the run's own back, or remove it")
        other = difference(then, images, data.root)
    else:
        now = identify(images, scan_images(images) if isinstance(images, FileImages) else None, data.root).digest()
        other = None if now == recorded else f"the file that names them, {path}, is gone"
    if other is not None:
        raise UserError(
            f"the images of '{data.spec}' are not those that {run} began with ({other}); put the same images back, or start a new run "
            f"with init={run}"
        )


def environment() -> dict[str, Any]:
    """Versions, machine, command line and this toolkit's commit (where it runs from a checkout)."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "platform": platform.platform(),
        "versions": software_versions(),
        "commit": toolkit_commit(),
    }
