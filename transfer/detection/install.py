"""``python -m transfer.detection.install``: detectron2 from PyPI, pinned by its hash, without a compiler.

PyPI's one usable build of detectron2 is tagged for Python 3.10, though what it needs of it is plain Python: pip takes it for another
version only into a folder of its own. It is unpacked there and moved, without two things that it brings along: a compiled module that no
newer Python loads, and a top-level package called ``tools``, which would shadow that of any other project.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from transfer.presence import OFFICIAL, has_detectron2
from zoo.console import DEBUG_FLAG, run, show_traces
from zoo.errors import UserError

_HERE = Path(__file__).parent
_PACKAGE = "detectron2"
# One wheel of PyPI, whatever Python runs: its tag says 3.10.
ANY_PYTHON = ["--python-version", "3.10", "--implementation", "cp", "--abi", "none", "--platform", "any", "--only-binary=:all:"]
_PATIENCE = ["--retries", "1", "--timeout", "20"]


def install() -> Path:
    """Install the wheel and what it needs into this Python's environment.

    Returns
    -------
    The package's folder.

    Raises
    ------
    UserError
        pip could not get or install something; nothing of detectron2 is left behind then.
    """
    packages = Path(sysconfig.get_path("purelib"))
    _pip("-r", str(_HERE / "requirements.txt"))
    with tempfile.TemporaryDirectory(dir=packages, prefix=".detectron2-") as folder:
        _pip("--no-deps", *ANY_PYTHON, "--require-hashes", "--target", folder, "-r", str(_HERE / "wheel.txt"))
        unpacked = Path(folder)
        (info,) = unpacked.glob("*.dist-info")
        for binary in (unpacked / _PACKAGE).glob("_C*"):
            binary.unlink()
        # What is not moved must not stand in the record either: `pip uninstall` would look for it.
        record = info / "RECORD"
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
        record.write_text("".join(line for line in lines if (unpacked / line.split(",")[0]).exists() and not line.startswith("tools/")))
        for source in (unpacked / _PACKAGE, info):
            target = packages / source.name
            shutil.rmtree(target, ignore_errors=True)
            source.rename(target)
    return packages / _PACKAGE


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_PATIENCE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip() or "no reason given")
        raise UserError(f"detectron2 could not be installed from PyPI ({reason}); the official way is: {OFFICIAL}")


def main() -> None:
    """Entry point: does nothing where detectron2 is installed already."""
    parser = argparse.ArgumentParser(description="Install detectron2 from PyPI: a wheel pinned by its hash, no compiler.")
    parser.add_argument("--quiet", action="store_true", help="say nothing where it is installed already")
    parser.add_argument(DEBUG_FLAG, action="store_true", help="where something goes wrong, show the stack trace too")
    given = parser.parse_args()
    show_traces(given.debug)
    if has_detectron2():
        if not given.quiet:
            sys.stdout.write("detectron2 is installed already\n")
        return
    sys.stdout.write(f"detectron2 was installed into {install()}\n")


if __name__ == "__main__":
    run(main)
