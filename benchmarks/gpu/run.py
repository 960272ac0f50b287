"""Measure on a GPU what is worth most, in the minutes there are, and go on at the next occasion where this stopped.

    make gpu MINUTES=8 DATA=cifar10.npz OUT=folder        (PYTHON is used as it is; DRY=1 walks all of it on a CPU at tiny sizes)

A row is written for each piece as it ends. A piece whose row is there is skipped, one that fails does not stop the next, one that does
not fit into what is left is not begun.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Pieces import the toolkit and each other from the checkout, which need not be installed.
sys.path[:0] = [str(ROOT), str(HERE), str(HERE.parent)]

from context import Context, NotPossible  # noqa: E402
from pieces import PIECES, Piece  # noqa: E402
from rows import DONE, FAILED, MERGED, NAME, NOT_POSSIBLE, append_row, is_done, machine, now, read_rows  # noqa: E402

# Seconds at the end in which nothing is begun, and what a process may take to leave after it was asked to.
RESERVE, GRACE = 10.0, 5.0
_DRY_PATIENCE = 5
_NOT_POSSIBLE_STATUS = 4


def walk(
    pieces: Sequence[Piece],
    *,
    minutes: float,
    out: Path,
    data: Path | None = None,
    dry: bool = False,
    merged: Path = MERGED,
    only: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Do the pieces that are not done and fit into the minutes; the rows that were written."""
    deadline = time.monotonic() + 60 * minutes - RESERVE
    out.mkdir(parents=True, exist_ok=True)
    facts = machine()
    if not dry and facts["card"] == "cpu":
        raise SystemExit("make gpu needs a CUDA or ROCm GPU, and torch finds none here; DRY=1 walks the pieces on a CPU at tiny sizes")
    written = []
    for piece in pieces:
        known = [*read_rows(merged), *read_rows(out / NAME)]
        if only and piece.name not in only:
            continue
        if is_done(known, piece.name, piece.version, dry=dry, card=facts["card"]):
            say(f"{piece.name}: done already")
            continue
        left = deadline - time.monotonic()
        if left < (0 if dry else piece.least):
            say(f"{piece.name}: not begun, {left:.0f} s are left and it needs {piece.least:.0f}")
            continue
        row = {"piece": piece.name, "version": piece.version, "dry": dry, "started": now(), **facts}
        # A CPU that others use too may take its time.
        box = min(piece.box * (_DRY_PATIENCE if dry else 1), left)
        say(f"{piece.name}: at most {box:.0f} s")
        row |= do(piece, box, out, data, dry, merged)
        append_row(out / NAME, row)
        written.append(row)
        say(f"{piece.name}: {row['status']} in {row['seconds']:.1f} s{'' if row['error'] is None else ': ' + row['error']}")
    return written


def do(piece: Piece, box: float, out: Path, data: Path | None, dry: bool, merged: Path) -> dict[str, Any]:
    """One piece, in a process of its own: status, seconds, figures, error."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures, errors = Path(folder) / "figures.jsonl", Path(folder) / "error.txt"
        words = [sys.executable, str(HERE / "run.py"), "--piece", piece.work, "--name", piece.name, "--seconds", f"{box:.1f}"]
        words += ["--out", str(out), "--figures", str(figures), "--errors", str(errors), "--merged", str(merged)]
        words += [*(["--data", str(data)] if data else []), *(["--dry"] if dry else [])]
        child = subprocess.Popen(words, cwd=ROOT)
        try:
            status = child.wait(box)
            error = errors.read_text(encoding="utf-8") if errors.exists() else (None if status == 0 else f"ended with status {status}")
        except subprocess.TimeoutExpired:
            child.terminate()
            try:
                child.wait(GRACE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            status, error = -1, f"stopped after its {box:.0f} s"
        found: dict[str, Any] = {}
        for line in read_rows(figures):
            found.update(line)
    known = {0: DONE, _NOT_POSSIBLE_STATUS: NOT_POSSIBLE}
    return {"status": known.get(status, FAILED), "seconds": round(time.monotonic() - started, 2), "figures": found, "error": error}


def do_here(given: argparse.Namespace) -> int:
    """The child's side of :func:`do`."""
    module, _, name = given.piece.partition(":")
    known = [*read_rows(given.merged), *read_rows(given.out / NAME)]
    context = Context(given.name, given.seconds, given.out, given.figures, given.data, given.dry, known)
    try:
        getattr(importlib.import_module(module), name)(context)
    except NotPossible as reason:
        given.errors.write_text(str(reason), encoding="utf-8")
        return _NOT_POSSIBLE_STATUS
    except Exception as error:  # whatever it is, it goes into the row, and the next piece begins
        traceback.print_exc()
        given.errors.write_text(f"{type(error).__name__}: {error}"[:2000], encoding="utf-8")
        return 1
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    parser.add_argument("--data", type=Path, help="CIFAR-10: cifar10.npz, or a folder with parts of it (pack.py makes them)")
    parser.add_argument("--dry", action="store_true", help="on a CPU, at tiny sizes")
    parser.add_argument("--only", action="append", default=[], help="a piece's name; may be given again")
    parser.add_argument("--merged", type=Path, default=MERGED, help="rows of earlier occasions")
    parser.add_argument("--list", action="store_true", help="name the pieces and leave")
    for flag in ("--piece", "--name"):
        parser.add_argument(flag, help=argparse.SUPPRESS)
    for flag in ("--figures", "--errors"):
        parser.add_argument(flag, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.piece:
        sys.exit(do_here(given))
    if given.list:
        sys.stdout.write(json.dumps([piece.name for piece in PIECES], indent=1) + "\n")
        return
    unknown = set(given.only) - {piece.name for piece in PIECES}
    if unknown:
        raise SystemExit(f"there is no piece '{min(unknown)}'; --list names them")
    walk(PIECES, minutes=given.minutes, out=given.out, data=given.data, dry=given.dry, merged=given.merged, only=given.only)
    say(f"rows: {given.out / NAME}")


if __name__ == "__main__":
    main()
