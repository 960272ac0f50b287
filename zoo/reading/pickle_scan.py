"""What a pickle asks for, found out without doing any of it.

A pickle is a program. Here it is run with every name that it mentions replaced by an inert stand-in, and with every tensor's storage
replaced by a note of its size: nothing in the file is called, and nothing is allocated for its tensors.
"""

from __future__ import annotations

import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any, Self

GETATTR = "builtins.getattr"

# Bytes of an element, by the name of torch's storage class; torch writes no others for dense tensors.
_ELEMENT_BYTES = {
    **dict.fromkeys(("ComplexDoubleStorage",), 16),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("CharStorage", "ByteStorage", "BoolStorage", "UntypedStorage", "QInt8Storage", "QUInt8Storage"), 1),
}


class StandIn:
    """In the place of a class or function that a file names: takes whatever it is given, and does nothing."""

    def __new__(cls, *_arguments: object, **_named: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_named: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


class _NotedStandIn(StandIn):
    """A stand-in that also notes whether it is called, and whether it is filled like a dictionary or like a list."""

    full_name = ""
    filled_as: type | None = None
    called = False
    attributes: set[tuple[str, str]]

    def __new__(cls, *arguments: object, **named: object) -> Self:
        cls.called = True
        if cls.full_name == GETATTR:
            cls.attributes.add(_attribute(arguments, named))
        return super().__new__(cls)

    def __setitem__(self, _key: object, _value: object) -> None:
        type(self).filled_as = dict

    def append(self, _value: object) -> None:
        type(self).filled_as = list

    def extend(self, _values: Iterable[object]) -> None:
        type(self).filled_as = list

    def add(self, _value: object) -> None: ...


def _attribute(arguments: tuple[object, ...], named: dict[str, object]) -> tuple[str, str]:
    """Of which class a call of ``getattr`` asks for which attribute; two empty texts for a call that asks for anything else."""
    if len(arguments) == 2 and not named and isinstance(arguments[1], str):
        return str(getattr(arguments[0], "full_name", "")) if isinstance(arguments[0], type) else "", arguments[1]
    return "", ""


@dataclass
class PickleScan:
    """What a pickle asks for.

    Attributes
    ----------
    names
        The full names of classes and functions, with what instances of them are filled as: ``dict``, ``list`` or None.
    storages
        Bytes of each tensor storage, by its key.
    protocol
        Of the pickle.
    called
        Those of the names that are called; the others are only mentioned.
    attributes
        What ``getattr`` is called for: the full name of a class and the attribute's name; the class is empty where it is none.
    """

    names: dict[str, type | None] = field(default_factory=dict)
    storages: dict[str, int] = field(default_factory=dict)
    protocol: int = 0
    called: frozenset[str] = frozenset()
    attributes: frozenset[tuple[str, str]] = frozenset()


class _Scanner(pickle._Unpickler):
    """Runs one pickle as this module's docstring says. In Python, not C: the C machine allocates what a pickle's indices tell it to."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.classes: dict[str, type[_NotedStandIn]] = {}
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> type[_NotedStandIn]:
        # Names of Python 2, as torch maps them.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full_name = f"{module}.{name}"
        if full_name not in self.classes:
            self.classes[full_name] = type("_Named", (_NotedStandIn,), {"full_name": full_name, "attributes": set()})
        return self.classes[full_name]

    def persistent_load(self, pid: Any) -> Any:
        # ("storage", class, key, device, number of elements[, view]); legacy files also have ("module", class, source file, source).
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            return pid[1]
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage":
            _, kind, key, _, elements = pid[:5]
            name = str(getattr(kind, "full_name", "")).rpartition(".")[2]
            if not isinstance(elements, int) or elements < 0:
                raise pickle.UnpicklingError(f"a storage of {elements!r} elements")
            self.storages[str(key)] = max(self.storages.get(str(key), 0), elements * _ELEMENT_BYTES.get(name, 1))
        return StandIn()


def scan_pickle(file: IO[bytes]) -> PickleScan:
    """What the pickle at the file's position asks for; the position is behind it then.

    Raises whatever a damaged pickle makes Python raise.
    """
    scanner = _Scanner(file)
    scanner.load()
    names = {name: kind.filled_as for name, kind in scanner.classes.items()}
    called = frozenset(name for name, kind in scanner.classes.items() if kind.called)
    getattr_ = scanner.classes.get(GETATTR)
    attributes = frozenset(getattr_.attributes) if getattr_ else frozenset()
    return PickleScan(names, scanner.storages, int(getattr(scanner, "proto", 0)), called, attributes)


def stand_in(filled_as: type | None) -> Callable[..., object]:
    """A new inert class for one name, which torch's own restricted reader can fill as the scan saw it filled."""
    if filled_as is dict:
        # torch fills plain dictionaries only, so an instance is one.
        return type("StandInDict", (), {"__new__": lambda _cls, *_arguments: OrderedDict()})
    if filled_as is list:
        return type("StandInList", (list,), {"__new__": lambda cls, *_arguments: list.__new__(cls), "__init__": StandIn.__init__})
    return type("StandInObject", (StandIn,), {})
