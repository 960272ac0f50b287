"""Recipes: YAML files checked against typed settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field as dataclass_field
from dataclasses import fields, is_dataclass, make_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, EnumNode, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pretrain.methods import METHODS
from pretrain.recipe_files import RECIPES, over, read_recipe_file
from pretrain.settings import CHANGEABLE_ON_RESUME, Recipe
from pretrain.sizes import FIT_KEYS
from zoo.errors import UserError, first_line
from zoo.plain_yaml import check_references, parse_yaml

OFF = "off"
# What a recipe says where the device decides.
AUTO = "auto"


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """A recipe with everything resolved: its ``base`` recipes, its own keys, ``key=value`` overrides, and all defaults.

    Parameters
    ----------
    name_or_path
        A name of :data:`pretrain.recipe_files.RECIPES`, or a YAML file.
    overrides
        Such as ``["epochs=3", "method.queue=4096"]``.

    Raises
    ------
    UserError
        Unknown recipe, unknown or mistyped key (the nearest one is named), a file that is not YAML.
    """
    raw = read_recipe_file(RECIPES.find(name_or_path))
    try:
        raw = over(raw, _overrides(overrides))
    except OmegaConfBaseException as error:
        raise UserError(f"recipe '{name_or_path}': {first_line(error)}") from error
    return _check(raw, name_or_path)


def resume_recipe(recipe: dict[str, Any], overrides: Sequence[str]) -> DictConfig:
    """A run's own recipe with what may be changed on resume. Raises UserError for an override of anything else."""
    for text in overrides:
        key, _ = _as_assignment(text)
        if key not in CHANGEABLE_ON_RESUME:
            raise UserError(
                f"'{key}' cannot be changed when a run is resumed, since its numbers depend on it; "
                f"only {', '.join(CHANGEABLE_ON_RESUME)} can (start another run with init=RUN to go on from these weights)"
            )
    merged = OmegaConf.merge(OmegaConf.create(recipe), _overrides(overrides))
    assert isinstance(merged, DictConfig)
    return _check(merged, "recipe.yaml of the run")


def check_same_recipe(saved: Mapping[str, Any], config: DictConfig, run: str, free: Sequence[str] = ()) -> None:
    """Raise UserError, with key, old and new value, where a run's recipe is not the one that its checkpoint was made by.

    Parameters
    ----------
    saved
        The resolved recipe in the checkpoint (:func:`plain`). A key that it lacks, since it is older than the key, is not compared.
    config
        The recipe that the run is to go on by.
    free
        Keys that may differ, besides those of :data:`pretrain.settings.CHANGEABLE_ON_RESUME`, which are in no checkpoint.
    """
    then, now = _flat(saved), _flat(plain(config))
    for key, value in then.items():
        if key not in free and now.get(key) != value:
            raise UserError(
                f"{key} is {now.get(key)} in the recipe.yaml of {run}, and its checkpoint was made with {value}; set it back to go on, or "
                "start another run with init=RUN to go on from these weights with other values"
            )


def agreeing_recipe(stored: Mapping[str, Any], given: DictConfig, run: str) -> DictConfig:
    """The recipe of a run with what ``given`` has of the keys that may change on resume, where the two agree in the others.

    Parameters
    ----------
    stored
        The run's own resolved recipe.
    given
        As :func:`load_recipe` gives it. What it leaves to the rule or to the device is as the run has it. Where the data lies may differ:
        whether it is the same data is not to be seen here.

    Raises
    ------
    UserError
        They differ; with key, old and new value.
    """
    content = _flat(OmegaConf.to_container(given, resolve=True, enum_to_str=True))
    own = resume_recipe(dict(stored), [])
    then = _flat(OmegaConf.to_container(own, resolve=True, enum_to_str=True))
    changed = own.copy()
    for key, value in content.items():
        if key in CHANGEABLE_ON_RESUME or key == "data":
            OmegaConf.update(changed, key, value)
        elif value in (None, AUTO) or key == "fit" or key in given.fit:
            continue
        elif then.get(key) != value:
            raise UserError(
                f"{key} is {value} in this command, and the run {run} was begun with {then.get(key)}; leave it as it was to go on, or "
                "choose another --out"
            )
    return changed


def plain(config: DictConfig) -> dict[str, Any]:
    """A resolved recipe as plain values, for a checkpoint: without what may change on resume, on which nothing in it depends."""
    content = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(content, dict)
    for free in CHANGEABLE_ON_RESUME:
        *groups, name = free.split(".")
        place = content
        for group in groups:
            place = place[group]
        del place[name]
    return {str(key): value for key, value in content.items()}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Groups of values as one: ``optimizer.lr`` -> value."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(_flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner})
    return flat


def typed(config: DictConfig) -> Recipe:
    """The recipe as dataclasses; ``method`` is the method's own settings class."""
    name = config.method.name
    plain = OmegaConf.structured(Recipe)
    rest = OmegaConf.create({key: value for key, value in config.items() if key != "method"})
    recipe = OmegaConf.to_object(OmegaConf.merge(plain, rest))
    assert isinstance(recipe, Recipe)
    chosen = {key: value for key, value in config.method.items() if key != "name"}
    recipe.method = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(METHODS[name].Settings), chosen))
    return recipe


