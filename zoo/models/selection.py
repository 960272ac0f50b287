"""Taking a network's tensors out of a file by hand: where they lie, what stands in front of their names, what they are called.

What ``--key``, ``--prefix``, ``--rename`` and ``--drop`` say, for every command that reads somebody's file. Works on names alone; free of
torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import UserError, some_of

KEY_HELP = "The keys that lead to the network's tensors in the file, with dots between them (state.model)."
PREFIX_HELP = "What the names of the network's tensors begin with (student.backbone.)."
RENAME_HELP = "Pattern and replacement for names without the prefix, wherever it matches; may be given several times."
TRUST_HELP = "Read a file that names unknown classes, with empty stand-ins for them. Nothing in it is run even so."
HEADS_HELP = "Attention heads of a vision transformer in a checkpoint file; without it, timm's number unless the file tells."
NORM_EPS_HELP = "Epsilon of a vision transformer's norms in a checkpoint file (1e-12, 1e-6, ...); without it, what the file's layout tells."
STEM_PADDING_HELP = "Padding of conv1 in the small-image stem of a ResNet in a checkpoint file: 1, or 2 as solo-learn has it."
DROP_HELP = "Leave out tensors whose names match this pattern anywhere; may be given several times."

# Where a state dict lies in a file: the keys that lead to it; () is the file's own dictionary.
Place = tuple[str, ...]
# What wrapping a network in DataParallel, DistributedDataParallel or torch.compile puts in front of every name.
_WRAPPERS = ("module.", "_orig_mod.")
_DEPTH = 4  # of the dictionaries in each other that layouts have
_NAMES_IN_MESSAGE = 4


class CollisionError(ValueError):
    """Two tensors of a network would have one name in the backbone."""


@dataclass(frozen=True)
class Selection:
    """Which tensors of a file are a network's, as its user says.

    Attributes
    ----------
    key
        The keys that lead to the state dict, with dots between them (``"state.model"``); None: the only one that has the prefix.
    prefix
        What the network's names begin with, with or without the ``module.`` or ``_orig_mod.`` that stands before all names.
    renames
        Pattern and replacement (:func:`re.sub`, wherever they match in a name without the prefix), one after the other.
    drop
        Patterns of names without the prefix, after the renames, that are left out (:func:`re.search`).
    """

    key: str | None = None
    prefix: str = ""
    renames: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Selection()

    def name(self, inner: str) -> str:
        """What a tensor is called in the network: its name without the prefix, renamed."""
        for pattern, replacement in self.renames:
            inner = re.sub(pattern, replacement, inner)
        return inner

    def drops(self, name: str) -> bool:
        """Whether a tensor of this name is left out."""
        return any(re.search(pattern, name) for pattern in self.drop)


@dataclass(frozen=True)
class Hints:
    """What the user says of a network's function that its tensors' names and shapes do not (:mod:`zoo.formats.function`).

    Attributes
    ----------
    heads
        Attention heads of a vision transformer.
    norm_eps
        Epsilon of its norms.
    stem_padding
        Padding of conv1 in the small-image stem, in pixels.
    """

    heads: int | None = None
    norm_eps: float | None = None
    stem_padding: int | None = None

    def __bool__(self) -> bool:
        return self != Hints()


@dataclass(frozen=True)
class StateDict:
    """One dictionary of tensors in a file.

    Attributes
    ----------
    place
        The keys that lead to it.
    wrapper
        What was taken off the front of every name.
    tensors
        By what is left of their names.
    """

    place: Place
    wrapper: str
    tensors: Mapping[str, Any]


def read_selection(
    key: str | None = None, prefix: str | None = None, renames: Sequence[str] | None = None, drop: Sequence[str] | None = None
) -> Selection:
    """What the options ``--key``, ``--prefix``, ``--rename A=B`` and ``--drop RE`` say.

    Raises UserError for a rename without ``=`` and for what is no regular expression.
    """
    pairs = []
    for text in renames or ():
        pattern, equals, replacement = text.partition("=")
        if not equals or not pattern:
            raise UserError(f"--rename takes 'PATTERN=REPLACEMENT', and '{text}' is not that")
        pairs.append((_pattern("--rename", pattern, replacement), replacement))
    return Selection(key, prefix or "", tuple(pairs), tuple(_pattern("--drop", pattern) for pattern in drop or ()))


def _pattern(option: str, pattern: str, replacement: str = "") -> str:
    try:
        re.compile(pattern)
        # A group that the pattern does not have shows only where something matches.
        re.sub(f"(?:{pattern})|", replacement if "\\" in replacement else "", "")
    except (re.error, IndexError) as error:
        text = f"{pattern}={replacement}" if replacement else pattern
        raise UserError(f"{option} takes a regular expression, and '{text}' is none ({error})") from error
    return pattern


def is_tensor(value: object) -> bool:
    """Whether ``value`` is a tensor, without importing torch."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "untyped_storage")


