"""``python -m transfer.detection.install``: detectron2 from PyPI, pinned by its hash, without a compiler.

PyPI's one usable build of detectron2 is tagged for Python 3.10, though what it needs of it is plain Python: pip takes it for another
version only into a folder of its own. It is unpacked there and moved, without two things that it brings along: a compiled module that no
newer Python loads, and a top-level package called ``tools``, which would shadow that of any other project. What it says that it requires is
replaced by what its modules import: it asks for other versions of NumPy and omegaconf than run it, and for tools that it does not use.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
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
# What its modules import of this toolkit's own dependencies; the rest stands in requirements.txt.
_SHARED = ("torch", "torchvision", "numpy", "pillow", "matplotlib", "scipy", "tensorboard")
# Without its compiled module it is plain Python.
_TAG = "py3-none-any"


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
        rewrite_metadata(info)
        for source in (unpacked / _PACKAGE, info):
            target = packages / source.name
            shutil.rmtree(target, ignore_errors=True)
            source.rename(target)
    return packages / _PACKAGE


def rewrite_metadata(info: Path) -> None:
    """Have an unpacked wheel's ``.dist-info`` say what is true of what is moved: its requirements, its platform and its files.

    Without that, ``pip check`` finds fault, and ``pip uninstall`` looks for files that are not there.
    """
    wanted = [line for line in (_HERE / "requirements.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    head, _, text = (info / "METADATA").read_text(encoding="utf-8").partition("\n\n")
    kept = [line for line in head.splitlines() if not line.startswith(("Requires-Dist:", "Provides-Extra:"))]
    required = [f"Requires-Dist: {requirement}" for requirement in (*_SHARED, *wanted)]
    (info / "METADATA").write_text("\n".join([*kept, *required]) + f"\n\n{text}", encoding="utf-8")
    wheel = info / "WHEEL"
    wheel.write_text(re.sub(r"(?m)^Tag: .*$", f"Tag: {_TAG}", wheel.read_text(encoding="utf-8")), encoding="utf-8")
    record = info / "RECORD"
    lines = []
    for line in record.read_text(encoding="utf-8").splitlines():
        name = line.split(",")[0]
        file = info.parent / name
        if not file.exists() or name.startswith("tools/"):
            continue
        if file in (info / "METADATA", wheel):
            digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
            line = f"{name},sha256={digest},{file.stat().st_size}"
        lines.append(f"{line}\n")
    record.write_text("".join(lines), encoding="utf-8")


def mend() -> bool:
    """Rewrite what an earlier version of this installer left as it was (:func:`rewrite_metadata`); whether there was anything."""
    for info in Path(sysconfig.get_path("purelib")).glob("sal_detectron2-*.dist-info"):
        if f"Tag: {_TAG}" not in (info / "WHEEL").read_text(encoding="utf-8"):
            rewrite_metadata(info)
            return True
    return False


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
        mended = mend()
        if not given.quiet:
            sys.stdout.write(f"detectron2 is installed already{'; what it says that it requires was mended' if mended else ''}\n")
        return
    sys.stdout.write(f"detectron2 was installed into {install()}\n")


if __name__ == "__main__":
    run(main)