def as_yaml(config: DictConfig) -> str:
    """The resolved recipe as YAML text."""
    return OmegaConf.to_yaml(config, resolve=True)


def _overrides(texts: Sequence[str]) -> DictConfig:
    """``key=value`` words as a recipe. Raises UserError for one that cannot be read."""
    given = OmegaConf.create()
    for text in texts:
        key, value = _as_assignment(text)
        try:
            OmegaConf.update(given, key, _read_value(key, value), force_add=True)
        except (OmegaConfBaseException, ValueError) as error:
            raise UserError(f"cannot read the override {text} ({first_line(error)})") from error
    return given


def _read_value(key: str, text: str) -> Any:
    """What stands behind the first ``=``: of a key that takes words, as it is; else a number, a list and so on. Raises ValueError."""
    kinds = _kinds(key)
    if type(None) in kinds and text in ("null", "~", ""):
        return None
    if str in kinds and not kinds & {int, float, bool}:
        check_references(text, key)
        return text
    return parse_yaml(text)


def _kinds(key: str) -> set[Any]:
    """The types that a recipe's key takes; none where there is no such key, or where it is a group."""
    settings: list[type[Any]] = [Recipe]
    *groups, name = key.split(".")
    for group in groups:
        if settings == [Recipe] and group == "method":
            settings = [method.Settings for method in METHODS.values()]
            continue
        inner = [get_type_hints(one).get(group) for one in settings]
        settings = [hint for hint in inner if isinstance(hint, type) and is_dataclass(hint)]
    hints = [get_type_hints(one)[name] for one in settings if name in get_type_hints(one)]
    if key == "method.name":
        return {str}
    return {kind for hint in hints[:1] for kind in (get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,))}


def _as_assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"'{text}' is not a key=value override; write for example epochs=3")
    return key, value


def _check(raw: DictConfig, where: str) -> DictConfig:
    """``raw`` over all defaults, every key and type checked."""
    method = raw.get("method")
    name = method.get("name") if isinstance(method, DictConfig) else None
    if name not in METHODS:
        near = difflib.get_close_matches(str(name), METHODS, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(f"recipe '{where}': method.name is '{name}', not one of {', '.join(METHODS)}{hint}")
    named = make_dataclass("NamedMethod", [("name", str, dataclass_field(default=name))], bases=(METHODS[name].Settings,))
    schema = OmegaConf.structured(Recipe)
    schema.method = OmegaConf.structured(named)
    raw = raw.copy()
    try:
        _check_keys(raw, schema, where, ())
        merged = OmegaConf.merge(schema, raw)
        OmegaConf.resolve(merged)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "a key"
        raise UserError(f"recipe '{where}': {key}: {first_line(error)}") from error
    assert isinstance(merged, DictConfig)
    unknown = [key for key in merged.fit if key not in FIT_KEYS]
    if unknown:
        raise UserError(f"recipe '{where}': fit names '{unknown[0]}'; by the rule go {', '.join(FIT_KEYS)}")
    try:
        typed(merged).check()
    except UserError as error:
        raise UserError(f"recipe '{where}': {error}") from error
    return merged


def _check_keys(raw: DictConfig, schema: DictConfig, where: str, path: tuple[str, ...]) -> None:
    for key in raw:
        full = ".".join((*path, str(key)))
        if key not in schema:
            raise UserError(f"recipe '{where}' has an unknown key '{full}'{_suggestion(full, path, schema)}")
        if OmegaConf.is_interpolation(raw, str(key)):
            continue  # perhaps of a key that has its default
        value = raw[key]
        inner = schema[key]
        node = schema._get_node(key)
        if value is False and isinstance(node, EnumNode) and OFF in node.enum_type.__members__:
            # In YAML 1.1 the word off was a way to write false, and so it stands in recipes of old runs.
            raw[key] = OFF
        if isinstance(inner, DictConfig):
            if not isinstance(value, DictConfig):
                raise UserError(
                    f"recipe '{where}': '{full}' is a group of keys ({', '.join(map(str, inner))}), not the single value '{value}'"
                )
            # A group without settings of its own (views.each) is checked where its keys mean something.
            if OmegaConf.get_type(inner) is not dict:
                _check_keys(value, inner, where, (*path, str(key)))


def _suggestion(full: str, path: tuple[str, ...], schema: DictConfig) -> str:
    """The nearest key: in the same group, else anywhere in a recipe."""
    key = full.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, map(str, schema), 1, 0.6)
    if near:
        return f"; did you mean '{'.'.join((*path, near[0]))}'?"
    anywhere = {name.rsplit(".", 1)[-1]: name for name in _all_keys(Recipe)}
    near = difflib.get_close_matches(key, anywhere, 1, 0.75)
    return f"; did you mean '{anywhere[near[0]]}'?" if near else f"; here one can set {', '.join(map(str, schema))}"


def _all_keys(settings: type[Any], prefix: str = "") -> Iterable[str]:
    hints = get_type_hints(settings)
    for item in fields(settings):
        if is_dataclass(hints[item.name]):
            yield from _all_keys(hints[item.name], f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}"
    if settings is Recipe:
        for method in METHODS.values():
            yield from (f"method.{item.name}" for item in fields(method.Settings))
