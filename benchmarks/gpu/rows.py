"""Rows: one JSON object a line for each piece that was done, with the card, the software and the figures; and the merging of them.

    python benchmarks/gpu/rows.py FROM        merge FROM/rows.jsonl (or that file) into benchmarks/gpu/rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MERGED = HERE / "rows.jsonl"
NAME = "rows.jsonl"
DONE, FAILED, NOT_POSSIBLE = "done", "failed", "not possible"
Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, in their order; none where there is no file, and a last line that was cut off is left out."""
    found: list[Row] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return found


def append_row(path: Path, row: Row) -> None:
    """Add a row, on the disk before this returns: the machine may be gone a moment later."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def is_done(rows: Sequence[Row], piece: str, version: int, *, dry: bool, card: str) -> bool:
    """Whether a piece of this version has a row that is no failure, made on this card, or in a dry walk."""
    return any(
        (row["piece"], row["version"], row["status"], row["dry"], row["card"]) == (piece, version, DONE, dry, card) for row in rows
    )


def newest(rows: Sequence[Row], piece: str) -> Row | None:
    """The last row of a piece that was done on a real card."""
    found = [row for row in rows if row["piece"] == piece and row["status"] == DONE and not row["dry"]]
    return found[-1] if found else None


def machine() -> Row:
    """The card, its driver and memory, and the versions of the software; asked once a walk."""
    import torch

    from zoo.results.provenance import software_versions, toolkit_commit

    facts: Row = {
        "card": "cpu",
        "driver": None,
        "memory_gib": None,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": software_versions(),
        "commit": toolkit_commit() or os.environ.get("COMMIT"),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts |= {"card": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1), "driver": _driver()}
        facts["versions"]["cuda"] = torch.version.cuda or f"hip {torch.version.hip}"
    return facts


def _driver() -> str | None:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split()[0] if done.stdout.split() else None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def merge(source: Path, target: Path = MERGED) -> tuple[int, int]:
    """Add the rows of ``source`` (a folder or a file) to ``target``: how many were added, how many were there or dry."""
    path = source / NAME if source.is_dir() else source
    if not path.is_file():
        raise SystemExit(f"there are no rows at {path}; give the folder that `make gpu OUT=...` wrote")
    there = read_rows(target)
    known = {json.dumps(row, sort_keys=True) for row in there}
    added = left = 0
    for row in read_rows(path):
        # What a walk without a GPU measured is no measurement.
        if row["dry"] or json.dumps(row, sort_keys=True) in known:
            left += 1
            continue
        append_row(target, row)
        known.add(json.dumps(row, sort_keys=True))
        added += 1
    return added, left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--into", type=Path, default=MERGED)
    given = parser.parse_args()
    added, left = merge(given.source, given.into)
    sys.stdout.write(f"{added} rows added to {given.into}; {left} left out (there already, or of a dry walk)\n")


if __name__ == "__main__":
    main()
