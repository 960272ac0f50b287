"""What a reader of a damaged or hostile file must not do, watched by an audit hook: run something, connect, or write outside its folder."""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
import time
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_RUN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "subprocess.Popen", "pty.spawn", "ctypes.dlopen")
_NETWORK = (
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.sendto",
    "urllib.Request",
    "http.client.connect",
    "ftplib.connect",
)
_CHANGE = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.rmtree",
    "shutil.move",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Of code that is run: what was read from a file of this interpreter's, which an import is.
_CODE = tuple(map(os.path.realpath, {sys.prefix, sys.base_prefix, *(path for path in sys.path if path), str(Path(__file__).parents[2])}))


# Where Python itself runs text: what a module defines while it is imported, and the types that our own classes declare.
_OF_PYTHON = ("<frozen importlib._bootstrap>", typing.__file__, dataclasses.__file__)


def _is_python() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename in _OF_PYTHON:
            return True
        frame = frame.f_back
    return False


@dataclass
class Watch:
    """What was seen while a reader ran."""

    folder: str = ""
    seen: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event == "ctypes.dlopen" and arguments[0] is None:
            return  # this process itself, which is asked to give memory back
        if event in _RUN or event in _NETWORK:
            self.seen.append(f"{event} {arguments[:1]!r}")
        elif event == "exec":
            name = getattr(arguments[0], "co_filename", "")
            of_a_file = not name.startswith("<") and os.path.realpath(name).startswith(_CODE)
            if not (of_a_file or name.startswith("<frozen") or _is_python()):
                self.seen.append(f"exec of {name!r}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            writes = (arguments[2] or 0) & _WRITES or (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"))
            if writes and not self._inside(arguments[0]):
                self.seen.append(f"writes {arguments[0]!r}")
        elif event in _CHANGE and isinstance(arguments[0], (str, bytes)) and not self._inside(arguments[0]):
            self.seen.append(f"{event} {arguments[0]!r}")

    def _inside(self, path: str | bytes) -> bool:
        name = os.path.realpath(os.fsdecode(path))
        return name in (os.devnull, self.folder) or name.startswith(self.folder + os.sep)

    @contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        """What is seen while the block runs, whose files may lie in ``folder``."""
        self.folder, self.seen = os.path.realpath(folder), []
        start = time.perf_counter()
        try:
            yield self.seen
        finally:
            self.folder = ""
            self.slowest = time.perf_counter() - start


WATCH = Watch()
# A hook cannot be taken away again; outside `over` it does nothing.
sys.addaudithook(WATCH.hook)


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
