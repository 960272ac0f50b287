"""Whether detectron2 is here, and how to get it where it is not."""

from __future__ import annotations

import platform
import shutil
from importlib.util import find_spec

from zoo.errors import UserError

# The project has no release on PyPI and its build needs the installed torch, hence no isolation.
OFFICIAL = "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'"
PINNED = "python -m transfer.detection.install"


def has_detectron2() -> bool:
    """Whether detectron2 can be imported, by whichever distribution (the official one is `detectron2`, PyPI's `sal-detectron2`)."""
    return find_spec("detectron2") is not None


def install_line() -> str:
    """How detectron2 is installed on this platform: built from source where git and a compiler are, else the pinned wheel."""
    compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
    if platform.system() in ("Linux", "Darwin") and compiler and shutil.which("git"):
        return f"`{PINNED}` (a wheel, in seconds) or `{OFFICIAL}` (the official code, compiled)"
    return f"`{PINNED}`"


def require_detectron2() -> None:
    """Raise UserError, with the line that installs it, where detectron2 is missing."""
    if not has_detectron2():
        raise UserError(f"detectron2 is not installed here; install it with {install_line()}")
