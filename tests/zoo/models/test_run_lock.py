"""One writer for a run folder, by real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.models.run_lock import LOCK_FILE, new_locked_folder, run_lock

HOLD = '''
import sys, time
from pathlib import Path
from zoo.models.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
'''


def test_another_process_is_named_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"is being written by process {holder.pid} on .* since 20"), run_lock(tmp_path):
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with run_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text()


def test_two_trainings_of_one_process(tmp_path: Path) -> None:
    with run_lock(tmp_path), pytest.raises(UserError, match="another training of this process"), run_lock(tmp_path):
        pass
    with run_lock(tmp_path):
        pass


def test_a_new_folder_appears_whole_and_held(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with contextlib.ExitStack() as held:
        with new_locked_folder(target, held) as folder:
            assert not target.exists()
            (folder / "recipe.yaml").write_text("seed: 1\n")
        assert (target / "recipe.yaml").read_text() == "seed: 1\n"
        with pytest.raises(UserError, match="another training of this process"), run_lock(target):
            pass
    with run_lock(target):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_is_replaced_whole_and_stays_where_its_successor_is_not_made(tmp_path: Path) -> None:
    target = tmp_path / "run"
    for text, fails in (("old", False), ("failed", True), ("new", False)):
        with contextlib.suppress(KeyError), contextlib.ExitStack() as held:
            if target.exists():
                held.enter_context(run_lock(target))
            with new_locked_folder(target, held) as folder:
                (folder / "recipe.yaml").write_text(text)
                if fails:
                    raise KeyError
        assert (target / "recipe.yaml").read_text() == ("old" if text == "failed" else text)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_a_killed_process_left_behind_is_removed_and_what_is_held_is_not(tmp_path: Path) -> None:
    left, other = tmp_path / ".run.abcdefgh.partial", tmp_path / ".run.short.partial"
    for folder in (left, other):
        folder.mkdir()
        (folder / LOCK_FILE).write_text("")
    with contextlib.ExitStack() as held, new_locked_folder(tmp_path / "run", held):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "run"]


def test_of_two_that_make_one_folder_the_slower_one_says_who_was_faster(tmp_path: Path) -> None:
    def make(target: Path, meanwhile: Callable[[], None]) -> None:
        with contextlib.ExitStack() as held, new_locked_folder(target, held):
            target.mkdir()
            (target / LOCK_FILE).touch()
            meanwhile()

    holders: list[subprocess.Popen[str]] = []

    def hold() -> None:
        holders.append(subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True))
        assert holders[0].stdout is not None
        assert holders[0].stdout.readline() == "held\n"

    with pytest.raises(UserError) as refused:
        make(tmp_path / "run", hold)
    holders[0].kill()
    holders[0].wait()
    assert str(refused.value).startswith(f"{tmp_path / 'run'} is being written by process {holders[0].pid} on ")
    with pytest.raises(UserError, match="has just been made by another process"):
        make(tmp_path / "other", lambda: None)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "other"}
