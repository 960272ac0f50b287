"""Small disks that can be filled, and disks that cannot be written; both need the right to mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BALLAST = "ballast"
_BLOCK = 4096


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A tmpfs in ``folder``; the test is skipped where mounting is not allowed."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave_free(disk: Path, free: int) -> None:
    """Fill the disk until so many bytes are left, in whole blocks."""
    ballast = disk / BALLAST
    ballast.unlink(missing_ok=True)
    have = os.statvfs(disk)
    size = have.f_bavail * have.f_frsize - free // _BLOCK * _BLOCK
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def listing(folder: Path) -> dict[str, bytes]:
    """Path and content of every file below, but the ballast."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != BALLAST
    }
