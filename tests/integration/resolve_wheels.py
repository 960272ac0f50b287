"""Whether every dependency has a wheel for a version of Python on Linux: `pip download` without downloading.

python tests/integration/resolve_wheels.py 3.12 3.13
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
# Packages that are source alone on the index and hold Python only.
SOURCE_ONLY = ("antlr4-python3-runtime",)


def unresolved(version: str) -> str | None:
    """What pip says where a dependency, or one of theirs, has no wheel for that Python; None where all have."""
    dependencies = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--target", folder),
            *("--python-version", version, "--only-binary", ":all:", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64"),
            *("--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64", "--platform", "any"),
            *dependencies,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else "\n".join(line for line in done.stderr.splitlines() if line.startswith("ERROR"))


def main() -> None:
    failed = False
    for version in sys.argv[1:]:
        problem = unresolved(version)
        failed |= problem is not None
        print(f"Python {version}: {'every dependency has a wheel' if problem is None else problem}")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
