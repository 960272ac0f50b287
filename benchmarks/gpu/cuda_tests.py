"""The tests marked `cuda`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

from context import Context

ROOT = Path(__file__).resolve().parents[2]
# These need libraries as soon as they are collected, and must not keep the others from running where these are not installed.
_APART = ROOT / "tests" / "transfer"


def run(context: Context) -> None:
    every = sorted((ROOT / "tests").rglob("test_*.py"))
    files = [path for path in every if "pytest.mark.cuda" in path.read_text(encoding="utf-8")]
    apart = [path for path in files if path.is_relative_to(_APART)]
    groups = {"tests": [path for path in files if path not in apart], "tests/transfer": apart}
    total: dict[str, Any] = {"passed": 0, "skipped": 0, "collected": 0, "failed": [], "not_run": {}}
    for name, members in groups.items():
        for key, value in _group(members, context).items():
            if key == "not_run":
                total[key][name] = value
            else:
                total[key] += value
        context.report(**total)
    if total["failed"] or "tests" in total["not_run"]:
        raise RuntimeError(f"{len(total['failed'])} tests failed: {', '.join(total['failed'])}; not run: {total['not_run']}")


def _group(files: list[Path], context: Context) -> dict[str, Any]:
    """How many tests of some files passed, were skipped or collected, and which failed; or why there were none."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "tests.xml"
        # A file that needs a library which is not here must not keep the others from running either.
        command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-m", "cuda", "--continue-on-collection-errors"]
        command += ["-p", "no:cacheprovider", f"--junitxml={found}", *(["--collect-only"] if context.dry else []), *map(str, files)]
        # One after the other they take minutes, most of it importing and the host's side of each comparison.
        if importlib.util.find_spec("xdist") and not context.dry:
            command += ["-n", str(min(8, max(1, (os.cpu_count() or 1) // 2)))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        sys.stdout.write(done.stdout[-3000:] + done.stderr[-1000:])
        if context.dry:
            count = sum("::" in line for line in done.stdout.splitlines())
            return {"collected": count} if count else {"not_run": _last(done)}
        cases = list(xml.parse(found).getroot().iter("testcase")) if found.exists() else []
    if not cases:
        return {"not_run": _last(done)}
    failed = [f"{case.get('classname')}::{case.get('name')}" for case in cases if {"failure", "error"} & {child.tag for child in case}]
    skipped = sum("skipped" in {child.tag for child in case} for case in cases)
    return {"passed": len(cases) - len(failed) - skipped, "skipped": skipped, "collected": len(cases), "failed": failed}


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """What pytest said last, without the name of a folder of this machine."""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1].replace(str(ROOT), ".")[:300] if lines else f"ended with status {done.returncode}"
