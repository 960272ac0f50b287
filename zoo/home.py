"""Where the toolkit keeps what it has downloaded, apart from the Hub client's own cache."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "ZOO_HOME"


def zoo_home() -> Path:
    """The folder of downloads, imported models and the lock file: ``$ZOO_HOME``, or else ``backbone-loop`` in the user's cache folder."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "backbone-loop"
