"""The lock file: nothing is lost between processes, and a damaged one is no empty one."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.home import zoo_home
from zoo.hub.pins import FilePin, Pins


def test_what_is_put_is_there_for_the_next_process(tmp_path):
    pins = Pins(tmp_path / "some" / "lock.json")
    assert pins.get("a/b@main") is None
    pins.put("a/b@main", {"z": FilePin(1, "f" * 64), "a": FilePin(2, "e" * 64)}, "c" * 40)
    again = Pins(tmp_path / "some" / "lock.json").get("a/b@main")
    assert again is not None
    assert (again.commit, list(again.files)) == ("c" * 40, ["a", "z"])
    assert again.files["z"] == FilePin(1, "f" * 64)
    assert Pins(tmp_path / "some" / "lock.json").of_commit("a/b", "c" * 40) == again
    assert Pins(tmp_path / "some" / "lock.json").of_commit("a/other", "c" * 40) is None


def put_many(path, start: int) -> None:
    for number in range(start, start + 20):
        Pins(path).put(f"a/{number}@main", {"f": FilePin(number, "0" * 64)})


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "lock.json"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=put_many, args=(path, start)) for start in (0, 20, 40)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(json.loads(path.read_text())["pins"]) == 60


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "pins": {"a": {"files": 3}}}'])
def test_a_damaged_file_is_said_and_kept(tmp_path, text):
    path = tmp_path / "lock.json"
    path.write_text(text)
    for use in (lambda: Pins(path).get("a"), lambda: Pins(path).put("a", {})):
        with pytest.raises(UserError, match=r"the lock file .* cannot be read .*remove it to begin again"):
            use()
    assert path.read_text() == text
    path.write_text('{"schema": 2, "pins": {}}')
    with pytest.raises(UserError, match="has schema 2, and this version reads 1"):
        Pins(path).get("a")


def test_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("ZOO_HOME", raising=False)
    monkeypatch.delenv("ZOO_LOCK", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert zoo_home() == tmp_path / "backbone-loop"
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "own"))
    assert Pins().path == tmp_path / "own" / "zoo.lock.json"
    monkeypatch.setenv("ZOO_LOCK", "models.lock.json")
    assert Pins().path == Path("models.lock.json")
