"""Recipe files: where they lie, what they are called, how one builds on another. Free of torch, for quick commands."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zoo.errors import UserError, first_line
from zoo.named_files import NamedFiles
from zoo.plain_yaml import read_yaml

RECIPES = NamedFiles("recipe", Path(__file__).parent / "recipes", "pretrain --list")


def read_recipe_file(path: Path, seen: tuple[Path, ...] = ()) -> DictConfig:
    """The keys of a recipe file over those of its ``base``, unchecked. Raises UserError for what is not YAML, or builds on itself."""
    if path in seen:
        raise UserError(f"recipe {path} is its own base (by way of {', '.join(p.name for p in seen)})")
    content = read_yaml(path, "recipe")
    try:
        own = OmegaConf.create(content)
    except OmegaConfBaseException as error:
        raise UserError(f"recipe {path} is no recipe ({first_line(error)})") from error
    base = own.pop("base", None)
    if base is None:
        return own
    # A base is a name, or a file beside this one.
    beside = path.parent / f"{base}.yaml"
    return over(read_recipe_file(beside if beside.is_file() else RECIPES.find(str(base)), (*seen, path)), own)


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
