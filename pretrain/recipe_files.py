"""Recipe files: where they lie, what they are called, how one builds on another. Free of torch, for quick commands."""

from __future__ import annotations

import difflib
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from zoo.errors import UserError, first_line

FOLDER = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes that come with the toolkit."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def summary(name: str) -> str:
    """The first comment line of a recipe."""
    first = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip()


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe given by name or by path. Raises UserError that names the nearest recipe."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"there is no recipe file {path}")
        return path
    known = recipe_names()
    if name_or_path not in known:
        near = difflib.get_close_matches(name_or_path, known, 1, 0.4)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise UserError(
            f"there is no recipe '{name_or_path}'; {hint}`pretrain --list` shows them all, and a path to a .yaml file works too"
        )
    return FOLDER / f"{name_or_path}.yaml"


def read_recipe_file(path: Path, seen: tuple[Path, ...] = ()) -> DictConfig:
    """The keys of a recipe file over those of its ``base``, unchecked. Raises UserError for what is not YAML, or builds on itself."""
    if path in seen:
        raise UserError(f"recipe {path} is its own base (by way of {', '.join(p.name for p in seen)})")
    try:
        own = OmegaConf.load(path)
    except (YAMLError, OSError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UserError(f"recipe {path} is not readable YAML ({first_line(error)})") from error
    if not isinstance(own, DictConfig):
        raise UserError(f"recipe {path} must be a mapping of keys to values")
    base = own.pop("base", None)
    if base is None:
        return own
    # A base is a name, or a file beside this one.
    beside = path.parent / f"{base}.yaml"
    return over(read_recipe_file(beside if beside.is_file() else find_recipe(str(base)), (*seen, path)), own)


def over(base: DictConfig, own: DictConfig) -> DictConfig:
    """``own`` keys over those of ``base``; a method of another name takes nothing from the base's, and what is set needs no fit."""
    name = OmegaConf.select(own, "method.name")
    if name is not None and name != OmegaConf.select(base, "method.name"):
        base = base.copy()
        base.pop("method", None)
    fitted = OmegaConf.select(base, "fit")
    if fitted and OmegaConf.select(own, "fit") is None:
        base = base.copy()
        base.fit = [key for key in fitted if OmegaConf.select(own, key) is None]
    merged = OmegaConf.merge(base, own)
    assert isinstance(merged, DictConfig)
    return merged
