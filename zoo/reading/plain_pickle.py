"""Reading pickles of plain values and NumPy arrays without running what else a pickle may say.

A pickle is a program: it names functions and says what to call them with. Here the few names that plain data needs lead to classes
of this module, which hold what the pickle says about an array; the arrays are made of that afterwards, by checked calls. Any
other name ends the reading before anything is called.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import UserError, first_line
from zoo.reading.budget import BudgetError, check_structure
from zoo.reading.outside import open_file
from zoo.reading.pickle_machine import PickleMachine

# Booleans, signed and unsigned integers, floating point: no objects, no records.
_NUMBER_KINDS = "biuf"
_LONGEST_CODE = 16  # of a number type, such as "f4" or "float64"


class _Dtype:
    """What a pickle says of a number type."""

    def __init__(self, code: object, *_flags: object) -> None:
        if not isinstance(code, str) or len(code) > _LONGEST_CODE:
            raise pickle.UnpicklingError("an array whose type is none")
        self.dtype = np.dtype(code)
        if self.dtype.kind not in _NUMBER_KINDS:
            raise pickle.UnpicklingError(f"an array of the type '{code}'")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """What a pickle says of an array: the state that ``numpy.ndarray.__reduce__`` gives."""

    def __init__(self, *_empty: object) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.values = _from_bytes(data, dtype, shape, "F" if fortran else "C").values

    @classmethod
    def of(cls, values: NDArray[Any]) -> _Array:
        array = cls()
        array.values = values
        return array


def _from_bytes(data: bytes | str, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    # Python 2 wrote an array's bytes as text.
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, (bytes, bytearray)) or not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("an array without bytes, type or shape")
    values = np.frombuffer(raw, dtype.dtype)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return _Array.of(values.reshape(shape, order="F" if order == "F" else "C"))


def _text_to_bytes(text: str, encoding: str) -> bytes:
    """What protocol 2 has for bytes: text, and the instruction to encode it."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError("bytes in another encoding than latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """What protocol 2 has for empty bytes: a call without arguments."""
    return b""


class _ForbiddenError(Exception):
    """A pickle names something that is neither a plain value nor an array."""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _text_to_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    # NumPy 2 renamed the module that holds these.
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_bytes for core in ("core", "_core")},
}


class _PlainMachine(PickleMachine):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _ForbiddenError(f"{module}.{name}") from None


def _plain(value: Any) -> Any:
    """``value`` with its arrays in place of what the pickle says of them. Its containers are not nested deep (:func:`check_structure`)."""
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(inner) for inner in value)
    return value


def load_plain_pickle(path: Path) -> Any:
    """The content of a pickle made of plain values (numbers, text, lists, tuples, dicts) and arrays of numbers.

    Text of Python 2 is read as latin-1.

    Raises
    ------
    UserError
        The file is missing or damaged, names any other function or class, or asks for more steps or memory than its bytes are worth;
        nothing of the kind has been called then.
    """
    try:
        with open_file(path) as file:
            value = _PlainMachine(file, os.fstat(file.fileno()).st_size).load()
        check_structure(value)
        return _plain(value)
    except FileNotFoundError:
        raise UserError(f"file {path} is missing") from None
    except OSError as error:
        raise UserError(f"file {path} cannot be read ({error.strerror or error})") from error
    except BudgetError as error:
        raise UserError(f"file {path} is not read: {error}; no data needs that, so do not trust it") from error
    except _ForbiddenError as error:
        raise UserError(f"file {path} asks to call '{error}', which data has no use for; nothing was run: do not trust it") from None
    except MemoryError as error:
        raise UserError(f"file {path} needs more memory than there is") from error
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"file {path} is no readable pickle ({first_line(error)}); get it again") from error
