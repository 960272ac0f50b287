"""How data is named: ``NAME[:PLACE][,KEY=VALUE...]``, and the one parser of it.

The name comes first. The place is a folder, a file, shards or a Hub name; options begin at the first ``,KEY=`` with a known KEY, so that a
folder may hold a comma. ``shapes`` has no place: its options begin at the colon. A list in a value is written with ``+``
(``bands=4+3+2``). Options belong to the data: they stay in results and claims. Places do not: where images lay is nobody's business, and no
help on another machine (:meth:`DataSpec.without_place`, :meth:`DataSpec.with_options_of`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from zoo.errors import UserError, nearest

# The label level that every labelled set has (--level); coarser ones have names of their own.
CLASS_LEVEL = "class"
EXIF = ("exif",)
# How encoded images are read (zoo.data.images.reading).
READING = ("exif", "range", "bands")
# Parting a set that has no test images (zoo.data.own.holdout).
HOLDOUT = ("holdout", "seed")
SHAPES = "shapes"
SHAPES_KEYS = ("train", "test", "size", "clutter", "seed")

# Name of a data set -> the options that it takes.
KEYS: Mapping[str, tuple[str, ...]] = {
    SHAPES: SHAPES_KEYS,
    "folder": (*HOLDOUT, *READING),
    "csv": ("root", "image", "label", "split", *HOLDOUT, *READING),
    "hf": ("image", "label", *HOLDOUT, *READING),
    "wds": READING,
    "voc": READING,
    "coco": READING,
    "imagenet": EXIF,
    "imagenet200": EXIF,
    "voc07": EXIF,
    "places205": EXIF,
    "tiny-imagenet": (),
    "cifar10": (),
    "cifar100": (),
    "stl10": (),
    "fashion-mnist": (),
    "mnist": (),
    "kmnist": (),
    "usps": (),
    "svhn": (),
    "gtsrb": (),
    "dtd": (),
    "flowers102": (),
    "pets": (),
    "aircraft": (),
    "digits": (),
}
# Options that are places themselves.
PLACE_KEYS = ("root",)
# Data sets that are whatever lies at their place: its own name stays where the place is left out.
NAMED_BY_PLACE = ("folder", "csv", "hf", "wds", "voc", "coco")
# Sets of boxes, which `zoo data` and `transfer` take, and `evaluate` does not.
BOX_SETS = ("voc", "coco")
# Data sets that are part of the toolkit.
WITHOUT_PLACE = (SHAPES, "digits")

# The names that :func:`zoo.data.open_data` knows.
NAMES = tuple(name for name in KEYS if name not in BOX_SETS)
_ANY_KEY = frozenset(key for keys in KEYS.values() for key in keys)
_OPTION = re.compile(r",(\w+)=")


@dataclass(frozen=True)
class DataSpec:
    """A data set's name, where it lies, and its options.

    Attributes
    ----------
    name
        Such as ``"folder"``.
    place
        What stands between the colon and the options; empty where there is none.
    options
        Key -> value as text, in the order in which they were given.
    """

    name: str
    place: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The text that :func:`parse_spec` reads as this."""
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        if self.name == SHAPES:
            return f"{self.name}:{options}" if options else self.name
        return self.name + (f":{self.place}" if self.place else "") + (f",{options}" if options else "")

    def without_place(self) -> DataSpec:
        """The same without where it lies; of sets that are whatever lies at their place, the place's own name stays."""
        options = {key: value for key, value in self.options.items() if key not in PLACE_KEYS}
        place = self.place
        if self.name == "hf":
            place = place if not is_hub_folder(place) else PurePath(place).name
        elif self.name in NAMED_BY_PLACE:
            place = PurePath(place).name
        elif self.name in KEYS or _is_path(place):
            # Of a name that is not known, what is no path may be a setting.
            place = ""
        return replace(self, place=place, options=options)

    def with_options_of(self, claimed: DataSpec) -> DataSpec:
        """This place with the options that a claim was measured with; options that are places stay this one's.

        A set without place is its options, and stays what it is.
        """
        if self.name in WITHOUT_PLACE:
            return self
        own = {key: value for key, value in self.options.items() if key in PLACE_KEYS}
        return replace(self, options={**own, **{key: value for key, value in claimed.options.items() if key not in PLACE_KEYS}})

    def absolute(self) -> DataSpec:
        """The same with places of this machine as absolute paths, so that it means the same wherever it is read; others stay."""

        def whole(place: str) -> str:
            place = os.path.expanduser(place)
            # A pattern names nothing that is there; in a folder whose own name reads as one, it could not be told from it.
            pattern = self.name == "wds" and not set("{}[]*?") & set(os.getcwd())
            return os.path.abspath(place) if place and (pattern or os.path.exists(place)) else place

        place = whole(self.place) if self.name in KEYS and (self.name != "hf" or is_hub_folder(self.place)) else self.place
        options = {key: whole(value) if key in PLACE_KEYS else value for key, value in self.options.items()}
        return replace(self, place=place, options=options)

    def without_options(self, *keys: str) -> DataSpec:
        """The same without some options."""
        return replace(self, options={key: value for key, value in self.options.items() if key not in keys})


