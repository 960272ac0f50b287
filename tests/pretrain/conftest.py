"""A module's small recipe, and the run that it makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain.loop import train
from pretrain.recipes import load_recipe


@pytest.fixture(scope="module")
def recipe_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe that the module calls TINY, as a file."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(request.module.TINY)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, recipe_file: Path) -> Path:
    """The folder of a run by the module's recipe, which no test changes."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(load_recipe(str(recipe_file)), folder)
    return folder
