"""Making a run folder, and writing down what a run was made with."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoo.console import DISTRIBUTION
from zoo.errors import UserError
from zoo.files import replace_text
from zoo.runs import CHECKPOINT_FOLDER, ENVIRONMENT_FILE, RECIPE_FILE, is_run

BAD_IMAGES_FILE = "bad_images.txt"
_PACKAGES = (DISTRIBUTION, "torch", "torchvision", "timm", "accelerate", "numpy", "pillow")


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raise UserError where ``out`` may not become a run folder: it exists, and is no run that ``--overwrite`` may replace."""
    if not out.exists():
        return
    if not overwrite:
        advice = f"go on with `pretrain --resume {out}`, or give --overwrite to start again" if is_run(out) else "choose another --out"
        raise UserError(f"{out} exists already; {advice}")
    if not out.is_dir() or (any(out.iterdir()) and not is_run(out)):
        raise UserError(f"{out} is not a run folder, so --overwrite does not remove it; choose another --out")


def make_run_folder(out: Path, recipe_yaml: str, *, overwrite: bool) -> None:
    """An empty run folder with the resolved recipe and the environment."""
    check_out(out, overwrite=overwrite)
    if out.exists():
        shutil.rmtree(out)
    try:
        (out / CHECKPOINT_FOLDER).mkdir(parents=True)
    except OSError as error:
        raise UserError(f"the run folder {out} cannot be made ({error.strerror}); choose another --out") from error
    replace_text(out / ENVIRONMENT_FILE, json.dumps(environment(), indent=2) + "\n")
    replace_text(out / RECIPE_FILE, recipe_yaml)


def environment() -> dict[str, Any]:
    """Versions, machine, command line and this toolkit's commit (where it runs from a checkout)."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True)
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True)
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=here, capture_output=True, text=True)
    except OSError:
        return None
    if tracked.returncode or commit.returncode:
        return None
    return commit.stdout.strip() + (" with uncommitted changes" if changed.stdout.strip() else "")
