"""What tests of typed commands share: tokens, the files of a folder, what a command said."""

from __future__ import annotations

import re
from pathlib import Path

from hub_server.commands import Done

ALICE, BOB, READER = "hf_alice", "hf_bob", "hf_reader"
WEIGHTS = "model.safetensors"


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by name: those that are pulled."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def whole_content(folder: Path) -> dict[str, bytes]:
    """All files in and below a folder, by path: those that are pushed."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(done: Done, *parts: str) -> None:
    """One sentence and exit status 2, with the parts in it."""
    assert (done.status, done.out) == (2, ""), done
    # The client may have told before that it waits.
    assert [line.startswith("error: ") for line in done.err.splitlines()].index(True) == len(done.err.splitlines()) - 1, done.err
    line = done.err.splitlines()[-1]
    for part in parts:
        assert re.search(part, line), line


def pulled(done: Done) -> Path:
    assert done.status == 0, done.err
    return Path(done.last)
