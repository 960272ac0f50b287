"""The tests marked `cuda`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

from context import Context

ROOT = Path(__file__).resolve().parents[2]


def run(context: Context) -> None:
    every = (ROOT / "tests").rglob("test_*.py")
    files = sorted(str(path.relative_to(ROOT)) for path in every if "pytest.mark.cuda" in path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "tests.xml"
        # A file that needs a library which is not here must not keep the others from running.
        command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-m", "cuda", "--continue-on-collection-errors"]
        command += ["-p", "no:cacheprovider", f"--junitxml={found}", *(["--collect-only"] if context.dry else []), *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        sys.stdout.write(done.stdout[-3000:])
        if context.dry:
            context.report(collected=sum("::" in line for line in done.stdout.splitlines()))
            if done.returncode:
                raise RuntimeError(f"the tests could not be collected: {done.stdout[-500:]}")
            return
        cases = list(xml.parse(found).getroot().iter("testcase"))
    failed = [f"{case.get('classname')}::{case.get('name')}" for case in cases if {"failure", "error"} & {child.tag for child in case}]
    skipped = sum("skipped" in {child.tag for child in case} for case in cases)
    context.report(passed=len(cases) - len(failed) - skipped, skipped=skipped, failed=failed)
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(cases)} tests failed: {', '.join(failed)}")
