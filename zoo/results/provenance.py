"""What a number was made with: versions of the software, and this toolkit's commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from zoo.lazy import DISTRIBUTION

_PACKAGES = (DISTRIBUTION, "torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "scikit-learn", "scipy")
# The library is one, and its distributions are several.
_FAISS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12")


def software_versions() -> dict[str, str]:
    """Versions of Python, this toolkit and the libraries that numbers depend on, by name; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for name in _FAISS:
        try:
            found["faiss"] = version(name)
        except PackageNotFoundError:
            continue
    return found


def toolkit_commit() -> str | None:
    """The commit of the checkout this toolkit runs from, with a remark where files differ from it; None for an installed package."""
    folder, name = Path(__file__).parent, Path(__file__).name
    # A package installed inside somebody else's checkout is not part of it: git must know this very file.
    if _git(folder, "ls-files", "--error-unmatch", name) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + (" with uncommitted changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where there is no git, no checkout, or it refuses."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
