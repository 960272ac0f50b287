"""What a pickle asks for, found out without doing any of it.

A pickle is a program. Here it is run, within budgets (:mod:`zoo.reading.pickle_machine`), with every name that it mentions replaced by an
inert stand-in, and with every tensor's storage replaced by a note of its size: nothing in the file is called, and nothing is allocated for
its tensors. What torch's restricted reader would call is looked at, since it calls with whatever it is given: ``bytearray(10**12)``, a
tensor that is larger than its storage, a dictionary of keys whose hash takes years.
"""

from __future__ import annotations

import math
import pickle
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any, Self

from zoo.reading.budget import BudgetError
from zoo.reading.pickle_machine import PickleMachine

GETATTR = "builtins.getattr"

# Bytes of an element, by the name of torch's storage class; torch writes no others for dense tensors.
_ELEMENT_BYTES = {
    **dict.fromkeys(("ComplexDoubleStorage",), 16),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("CharStorage", "ByteStorage", "BoolStorage", "UntypedStorage", "QInt8Storage", "QUInt8Storage"), 1),
}
# Classes and functions that one file may name; each is a class here. Dimensions of a tensor.
_MOST_NAMES, _MOST_DIMENSIONS = 2_000, 64
# What all tensors may hold together, for each byte of the storages: some are tied or share a storage, and few are expanded.
_MOST_EXPANSION, _SMALL_TENSORS = 16, 64 << 20
# Beside those below, what torch's restricted reader has functions of its own for, and calls.
_OF_TORCH = re.compile(r"torch\._utils\._rebuild_\w+|torch\._tensor\.\w+|torch\.serialization\.\w+|torch(\.\w+)*\.\w*(Tensor|Storage)")