def state_dict_at(content: Any, place: Place) -> StateDict | None:
    """The dictionary of tensors at ``place``, its names unwrapped; None where there is none, or where it holds something else too."""
    for key in place:
        content = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or not content:
        return None
    if not all(isinstance(name, str) and is_tensor(value) for name, value in content.items()):
        return None
    wrapper = ""
    names = dict(content)
    while (front := _common_wrapper(names)) is not None:
        names = {name.removeprefix(front): value for name, value in names.items()}
        wrapper += front
    return StateDict(place, wrapper, names)


def _common_wrapper(names: Mapping[str, Any]) -> str | None:
    return next((front for front in _WRAPPERS if all(name.startswith(front) and name != front for name in names)), None)


def state_dicts(content: Any, place: Place = ()) -> Iterator[StateDict]:
    """Every dictionary of tensors in a file, to the depth that layouts have."""
    state = state_dict_at(content, place) if len(place) <= _DEPTH else None
    if state is not None:
        yield state
        return
    inner = content
    for key in place:
        inner = inner[key]
    if isinstance(inner, Mapping) and len(place) < _DEPTH:
        for key, value in inner.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from state_dicts(content, (*place, key))


def spell(place: Place) -> str:
    """A place in words."""
    return "'" + ".".join(place) + "'" if place else "the file's own dictionary"


def selected(source: str, content: Any, selection: Selection) -> tuple[StateDict, str]:
    """The state dict that a selection is about, and its prefix without the wrapper.

    Raises UserError that begins with ``source``: there is no such state dict, no name with the prefix, or several that have it.
    """
    states = list(state_dicts(content))
    if selection.key is not None:
        states = [state for state in states if ".".join(state.place) == selection.key]
        if not states:
            known = [spell(state.place) for state in state_dicts(content)]
            raise UserError(f"{source} has no dictionary of tensors at '{selection.key}'; it has: {', '.join(known) or 'none'}")
    fitting = [(state, front) for state in states if (front := _front(state, selection.prefix)) is not None]
    if not fitting:
        fronts = {name.partition(".")[0] + "." for state in states for name in state.tensors}
        raise UserError(
            f"{source} has no tensor whose name begins with '{selection.prefix}'; names in it begin with "
            + (some_of(sorted(fronts), _NAMES_IN_MESSAGE) if fronts else "nothing, since it holds no dictionary of tensors")
        )
    if len(fitting) > 1:
        places = " or ".join(f"--key {'.'.join(state.place)}" for state, _ in fitting)
        raise UserError(f"{source} has several dictionaries of tensors with the prefix '{selection.prefix}': choose with {places}")
    return fitting[0]


def _front(state: StateDict, prefix: str) -> str | None:
    """The prefix as it stands before the unwrapped names, where there are such names."""
    candidates = [prefix] + ([prefix.removeprefix(state.wrapper)] if state.wrapper and prefix.startswith(state.wrapper) else [])
    return next((front for front in candidates if any(name.startswith(front) and name != front for name in state.tensors)), None)
