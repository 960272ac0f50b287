"""The gate for small files that others wrote: bytes, text and JSON become typed values here, or a sentence. Imports no torch.

Whatever else may stand in such a file (another type, NaN, 1e400, brackets 100,000 deep, bytes that are no UTF-8, a key that stands
twice) and whatever else may lie in its place (a pipe, a device, a file of many gigabytes) ends in one sentence that names the file and
the place in it.

msgspec is imported when something is read: steps, kNN and k-means on images that lie in memory do without it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar, Union, get_args, get_origin, get_type_hints

from zoo.errors import UserError
from zoo.ranges import Range

T = TypeVar("T")
# COCO's annotations of the training images, the largest text file that is read whole, have 450 MB.
MOST_TEXT_BYTES = 2 << 30
# What describes a model, a result or a run: the largest of them, results with a table for each image, have tens of megabytes.
MOST_RECORD_BYTES = 256 << 20
# Brackets in each other that a record may have: writers of JSON go down into them, and end in a RecursionError far deeper.
_MOST_DEPTH = 64
_SHOWN = 60
# In JSON, half of a character: what Python makes of a byte in a file's name that is no UTF-8.
_HALF = re.compile(rb"\\u[dD][cC][89a-fA-F]")
_OTHER_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def open_file(path: str | Path) -> BinaryIO:
    """Open a file to read it.

    Raises OSError, also for what is no file: to open a pipe may wait for ever, and a device may have no end.
    """
    _check_kind(path, os.stat(path).st_mode)
    # Should a pipe take the file's place in this moment, it is not waited for.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115 (the caller's)
    try:
        _check_kind(path, os.fstat(file.fileno()).st_mode)
    except OSError:
        file.close()
        raise
    return file


def _check_kind(path: str | Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file", str(path))


def read_bytes(path: str | Path, most: int = MOST_TEXT_BYTES) -> bytes:
    """The content of a file. Raises UserError where it cannot be read, and where it has more than ``most`` bytes."""
    try:
        with open_file(path) as file:
            data = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
            # What grows, or does not say how long it is, is read on.
            if len(data) <= most and (more := file.read(most + 1 - len(data))):
                data += more
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    if len(data) > most:
        raise UserError(f"{path} is not read: it has more than {most} bytes, far more than such a file needs")
    return data


def read_text(path: str | Path, most: int = MOST_TEXT_BYTES) -> str:
    """The text of a file in UTF-8, with or without a byte order mark. Raises UserError where it is none."""
    data = read_bytes(path, most)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error


def read_json(path: str | Path, kind: type[T], form: str = "") -> T:
    """A JSON file as ``kind``.

    Parameters
    ----------
    kind
        A type as msgspec takes it: a Struct, or ``dict[str, list[str]]``.
    form
        What the file must look like, for the message.

    Raises
    ------
    UserError
        The file cannot be read, is no JSON, or something in it is of another type.
    """
    return typed_json(read_bytes(path), kind, str(path), form)


def typed_json(data: bytes | bytearray | memoryview, kind: type[T], where: str, form: str = "") -> T:
    """JSON as ``kind``; ``where`` is its file, and ``form`` what it must look like, for the message. Raises UserError."""
    import msgspec

    must = f"; it must have the form {form}" if form else ""
    if bytes(data[:3]) == b"\xef\xbb\xbf":
        data = memoryview(data)[3:]
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_place_first(str(error))}{must}") from error
    except msgspec.DecodeError as error:
        raise UserError(f"{where} is not valid JSON ({error}){must}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not valid JSON (byte {error.start} is not UTF-8){must}") from error
    except RecursionError as error:
        raise UserError(f"{where} is not read: its brackets are nested too deep{must}") from error


def typed(value: Any, kind: type[T], where: str) -> T:
    """A value out of such a file as ``kind``. Raises UserError that begins with ``where``."""
    import msgspec

    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_place_first(str(error))}") from error


def read_record(path: str | Path, form: str = "") -> dict[str, Any]:
    """The JSON object in a file that describes a model, a result or a run: :func:`record_of` its bytes.

    Raises UserError where the file cannot be read, and what :func:`record_of` raises.
    """
    return record_of(read_bytes(path, MOST_RECORD_BYTES), str(path), form)


def record_of(data: bytes, where: str, form: str = "") -> dict[str, Any]:
    """A JSON object of any content, which can be written as JSON again, and which every reader of JSON reads alike.

    Parameters
    ----------
    where, form
        As in :func:`typed_json`.

    Raises
    ------
    UserError
        No JSON object; more than 64 brackets in each other; a key that stands twice in an object; a number that no float holds.
    """
    value = _with_halves(data) if _HALF.search(data) else None
    if value is None:
        value = typed_json(data, dict[str, Any], where, form)
    _check_values(value, where)
    try:
        check_repetition(data)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    return value


def _with_halves(data: bytes) -> dict[str, Any] | None:
    """An object with names of files that are no UTF-8, which stand there as halves of characters; None for any other text."""
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    other = _OTHER_HALF.search(json.dumps(value, ensure_ascii=False))
    return value if isinstance(value, dict) and not other else None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def file_names(data: bytes) -> list[str]:
    """A list of file names that this toolkit wrote as JSON; what is no UTF-8 in a name stands there as half a character.

    Raises ValueError for anything else.
    """
    try:
        names = json.loads(data)
    except RecursionError as error:
        raise ValueError("no list of names") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("no list of names")
    return names


def check_repetition(data: bytes) -> None:
    """Raise ValueError for a key that stands twice in one object of a JSON text, of which some readers take the first, others the last."""

    def without_repetition(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"'{_cut(key)}' stands there twice")
            seen.add(key)

    json.loads(data.decode("utf-8-sig"), object_pairs_hook=without_repetition)


def _check_values(value: Any, where: str) -> None:
    level: list[Any] = [value]
    for _ in range(_MOST_DEPTH):
        inner: list[Any] = []
        for group in level:
            for item in group.values() if isinstance(group, dict) else group:
                if isinstance(item, (dict, list)):
                    inner.append(item)
                elif isinstance(item, float) and not math.isfinite(item):
                    raise UserError(f"{where}: a number that no float holds stands in it")
                elif isinstance(item, int) and not -(2**64) < item < 2**64:
                    raise UserError(f"{where}: a whole number of more than 64 bits stands in it")
        if not inner:
            return
        level = inner
    raise UserError(f"{where} is not read: more than {_MOST_DEPTH} of its brackets are nested in each other")


class FieldError(ValueError):
    """Which field of a record is wrong, what stands there, and what is expected."""


def read_fields(kind: type[T], value: object, *, later: frozenset[str] = frozenset()) -> T:
    """The dataclass ``kind`` out of a record.

    Fields may be text, numbers, truth values, ``X | None``, dataclasses, tuples of fixed or any length, dictionaries by text, and Any;
    ``Annotated`` with a :class:`zoo.ranges.Range` bounds a number. A whole number is a float too; nothing else is converted.

    Parameters
    ----------
    later
        Names of fields that records of earlier versions lack; they have their default there.

    Raises
    ------
    FieldError
        A field is missing, unknown, or of another kind.
    """
    found: T = _read_dataclass(kind, value, "", later)
    return found


def _read_dataclass(kind: Any, value: Any, where: str, later: frozenset[str] = frozenset()) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    hints = _hints(kind)
    prefix = f"{where}." if where else ""
    absent = [item for item in fields(kind) if item.name not in value]
    missing = [item.name for item in absent if item.name not in later or (item.default is MISSING and item.default_factory is MISSING)]
    if missing:
        raise FieldError(f"it lacks '{prefix}{missing[0]}'")
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        raise FieldError(f"it has an unknown '{prefix}{_cut(unknown[0])}'")
    return kind(**{name: _read_value(hints[name], item, prefix + name) for name, item in value.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _read_value(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        found = _read_value(arguments[0], value, where)
        for within in arguments[1:]:
            if isinstance(within, Range) and found is not None and found not in within:
                raise _wrong(where, value, f"a number that is {within}")
        return found
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        present = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _read_value(present, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "an object")
        return {name: _read_value(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if origin in (tuple, list):
        return _read_list(origin, arguments, value, where)
    if isinstance(value, bool) is not (kind is bool):
        raise _wrong(where, value, _NAMES[kind])
    if kind is float and isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    if kind is not float and isinstance(value, kind):
        return value
    raise _wrong(where, value, _NAMES[kind])


def _read_list(origin: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    any_length = origin is list or arguments[1:] == (...,)
    if not isinstance(value, list) or not (any_length or len(value) == len(arguments)):
        raise _wrong(where, value, "a list" if any_length else f"a list of {len(arguments)}")
    kinds = [arguments[0]] * len(value) if any_length else arguments
    place = f"{where}[{{}}]" if any_length else where
    return origin(_read_value(kind, item, place.format(number)) for number, (kind, item) in enumerate(zip(kinds, value, strict=True)))


_NAMES: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _wrong(where: str, value: object, wanted: str) -> FieldError:
    return FieldError(f"'{where}' is {_cut(json.dumps(value))}, and {wanted} is expected")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _place_first(text: str) -> str:
    """msgspec's message with the place first."""
    what, _, place = text.partition(" - at ")
    return f"at {place}: {what}" if place else what


def told(value: object) -> str:
    """A value out of a file for a message: itself where it is plain, else of which kind it is."""
    return shown(repr(value)) if value is None or isinstance(value, (str, int, float, bool)) else f"a {type(value).__name__}"


def shown(text: str) -> str:
    """Text out of a file for a message, cut where it is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
