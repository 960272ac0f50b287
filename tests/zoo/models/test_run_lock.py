"""One writer for a run folder, by real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.models.run_lock import LOCK_FILE, check_unlocked, run_lock

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
        with pytest.raises(UserError, match="is being written by"):
            check_unlocked(tmp_path)
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with run_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text()


def test_two_trainings_of_one_process(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        with pytest.raises(UserError, match="another training of this process"), run_lock(tmp_path):
            pass
        with pytest.raises(UserError, match="another training of this process"):
            check_unlocked(tmp_path)
    check_unlocked(tmp_path)
    check_unlocked(tmp_path / "absent")
