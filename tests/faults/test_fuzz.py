"""Damaged and hostile files of every format: each is read, or refused in one sentence; nothing in it runs.

The fast part tries 300 changes of each format in this process. `make test-faults` tries 10,000 of each in a process with a bound on its
memory and a time limit, and prints what came of them; FUZZ_INPUTS is another number, FUZZ_FIRST the number of the first change.

    python tests/faults/test_fuzz.py "zoo.json" 0 2000    # the changes 0 to 1999 of one format
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

if __name__ == "__main__":
    _HERE = Path(__file__).resolve().parent
    sys.path[:0] = [str(_HERE), str(_HERE.parent), str(_HERE.parents[1])]

FAST = 300
# Of one input. A reader that is within its budgets needs far less; other work on the machine is what the rest is for.
MOST_SECONDS, MOST_BYTES = 10.0, 1 << 30
LONG_SECONDS = 3600


def draw(name: str, number: int) -> random.Random:
    """The random numbers of a change: the same in every process."""
    return random.Random(int.from_bytes(hashlib.sha256(f"{name} {number}".encode()).digest()[:8], "little"))


def try_changes(name: str, first: int, count: int, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Counter[str]:
    """Read ``count`` changed files of a format in ``folder``; how many were read and how many refused.

    Raises AssertionError, naming the change, for any other outcome.
    """
    from fuzz_formats import FORMATS
    from fuzz_watch import WATCH, peak_bytes

    kind = FORMATS[name]
    seeds, read = kind.prepare(folder)
    path = folder / kind.file
    path.parent.mkdir(parents=True, exist_ok=True)
    verdicts: Counter[str] = Counter()
    # What is imported when it is first needed is there now; every good example is read.
    for seed in seeds:
        path.write_bytes(seed)
        with suppress(*kind.refusals):
            read(path)
    before = peak_bytes()
    for number in range(first, first + count):
        data = kind.mutate(draw(name, number), seeds)
        path.write_bytes(data)
        tell(f"{number}")
        with WATCH.over(folder) as seen, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read(path)
                verdict = "read"
            except kind.refusals as error:
                text = str(error)
                assert text.isprintable() or kind.refusals[0].__name__ != "UserError", f"{name} {number}: {text!r} is not one line"
                assert len(text) < 20_000, f"{name} {number}: a sentence of {len(text)} characters"
                verdict = "refused"
            except Exception as error:
                raise AssertionError(f"{name} {number}: {type(error).__name__}\n{traceback.format_exc()}") from None
        assert not seen, f"{name} {number}: {seen}"
        assert WATCH.slowest < MOST_SECONDS, f"{name} {number}: took {WATCH.slowest:.1f} s"
        assert peak_bytes() - before < MOST_BYTES, f"{name} {number}: took {(peak_bytes() - before) >> 20} MiB"
        verdicts[verdict] += 1
    return verdicts


@contextmanager
def own_home(folder: Path):
    """Everything that is kept lies in ``folder``, which is the only new thing beside it."""
    names = {"ZOO_HOME": "home", "XDG_CACHE_HOME": "cache", "MPLCONFIGDIR": "mpl", "HOME": "user"}
    old = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(folder / place) for name, place in names.items()})
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def skip_without(name: str) -> None:
    from fuzz_formats import FORMATS

    from transfer.presence import has_detectron2

    if FORMATS[name].needs_detectron2 and not has_detectron2():
        pytest.skip("detectron2 is not installed here")


def format_names() -> list[str]:
    from fuzz_formats import FORMATS

    return list(FORMATS)


@pytest.mark.parametrize("name", format_names())
def test_a_changed_file_is_read_or_refused(name, tmp_path):
    skip_without(name)
    (tmp_path / "only").mkdir()
    with own_home(tmp_path / "only"):
        verdicts = try_changes(name, 0, FAST, tmp_path / "only")
    assert sum(verdicts.values()) == FAST
    assert [path.name for path in tmp_path.iterdir()] == ["only"]


@pytest.mark.faults
@pytest.mark.parametrize("name", format_names())
def test_thousands_of_changed_files(name, tmp_path):
    skip_without(name)
    count, first = int(os.environ.get("FUZZ_INPUTS", "10000")), int(os.environ.get("FUZZ_FIRST", str(FAST)))
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, name, str(first), str(count)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=LONG_SECONDS,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path), "MALLOC_ARENA_MAX": "2"},
    )
    assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr[-3000:]}"
    verdicts = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {count} changed files, {verdicts} in {time.perf_counter() - start:.0f} s")
    assert sum(verdicts.values()) == count
    assert list(tmp_path.iterdir()) == []


def main() -> None:
    name, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    import torch

    torch.set_num_threads(1)
    # Address space, not memory: libraries reserve more than they use.
    room = 12 << 30
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    with tempfile.TemporaryDirectory() as folder, own_home(Path(folder)):
        verdicts = try_changes(name, first, count, Path(folder))
        gc.collect()
    sys.stdout.write(json.dumps(verdicts) + "\n")


if __name__ == "__main__":
    main()
