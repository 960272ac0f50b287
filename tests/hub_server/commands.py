"""Commands in processes of their own, with the real client and its import-time settings, at the price of one start for all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LOOP = Path(__file__).with_name("command_loop.py")


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit status (negative: the signal that ended it), and what it printed."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.strip().splitlines()[-1]


class Commands:
    """Starts commands with a Hub's address and a home of their own.

    A first process imports what they all need; each command is a fork of it, so that what it does to its environment, its cache of
    clients or itself is its own.

    Parameters
    ----------
    home
        A folder for all that the commands keep.
    hub
        Address of the Hub.
    networks
        Import what loads networks, which takes seconds; without it commands that do so are slow.
    """

    def __init__(self, home: Path, hub: str, *, networks: bool = True, **environment: str) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        settings = {
            "HF_ENDPOINT": hub,
            "HF_HOME": str(home / "huggingface"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "2",
            "ZOO_HOME": str(home / "zoo"),
            "NO_PROXY": "127.0.0.1,localhost",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        foreign = ("HF_TOKEN", "HF_HUB_OFFLINE", "ZOO_CATALOGUE")
        inherited = {name: value for name, value in os.environ.items() if name not in foreign}
        self._loop = subprocess.Popen(
            [sys.executable, str(_LOOP), *(["networks"] if networks else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**inherited, **settings},
        )

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop.stdin is not None
        # Told, rather than left to the end of the pipe: a process that was forked meanwhile may hold its other end open.
        self._loop.stdin.write(json.dumps({"leave": True}) + "\n")
        self._loop.stdin.close()
        self._loop.wait(30)

    def start(self, *words: str | Path, token: str | None = None, code: str | None = None, **environment: str) -> int:
        """Begin ``zoo WORDS``, or the Python in ``code``; returns the process's id."""
        if token is not None:
            environment["HF_TOKEN"] = token
        return int(self._ask({"start": [str(word) for word in words], "code": code, "environment": environment})["pid"])

    def wait(self, pid: int) -> Done:
        answer = self._ask({"wait": pid})
        return Done(answer["status"], answer["out"], answer["err"])

    def zoo(self, *words: str | Path, token: str | None = None, **environment: str) -> Done:
        """``zoo WORDS``, to its end."""
        return self.wait(self.start(*words, token=token, **environment))

    def python(self, code: str, token: str | None = None, **environment: str) -> Done:
        """A Python program, to its end."""
        return self.wait(self.start(token=token, code=code, **environment))

    def together(self, *commands: Sequence[str | Path]) -> list[Done]:
        """Several ``zoo`` commands at once."""
        pids = [self.start(*words) for words in commands]
        return [self.wait(pid) for pid in pids]

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._loop.stdin is not None
        assert self._loop.stdout is not None
        self._loop.stdin.write(json.dumps(question) + "\n")
        self._loop.stdin.flush()
        answer = json.loads(self._loop.stdout.readline())
        assert isinstance(answer, dict)
        return answer
