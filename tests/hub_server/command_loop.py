"""The process that :class:`hub_server.commands.Commands` forks: it imports what commands need, and starts them as it is told."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch

import zoo.commands.cli
import zoo.hub.from_hub
import zoo.hub.pull
import zoo.hub.push
from zoo.console import run

_IMPORTED = (huggingface_hub.HfApi, timm, torch, zoo.hub.from_hub, zoo.hub.pull, zoo.hub.push)
_running: dict[int, Path] = {}


def main() -> None:
    for line in sys.stdin:
        question = json.loads(line)
        if "leave" in question:
            return
        answer = {"pid": start(**question_of(question))} if "start" in question else end(question["wait"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def question_of(question: dict[str, Any]) -> dict[str, Any]:
    return {"words": question["start"], "code": question["code"], "environment": question["environment"]}


def start(words: list[str], code: str | None, environment: dict[str, str]) -> int:
    place = Path(tempfile.mkdtemp())
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), number)
            os.environ.update(environment)
            status = run_command(words, code)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    _running[pid] = place
    return pid


def run_command(words: list[str], code: str | None) -> int:
    try:
        if code is None:
            sys.argv = ["zoo", *words]
            zoo.commands.cli.main()
        else:
            run(lambda: exec(code, {"__name__": "__main__"}))
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    return 0


def end(pid: int) -> dict[str, Any]:
    place = _running.pop(pid)
    _, status = os.waitpid(pid, 0)
    texts = {name: (place / name).read_text() if (place / name).exists() else "" for name in ("out", "err")}
    return {"status": os.waitstatus_to_exitcode(status), **texts}


if __name__ == "__main__":
    main()
