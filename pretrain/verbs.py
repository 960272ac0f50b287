"""Pre-training in Python, by the words that the command takes: ``pretrain.train("moco_cifar10", out="runs/moco", data="cifar10:data")``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.loop import Outcome
from pretrain.loop import train as train_by_recipe
from pretrain.recipes import load_recipe


def train(
    recipe: str | Path,
    *,
    out: str | Path,
    overwrite: bool = False,
    go_on: bool = False,
    keys: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Outcome:
    """Train a backbone by a recipe.

    Parameters
    ----------
    recipe
        A recipe's name, or a YAML file.
    out
        The run folder.
    overwrite, go_on
        Replace a run that is there, or go on with it (``--overwrite``, ``--continue``).
    keys
        Values by their keys in the recipe: ``{"method.queue": 4096, "epochs": 10}``.
    settings
        The same for keys without a dot: ``data="folder:photos"``, ``epochs=10``.

    Raises
    ------
    UserError
        Whatever the command would say.
    """
    words = [f"{key}={_spelled(value)}" for key, value in {**settings, **(keys or {})}.items()]
    return train_by_recipe(load_recipe(str(recipe), words), Path(out), overwrite=overwrite, go_on=go_on)


def _spelled(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
