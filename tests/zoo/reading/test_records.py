"""What describes a model, a result or a run is read by one function: every value is of its type, or one sentence names it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

from zoo.errors import UserError
from zoo.ranges import Range
from zoo.reading.outside import FieldError, open_file, read_bytes, read_fields, read_record, read_text, record_of


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'{"a": NaN}', "is not valid JSON"),
        (b'{"a": -Infinity}', "is not valid JSON"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": ' + b"9" * 30 + b"}", "a whole number of more than 64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a whole number of more than 64 bits|out of range|not valid JSON"),
        (b'{"a": "\\ud800"}', "is not valid JSON"),
        (b'{"a": "\xff"}', r"byte \d+ is not UTF-8"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands there twice"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "more than 64 of its brackets are nested"),
        (b'{"a":' * 100_000, "nested too deep|not valid JSON"),
        (b"[1]", "Expected `object`, got `array`"),
        ('{"a": 1}'.encode("utf-16"), "is not valid JSON"),
        (b"", "is not valid JSON"),
    ],
)
def test_what_breaks_a_writer_or_a_reader_is_refused(data, sentence, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match=sentence) as error:
        read_record(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 400


def test_what_is_read_can_be_written(tmp_path):
    value = {"a": [1, 2.5, None, True, {"b": "x\u1234\U0001f600"}], "c": {"d": {}}, "large": 2**63, "negative": -(2**63)}
    path = tmp_path / "a.json"
    path.write_text("\ufeff" + json.dumps(value), encoding="utf-8")
    assert read_record(path) == value


def test_pipes_devices_and_large_files_are_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, sentence in ((pipe, "a named pipe, not a file"), (Path("/dev/zero"), "a device, not a file"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=f"cannot be read .*{sentence}"):
            read_record(path)
        with pytest.raises(OSError, match=sentence):
            open_file(path)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(UserError, match="it has more than 1000 bytes"):
        read_bytes(large, 1000)
    with pytest.raises(UserError, match="it has more than 268435456 bytes"):
        read_record(large)
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfa\nb")
    assert read_text(tmp_path / "text") == "a\nb"
    assert read_bytes(tmp_path / "text", 6) == b"\xef\xbb\xbfa\nb"
    # What does not say how long it is.
    assert read_bytes("/proc/self/status").startswith(b"Name:")


@dataclass(frozen=True)
class Inner:
    name: str
    side: Annotated[int, Range(1, 10)] = 1


@dataclass(frozen=True)
class Record:
    inner: Inner
    share: float
    flag: bool
    pair: tuple[float, float]
    names: tuple[str, ...]
    table: dict[str, list[int]]
    anything: Any = None
    maybe: Annotated[int | None, Range(0)] = None


GOOD: dict[str, Any] = {
    "inner": {"name": "a", "side": 3},
    "share": 1,
    "flag": True,
    "pair": [1, 2.5],
    "names": ["b"],
    "table": {"c": [1]},
    "anything": {"x": [None]},
    "maybe": None,
}


def test_a_record_becomes_its_dataclass():
    read = read_fields(Record, GOOD)
    assert read == Record(Inner("a", 3), 1.0, True, (1.0, 2.5), ("b",), {"c": [1]}, {"x": [None]}, None)
    assert isinstance(read.share, float)
    without = {name: value for name, value in GOOD.items() if name != "maybe"}
    assert read_fields(Record, without, later=frozenset({"maybe"})) == read
    with pytest.raises(FieldError, match="it lacks 'maybe'"):
        read_fields(Record, without)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"inner": 3}, "'inner' is 3, and an object is expected"),
        ({"inner": {"name": 3, "side": 3}}, "'inner.name' is 3, and text is expected"),
        ({"inner": {"name": "a", "side": 11}}, "'inner.side' is 11, and a number that is at least 1 and at most 10 is expected"),
        ({"inner": {"name": "a", "side": 1, "x": 1}}, "it has an unknown 'inner.x'"),
        ({"inner": {"name": "a"}}, "it lacks 'inner.side'"),
        ({"share": "1"}, "'share' is \"1\", and a number is expected"),
        ({"share": True}, "'share' is true, and a number is expected"),
        ({"share": float("nan")}, "'share' is NaN, and a number is expected"),
        ({"flag": 1}, "'flag' is 1, and true or false is expected"),
        ({"pair": [1]}, r"'pair' is \[1\], and a list of 2 is expected"),
        ({"pair": [1, None]}, "'pair' is null, and a number is expected"),
        ({"names": "b"}, "'names' is \"b\", and a list is expected"),
        ({"names": ["b", 4]}, r"'names\[1\]' is 4, and text is expected"),
        ({"table": []}, r"'table' is \[\], and an object is expected"),
        ({"table": {"c": [1.5]}}, r"'table.c\[0\]' is 1.5, and a whole number is expected"),
        ({"maybe": -1}, "'maybe' is -1, and a number that is at least 0 is expected"),
        ({"names": ["x" * 500, 4]}, r"'names\[1\]' is 4"),
        ({"names": "x" * 500}, r"'names' is \"x{59}\.\.\., and a list is expected"),
    ],
)
def test_a_wrong_field_is_named_with_what_stands_there_and_what_is_expected(change, sentence):
    with pytest.raises(FieldError, match=sentence):
        read_fields(Record, GOOD | change)


def test_a_record_is_an_object():
    with pytest.raises(UserError, match="here: Expected `object`, got `int`"):
        record_of(b"3", "here")
