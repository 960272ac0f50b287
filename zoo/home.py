"""Where the toolkit keeps what it has downloaded and computed, apart from the Hub client's own cache."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "ZOO_HOME"
# The folder of features; it has a variable of its own since it is large, and may lie on another disk.
FEATURES_VARIABLE = "BACKBONE_LOOP_CACHE"


def zoo_home() -> Path:
    """The folder of downloads, imported models and the lock file: ``$ZOO_HOME``, or else ``backbone-loop`` in the user's cache folder."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "backbone-loop"


def downloads_home() -> Path:
    """Files from authors' servers, each in a folder named by its address."""
    return zoo_home() / "downloads"


def models_home() -> Path:
    """Zoo models that were made of published files."""
    return zoo_home() / "models"


def label_lists_home() -> Path:
    """Lists of labelled images that papers use."""
    return zoo_home() / "label-lists"


def inspection_home() -> Path:
    """What `zoo data` found, and the facts about images that it goes by."""
    return zoo_home() / "inspection"


def features_home() -> Path:
    """Features that `evaluate` keeps: ``$BACKBONE_LOOP_CACHE``, or else ``backbone-loop/features`` in the user's cache folder."""
    if named := os.environ.get(FEATURES_VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "backbone-loop" / "features"
