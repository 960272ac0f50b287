"""A machine that runs pickles within budgets: what a few bytes ask for costs no more than a few bytes.

It is Python's own in Python, not in C: the C machine allocates what a pickle's indices tell it to (nine bytes take 4 GB). What is added:
no more is read than there is, each step and each argument of a call is counted, and keys are looked at before they are hashed, since the
hash of sixty tuples in each other takes 2**60 steps and numbers can be chosen that all have one hash.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from typing import IO, Any, ClassVar

from zoo.reading.budget import BudgetError

# Instructions of one pickle. A list of all labels of ImageNet has 1.3 million; one instruction takes about a microsecond and at most
# 200 bytes.
MOST_STEPS = 2_500_000
# Bytes and items that calls are given, for each byte of the file. What is given was written once, and seldom given again.
_WORK_A_BYTE, _WORK = 8, 1_000_000
# Keys other than text and small numbers, and members of one tuple that is a key.
_MOST_ODD_KEYS, _MOST_MEMBERS = 10_000, 100
_SMALL = 1 << 31
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
# Steps that an instruction counts as, for the memory of what it makes.
_STEPS = {pickle.EMPTY_SET[0]: 4, pickle.FROZENSET[0]: 4, pickle.EMPTY_DICT[0]: 2}


class _Within:
    """A file of which no more is read than it has."""

    def __init__(self, file: IO[bytes], left: int) -> None:
        self.file, self.left = file, left

    def read(self, count: int) -> bytes:
        if count > self.left:
            raise EOFError("it ends in the middle of a pickle")
        data = self.file.read(count)
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        data = self.file.readline(max(0, self.left))
        self.left -= len(data)
        return data


class _Counted(dict[int, Callable[[Any], None]]):
    """The instructions, each counted as it is looked up to be carried out."""

    left = MOST_STEPS

    def __getitem__(self, key: int) -> Callable[[Any], None]:
        self.left -= _STEPS.get(key, 1)
        if self.left < 0:
            raise BudgetError(f"a pickle in it has more than {MOST_STEPS:,} instructions")
        try:
            return super().__getitem__(key)
        except KeyError:
            raise pickle.UnpicklingError(f"a pickle has no instruction {key}") from None


# Its instructions are methods that the types of the standard library do not tell of.
_Python: Any = pickle._Unpickler


class PickleMachine(_Python):
    """Runs one pickle. Names lead to what ``find_class`` of a subclass gives, which must be harmless to call.

    Parameters
    ----------
    file
        At the pickle; behind it afterwards.
    left
        Bytes that the file has from there on.
    """

    def __init__(self, file: IO[bytes], left: int) -> None:
        # Bytes in memory give no more than there are by themselves.
        within = file if isinstance(file, io.BytesIO) else _Within(file, left)
        super().__init__(within, encoding="latin1")  # text of Python 2, which may be bytes
        self.work = _WORK_A_BYTE * left + _WORK
        self.odd_keys = 0
        # Of few bytes there are few instructions.
        self.dispatch = self._INSTRUCTIONS if left * max(_STEPS.values()) <= MOST_STEPS else _Counted(self._INSTRUCTIONS)

    def spend(self, *given: object) -> None:
        """Count what a call is given. Raises BudgetError where it is too much."""
        for value in given:
            self.work -= len(value) if isinstance(value, _SIZED) else 1
        if self.work < 0:
            raise BudgetError("a pickle in it gives the same large values to calls again and again")

    def check_key(self, key: Any) -> None:
        """Raise where ``key`` should not be hashed: it is no plain value, or an odd one of too many."""
        kind = type(key)
        if kind is str or kind is bool or key is None or (kind is int and -_SMALL < key < _SMALL):
            return
        self.odd_keys += 1
        if self.odd_keys > _MOST_ODD_KEYS:
            raise BudgetError(f"more than {_MOST_ODD_KEYS:,} keys in it are neither text nor small numbers")
        left, members = _MOST_MEMBERS, [key]
        while members:
            member = members.pop()
            left -= 1
            if left < 0:
                raise BudgetError(f"a key in it is made of more than {_MOST_MEMBERS} values")
            if isinstance(member, tuple):
                members += member[: left + 1]
            elif isinstance(member, (dict, list, set, frozenset, bytearray)):
                raise pickle.UnpicklingError(f"a key of the type {type(member).__name__}")

    def check_keys(self, keys: Iterable[Any]) -> None:
        for key in keys:
            self.check_key(key)

    def _reduce(self) -> None:
        arguments = self.stack[-1]
        self.spend(arguments, *arguments)
        self.load_reduce()

    def _newobj(self) -> None:
        arguments = self.stack[-1]
        self.spend(arguments, *arguments)
        self.load_newobj()

    def _newobj_ex(self) -> None:
        named, arguments = self.stack[-1], self.stack[-2]
        self.check_keys(named)
        self.spend(named, arguments, *arguments)
        self.load_newobj_ex()

    def _inst(self) -> None:
        self.spend(*self.stack)
        self.load_inst()

    def _obj(self) -> None:
        self.spend(*self.stack)
        self.load_obj()

    def _build(self) -> None:
        state = self.stack[-1]
        self.spend(state, *(state if isinstance(state, tuple) else ()))
        self.load_build()

    def _setitem(self) -> None:
        self.check_key(self.stack[-2])
        self.load_setitem()

    def _setitems(self) -> None:
        self.check_keys(self.stack[::2])
        self.load_setitems()

    def _dict(self) -> None:
        self.check_keys(self.stack[::2])
        self.load_dict()

    def _additems(self) -> None:
        self.check_keys(self.stack)
        self.load_additems()

    def _frozenset(self) -> None:
        self.check_keys(self.stack)
        self.load_frozenset()

    def _bytearray8(self) -> None:
        count = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(count)))

    _INSTRUCTIONS: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_Python.dispatch,
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _newobj,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.INST[0]: _inst,
        pickle.OBJ[0]: _obj,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _setitem,
        pickle.SETITEMS[0]: _setitems,
        pickle.DICT[0]: _dict,
        pickle.ADDITEMS[0]: _additems,
        pickle.FROZENSET[0]: _frozenset,
        pickle.BYTEARRAY8[0]: _bytearray8,
    }
