"""The configs that come with the toolkit. Imports neither torch nor detectron2."""

from __future__ import annotations

import difflib
from pathlib import Path

from zoo.errors import UserError

FOLDER = Path(__file__).parent.parent / "configs"
_BASE_PREFIX = "base_"


def config_names() -> list[str]:
    """Names of the configs that come with the toolkit."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith(_BASE_PREFIX))


def summary(name: str) -> str:
    """The first comment line of a config."""
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("#").strip()


def find_config(name_or_path: str) -> Path:
    """The file of a config given by name or by path. Raises UserError that names the nearest config."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"there is no config file {path}")
        return path
    known = config_names()
    if name_or_path not in known:
        near = difflib.get_close_matches(name_or_path, known, 1, 0.4)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UserError(
            f"there is no config '{name_or_path}'; {hint}`transfer detect --list` shows them all, and a path to a .yaml file works too"
        )
    return FOLDER / f"{name_or_path}.yaml"
