"""What ``import`` gives: versions, and a sentence where something of the user's hides one of the packages. In processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import evaluation
import pretrain
import transfer
import zoo


def test_versions() -> None:
    for package in (zoo, evaluation, pretrain, transfer):
        assert package.__version__ == version("backbone-loop")


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    # As a notebook or `python program.py` in the folder has it: the folder first, then what is installed.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path(zoo.__file__).parents[1])])}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("files", "code", "sentence"),
    [
        (["evaluation/__init__.py"], "import pretrain", "evaluation hides backbone-loop's package 'evaluation'; rename it"),
        (["evaluation/__init__.py"], "import transfer", "evaluation hides backbone-loop's package 'evaluation'; rename it"),
        (["evaluation.py"], "import pretrain", "evaluation.py hides backbone-loop's package 'evaluation'; rename it"),
        (["zoo/__init__.py"], "import evaluation", "hides backbone-loop's package 'zoo'; rename it"),
        (["zoo.py"], "import pretrain", "hides backbone-loop's package 'zoo'; rename it"),
    ],
)
def test_what_hides_a_package_is_named(tmp_path: Path, files: list[str], code: str, sentence: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    done = python(code, tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert sentence in last


def test_what_is_in_nobodys_way_is_left_alone(tmp_path: Path) -> None:
    # A folder without Python in it is no package where there is one; a transfer.py of the user's is theirs.
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "transfer.py").write_text("mine = True")
    done = python("import zoo, evaluation, pretrain, transfer; print(transfer.mine, pretrain.__version__)", tmp_path)
    assert done.stdout.split() == ["True", version("backbone-loop")], done.stderr
