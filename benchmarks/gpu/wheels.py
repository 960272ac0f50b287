"""Wheels of what a GPU machine without access to PyPI lacks: Python 3.12, Linux x86-64, under 20 MiB together.

    python benchmarks/gpu/wheels.py --out DIR

There, without touching what is installed:

    python3 -m pip install --no-index --no-deps --no-compile --target SITE DIR/*.whl
    PYTHONPATH=SITE make gpu PYTHON=python3
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from transfer.detection.install import ANY_PYTHON  # noqa: E402

_DETECTION_FOLDER = ROOT / "transfer" / "detection"

# Beyond torch, torchvision, timm, scikit-learn, accelerate, huggingface-hub, pytest and what these need. faiss (30 MiB and more) stays:
# where it is not, the torch engine clusters, and the rows say "not installed".
NEEDED = ("omegaconf", "msgspec", "typer", "rich", "hypothesis")
# For `transfer detect`, which is measured where it can be had: what the wheel of detectron2 imports and the list above has not.
DETECTION = ("yacs", "pycocotools", "termcolor", "tabulate", "cloudpickle", "portalocker")
# These have no wheel on PyPI, but are plain Python.
BUILT = ("fvcore", "iopath")
LARGEST = 20 << 20
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")


def download(names: Sequence[str], out: Path, *, alone: bool) -> None:
    """The newest wheel of each, and of what they need unless ``alone``: what the machine has (NumPy, torch) need not travel."""
    words = [word for name in _PLATFORMS for word in ("--platform", name)]
    abis = [word for name in ("cp312", "abi3", "none") for word in ("--abi", name)]
    version = ["--only-binary", ":all:", "--python-version", "3.12", "--implementation", "cp"]
    _pip("download", *version, *abis, *words, *(["--no-deps"] if alone else []), "--dest", str(out), *names)


def detectron2(out: Path) -> None:
    """detectron2's wheel, pinned by its hash, for any Python, without what it brings along: see :mod:`transfer.detection.install`."""
    with tempfile.TemporaryDirectory() as folder:
        _pip("download", "--no-deps", *ANY_PYTHON, "--require-hashes", "--dest", folder, "-r", str(_DETECTION_FOLDER / "wheel.txt"))
        (wheel,) = Path(folder).glob("*.whl")
        name, version, *_ = wheel.name.split("-")
        target = out / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
            for file in source.namelist():
                if file.startswith(("tools/", "detectron2/_C")):
                    continue
                content = source.read(file)
                if file.endswith(".dist-info/RECORD"):
                    lines = content.decode().splitlines(keepends=True)
                    content = "".join(line for line in lines if not line.startswith(("tools/", "detectron2/_C"))).encode()
                made.writestr(file, content)


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("wheels"))
    parser.add_argument("--detection", action="store_true", help="what `transfer detect` needs too")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    download(NEEDED, given.out, alone=False)
    if given.detection:
        download(DETECTION, given.out, alone=True)
        _pip("wheel", "--no-deps", "--wheel-dir", str(given.out), *BUILT)
        detectron2(given.out)
    files = sorted(given.out.glob("*.whl"))
    size = sum(path.stat().st_size for path in files)
    sys.stdout.write(f"{len(files)} wheels, {size / 2**20:.1f} MiB, in {given.out}\n")
    if size > LARGEST:
        raise SystemExit(f"they may have {LARGEST >> 20} MiB together; leave out --detection, or clear {given.out} first")


if __name__ == "__main__":
    main()
