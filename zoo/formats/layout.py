"""Finding a layout's state dict in a file, and one network's tensors in the state dict. Works on names alone; free of torch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.formats.reader import Part, Reader
from zoo.models.selection import CollisionError, Place, StateDict, is_tensor, spell, state_dict_at

# Attributes that say what a key's value is, to a person.
_KIND_NAMES = {"StandInObject": "an object", "StandInList": "an object", "OrderedDict": "dict"}


@dataclass(frozen=True)
class Found:
    """One network of a layout, found in a file.

    Attributes
    ----------
    part
        Which network of the layout.
    state
        The state dict that it is part of.
    prefix
        What its names begin with, after the wrapper.
    names
        The name of each tensor, by what a backbone calls it.
    dropped
        Names inside the network that are not of the backbone.
    others
        Names outside the network that the layout is known to have.
    unknown
        Names outside the network that it is not known to have.
    """

    part: Part
    state: StateDict
    prefix: str
    names: Mapping[str, str]
    dropped: tuple[str, ...]
    others: tuple[str, ...]
    unknown: tuple[str, ...]

    def mapping(self) -> tuple[Place, tuple[tuple[str, str], ...]]:
        """What it takes from where; two layouts with equal mappings give the same tensors."""
        return self.state.place, tuple(sorted(self.names.items()))


def parts_in(reader: Reader, content: Mapping[str, Any]) -> tuple[Part, ...]:
    """The networks of a layout; those of our own checkpoints stand in the file."""
    if reader.parts:
        return reader.parts
    encoders = content.get("encoders")
    if not isinstance(encoders, Mapping):
        return ()
    return tuple(Part(str(name), (("model",),), (str(prefix),)) for name, prefix in encoders.items() if isinstance(prefix, str))


def find_part(reader: Reader, part: Part, content: Any) -> Found | None:
    """One network of a layout in a file; None where it is not there.

    Raises CollisionError where the layout's renaming gives two tensors one name.
    """
    for place in part.places:
        state = state_dict_at(content, place)
        if state is None:
            continue
        for prefix in part.prefixes:
            if any(name.startswith(prefix) for name in state.tensors):
                return take(reader, part, state, prefix)
    return None


def take(reader: Reader, part: Part, state: StateDict, prefix: str) -> Found:
    names: dict[str, str] = {}
    dropped: list[str] = []
    others: list[str] = []
    unknown: list[str] = []
    for name in state.tensors:
        if not name.startswith(prefix):
            (others if _any(reader.others, name) else unknown).append(name)
            continue
        inner = name.removeprefix(prefix)
        if _any(reader.drop, inner):
            dropped.append(name)
            continue
        target = _renamed(reader, inner)
        if target in names:
            raise CollisionError(f"'{names[target]}' and '{name}' would both be '{target}'")
        names[target] = name
    return Found(part, state, prefix, names, tuple(dropped), tuple(others), tuple(unknown))


def _renamed(reader: Reader, name: str) -> str:
    for pattern, replacement in reader.renames:
        match = re.match(pattern, name)
        if match:
            return match.expand(replacement) + name[match.end() :]
    return name


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return any(re.match(pattern, name) for pattern in patterns)


def misfit(reader: Reader, content: Any) -> str | None:
    """Why a file is not of a layout; None where it is."""
    outer = content if isinstance(content, Mapping) else {}
    for key in reader.beside:
        if key not in outer:
            return f"it has no '{key}'"
    for key in reader.without:
        if key in outer:
            return f"it has '{key}'"
    found = None
    for part in parts_in(reader, outer):
        try:
            found = find_part(reader, part, content)
        except CollisionError as error:
            return str(error)
        if found is not None:
            break
    if found is None:
        looked = dict.fromkeys(
            f"{spell(place)} under '{prefix}'" for part in parts_in(reader, outer) for place in part.places for prefix in part.prefixes
        )
        return f"it has no tensors in {' or '.join(looked) or 'its place'}"
    tensors = found.state.tensors
    for pattern in reader.needs:
        if not any(re.match(pattern, name) for name in tensors):
            return f"no tensor is called like '{pattern}'"
    for pattern in reader.lacks:
        other = next((name for name in tensors if re.match(pattern, name)), None)
        if other is not None:
            return f"it has '{other}'"
    for pattern, shape in reader.shapes.items():
        fitting = [tuple(tensor.shape) for name, tensor in tensors.items() if re.match(pattern, name)]
        if not any(len(found_) == len(shape) and all(w in (None, f) for w, f in zip(shape, found_, strict=True)) for found_ in fitting):
            return f"no '{pattern}' has the shape {['any' if side is None else side for side in shape]}"
    return None


def evidence(reader: Reader, found: Found) -> str:
    """What a file was recognised by, in words."""
    wrapper = f", every name behind '{found.state.wrapper}'" if found.state.wrapper else ""
    marks = []
    for pattern in reader.needs:
        mark = next((name for name in found.state.tensors if re.match(pattern, name)), None)
        if mark is not None:
            marks.append(f"'{mark}'")
    marks += [f"'{key}' beside it" for key in reader.beside]
    marks += [
        f"'{pattern.rstrip('$')}' of shape {['any' if side is None else side for side in shape]}"
        for pattern, shape in reader.shapes.items()
    ]
    names = f"the {found.part.encoder} network under '{found.prefix}'" if found.prefix else "nothing in front of the names"
    return f"{spell(found.state.place)}{wrapper}, {names}" + (f"; it has {', '.join(marks)}" if marks else "")


def import_command(path: object, **options: str | None) -> str:
    """The command that would read a file with these options (without their dashes), for a message; None and "" are left out."""
    words = [word for option, value in options.items() if value for word in (f"--{option}", shlex.quote(value))]
    return " ".join(["zoo import", shlex.quote(str(path)), "--out DIR", *words])


def outline(content: Any) -> str:
    """What a file holds, in words: for the one who must find out what it is."""
    if not isinstance(content, Mapping):
        return f"it holds {_kind(content)}"
    shown = [f"{name!r}: {_kind(value)}" for name, value in list(content.items())[:8]]
    return "it holds " + (", ".join(shown) + (f" and {len(content) - len(shown)} more" if len(content) > len(shown) else "") or "nothing")


def _kind(value: object) -> str:
    if is_tensor(value):
        return f"tensor {list(value.shape)}"  # type: ignore[attr-defined]
    if isinstance(value, Mapping):
        return f"dict of {len(value)}"
    return _KIND_NAMES.get(type(value).__name__, type(value).__name__)