class StandIn:
    """In the place of a class or function that a file names: takes whatever it is given, and does nothing."""

    def __new__(cls, *_arguments: object, **_named: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_named: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


class _Storage(StandIn):
    """In the place of a tensor's storage: its bytes, and those of an element."""

    bytes = 0
    element = 1


class _NotedStandIn(StandIn):
    """A stand-in that also notes whether it is called, and whether it is filled like a dictionary or like a list."""

    scanner: _Scanner
    full_name = ""
    filled_as: type | None = None
    called = False
    attributes: set[tuple[str, str]]

    def __new__(cls, *arguments: Any, **named: object) -> Any:
        cls.called = True
        if cls.full_name == GETATTR:
            cls.attributes.add(_attribute(arguments, named))
        if cls.full_name == "torch.Size" and len(arguments) == 1 and isinstance(arguments[0], (tuple, list)):
            return tuple(arguments[0])
        cls.scanner.check_call(cls.full_name, arguments)
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None:
        # torch fills a tensor by what stands here, which may be larger than its storage; torch.save writes no such instruction.
        if _OF_TORCH.fullmatch(self.full_name) or self.full_name == "torch.nn.parameter.Parameter":
            self.scanner.refused.add(self.full_name)

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
    refused
        Functions of torch that are called and that make no plain dense tensor, or in a way that torch.save does not write.
    """

    names: dict[str, type | None] = field(default_factory=dict)
    storages: dict[str, int] = field(default_factory=dict)
    protocol: int = 0
    called: frozenset[str] = frozenset()
    attributes: frozenset[tuple[str, str]] = frozenset()
    refused: frozenset[str] = frozenset()


class _Scanner(PickleMachine):
    """Runs one pickle as this module's docstring says."""

    def __init__(self, file: IO[bytes], left: int) -> None:
        super().__init__(file, left)
        self.classes: dict[str, type[_NotedStandIn]] = {}
        self.storages: dict[str, int] = {}
        self.refused: set[str] = set()
        self.tensor_bytes = 0

    def find_class(self, module: str, name: str) -> type[_NotedStandIn]:
        # Names of Python 2, as torch maps them.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full_name = f"{module}.{name}"
        if full_name not in self.classes:
            if len(self.classes) >= _MOST_NAMES:
                raise BudgetError(f"it names more than {_MOST_NAMES:,} classes and functions")
            self.classes[full_name] = type("_Named", (_NotedStandIn,), {"full_name": full_name, "attributes": set(), "scanner": self})
        return self.classes[full_name]

    def persistent_load(self, pid: Any) -> Any:
        # ("storage", class, key, device, number of elements[, view]); legacy files also have ("module", class, source file, source).
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            return pid[1]
        storage = _Storage()
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage":
            _, kind, key, device, elements = pid[:5]
            name = str(getattr(kind, "full_name", "")).rpartition(".")[2]
            if type(elements) is not int or elements < 0:
                raise pickle.UnpicklingError("a storage whose number of elements is none")
            if not isinstance(key, (str, int)) or not isinstance(device, str):
                raise pickle.UnpicklingError("a storage whose key or device is no text")
            storage.element = _ELEMENT_BYTES.get(name, 1)
            storage.bytes = elements * storage.element
            self.storages[str(key)] = max(self.storages.get(str(key), 0), storage.bytes)
        return storage

    def check_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Raise where torch's restricted reader would be led by ``arguments`` to take time or memory that the file has no bytes for."""
        if name in ("collections.OrderedDict", "collections.Counter", "builtins.set"):
            for values in arguments:
                if isinstance(values, (list, tuple)):
                    pairs = name == "collections.OrderedDict"
                    self.check_keys(item[0] if pairs and isinstance(item, (list, tuple)) and item else item for item in values)
        elif name == "_codecs.encode":
            if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] not in ("latin1", "latin-1"):
                raise pickle.UnpicklingError("bytes in another encoding than latin1")
        elif name == "builtins.bytearray":
            if arguments and not isinstance(arguments[0], (bytes, str, list, _NotedStandIn)):
                raise pickle.UnpicklingError("a bytearray that is made of something else than bytes")
        elif name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            self._check_tensor(*arguments[:4])
        elif name == "torch._tensor._rebuild_from_type_v2":
            function, _, inner = arguments[:3] if len(arguments) >= 3 else (None, None, ())
            if not (isinstance(function, type) and issubclass(function, _NotedStandIn) and isinstance(inner, tuple)):
                raise pickle.UnpicklingError("a tensor of a type without a function that makes it")
            self.spend(*inner)
            function(*inner)
        elif name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            pass
        elif _OF_TORCH.fullmatch(name):
            self.refused.add(name)

    def _check_tensor(self, storage: Any = None, offset: Any = None, size: Any = None, stride: Any = None) -> None:
        numbers = [offset, *size, *stride] if isinstance(size, (tuple, list)) and isinstance(stride, (tuple, list)) else [None]
        if len(numbers) > 2 * _MOST_DIMENSIONS + 1 or not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
            raise pickle.UnpicklingError("a tensor whose size is none")
        if not isinstance(storage, _Storage) or len(size) != len(stride):
            raise pickle.UnpicklingError("a tensor without a storage")
        elements = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if elements and (last + 1) * storage.element > storage.bytes:
            raise BudgetError(f"a tensor in it of {elements:,} elements reaches beyond its storage of {storage.bytes:,} bytes")
        self.tensor_bytes += elements * storage.element

    def check_tensors(self) -> None:
        """Raise BudgetError where the tensors together stand for far more than the storages have."""
        stored = sum(self.storages.values())
        if self.tensor_bytes > _MOST_EXPANSION * stored + _SMALL_TENSORS:
            raise BudgetError(f"its tensors share {stored:,} bytes of storage and stand for {self.tensor_bytes:,}")


def scan_pickle(file: IO[bytes], left: int) -> PickleScan:
    """What the pickle at the file's position asks for, ``left`` bytes before the file's end; the position is behind the pickle then.

    Raises BudgetError, and whatever a damaged pickle makes Python raise.
    """
    scanner = _Scanner(file, left)
    scanner.load()
    scanner.check_tensors()
    names = {name: kind.filled_as for name, kind in scanner.classes.items()}
    called = frozenset(name for name, kind in scanner.classes.items() if kind.called)
    getattr_ = scanner.classes.get(GETATTR)
    attributes = frozenset(getattr_.attributes) if getattr_ else frozenset()
    return PickleScan(names, scanner.storages, int(scanner.proto), called, attributes, frozenset(scanner.refused))


def stand_in(filled_as: type | None) -> Callable[..., object]:
    """A new inert class for one name, which torch's own restricted reader can fill as the scan saw it filled."""
    if filled_as is dict:
        # torch fills plain dictionaries only, so an instance is one.
        return type("StandInDict", (), {"__new__": lambda _cls, *_arguments: OrderedDict()})
    if filled_as is list:
        return type("StandInList", (list,), {"__new__": lambda cls, *_arguments: list.__new__(cls), "__init__": StandIn.__init__})
    return type("StandInObject", (StandIn,), {})