def parse_spec(text: str) -> DataSpec:
    """Read ``NAME[:PLACE][,KEY=VALUE...]``.

    A name that is not known is no error here (:func:`zoo.data.open_data` says it), and no place is looked at.

    Raises
    ------
    UserError
        A key that is unknown, given twice or not one of the data set's; a key without value.
    """
    name, _, rest = text.partition(":")
    if (first := _first_option(name)) is not None:
        # A claim's, without place.
        name, rest = text[: first.start()], text[first.start() :]
    if name == SHAPES:
        return DataSpec(name, "", _read_options(text, name, [item for item in rest.removeprefix(",").split(",") if item]))
    first = _first_option(rest)
    if first is None:
        return DataSpec(name, rest)
    return DataSpec(name, rest[: first.start()], _read_options(text, name, _items(rest[first.start() :])))


def check_data_word(text: str) -> None:
    """Raise UserError where ``text`` names no data set of images, or has an option that there is none of; no place is looked at."""
    if parse_spec(text).name not in NAMES:
        raise unknown_name(text)


def unknown_name(text: str) -> UserError:
    """There is no data set of that name."""
    if Path(text).expanduser().exists():
        return UserError(f"'{text}' is a path, not a data set's name; an image folder is named folder:{text}")
    name = parse_spec(text).name
    near = nearest(name, NAMES)
    if near and near == nearest(name, NAMES, cutoff=1.0):
        # The same but for capitals, '-' and '_'.
        return UserError(f"unknown data '{name}'; write {near[0]}{text[len(name) :]}")
    hint = f" (nearest: '{near[0]}')" if near else ""
    return UserError(f"unknown data '{name}'{hint}; known: {', '.join(NAMES)}")


def unknown_option(spec: DataSpec) -> str | None:
    """A hint for a place that does not exist: what looks like an option in it and is none, with the nearest key there is."""
    found = _OPTION.search(spec.place)
    return None if found is None else _no_such_key(spec.name, found[1])


def whole_number(spec: DataSpec, key: str, default: int, least: int = 0) -> int:
    """An option's value as a whole number of at least ``least``. Raises UserError for another value."""
    value = spec.options.get(key)
    if value is None:
        return default
    if not (value.isascii() and value.isdecimal() and len(value) < 19 and int(value) >= least):
        raise UserError(f"data '{spec.name}': option '{key}' takes a whole number{f' from {least} on' if least else ''}, not '{value}'")
    return int(value)


def one_of(spec: DataSpec, key: str, values: Iterable[str], default: str) -> str:
    """An option's value, one of ``values``. Raises UserError for another."""
    value = spec.options.get(key, default)
    if value not in values:
        raise UserError(f"data '{spec.name}': option '{key}' takes {' or '.join(values)}, not '{value}'")
    return value


def name_of(text: str) -> str:
    """The name of the data set that a text names, whatever its options are."""
    return re.split("[:,]", text, maxsplit=1)[0]


def without_place(text: str) -> str:
    """:meth:`DataSpec.without_place` of a text; one that cannot be read as a spec stays as it is."""
    try:
        return str(parse_spec(text).without_place())
    except UserError:
        return text


def is_hub_folder(place: str) -> bool:
    """Whether what follows ``hf:`` is a folder or file of this machine rather than a name on the Hub."""
    return place.startswith(("/", ".", "~")) or "\\" in place or (place != "" and Path(place).exists())


def _first_option(text: str) -> re.Match[str] | None:
    return next((found for found in _OPTION.finditer(text) if found[1] in _ANY_KEY), None)


def _items(text: str) -> list[str]:
    """``KEY=VALUE`` of each option of ``,KEY=VALUE,...``; a comma without a key behind it belongs to the value."""
    starts = [found.start() for found in _OPTION.finditer(text)]
    return [text[start + 1 : stop] for start, stop in zip(starts, [*starts[1:], len(text)], strict=True)]


def _read_options(text: str, name: str, items: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in items:
        key, _, value = item.partition("=")
        if name in KEYS and key not in KEYS[name]:
            raise UserError(_no_such_key(name, key))
        if not value:
            raise UserError(f"data '{text}': option '{key}' has no value; write {key}=VALUE")
        if key in options:
            raise UserError(f"data '{text}': option '{key}' is given twice")
        options[key] = value
    return options


def _no_such_key(name: str, key: str) -> str:
    known = KEYS.get(name, ())
    if not known:
        return f"data '{name}' has no options, and '{key}' was given"
    near = nearest(key, known, cutoff=0.6)
    hint = f", did you mean '{near[0]}'" if near else ""
    form = f"{name}:KEY=VALUE,..." if name == SHAPES else f"{name}:PLACE,KEY=VALUE,..."
    return f"data '{name}' has no option '{key}'{hint}; write {form} with keys {', '.join(known)}"


def _is_path(text: str) -> bool:
    return any(sign in text for sign in ("/", "\\", "~")) or text.startswith(".") or (text != "" and Path(text).exists())
