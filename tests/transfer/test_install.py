"""detectron2 is optional: what is said where it is missing, and the installer."""

from __future__ import annotations

import re
import subprocess
import sys
import venv

import pytest
from typer.testing import CliRunner

from transfer import presence
from transfer.cli import app
from transfer.detection import install
from transfer.formats import detectron2_file
from zoo.errors import UserError


def test_an_installation_without_an_index_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.setattr(install.sysconfig, "get_path", lambda name: str(packages))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": "", "PIP_EXTRA_INDEX_URL": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(install, "_HERE", tmp_path)
    (tmp_path / "requirements.txt").write_text("no-such-package-of-this-toolkit\n")
    with pytest.raises(UserError, match=r"detectron2 could not be installed from PyPI \(ERROR: .*git\+https://github") as refusal:
        install.install()
    assert "\n" not in str(refusal.value)
    assert list(packages.iterdir()) == []


@pytest.mark.parametrize(("tools", "lines"), [(("c++", "git"), 2), (("git",), 1), ((), 1)])
def test_the_line_that_installs_it_fits_the_platform(monkeypatch, tools, lines):
    monkeypatch.setattr(presence.shutil, "which", lambda name: name if name in tools else None)
    monkeypatch.setattr(presence.platform, "system", lambda: "Linux")
    monkeypatch.setattr(presence, "has_detectron2", lambda: False)
    with pytest.raises(UserError, match=r"detectron2 is not installed here; install it with `python -m transfer") as refusal:
        presence.require_detectron2()
    assert len(re.findall("`[^`]+`", str(refusal.value))) == lines


def test_without_detectron2_the_commands_say_how_to_get_it_and_the_rest_works(monkeypatch, tmp_path):
    monkeypatch.setattr(presence, "has_detectron2", lambda: False)
    monkeypatch.setattr(detectron2_file, "has_detectron2", lambda: False)
    options = ["--data", "voc:x", "--out", str(tmp_path / "run")]
    for command in (["detect", "small_r18_fpn", "--model", "random"], ["compare", "small_r18_fpn", "--models", "random"]):
        with pytest.raises(UserError, match="detectron2 is not installed here; install it with"):
            CliRunner().invoke(app, [*command, *options], standalone_mode=False, catch_exceptions=False)
    assert CliRunner().invoke(app, ["detect", "--list"]).output.count("\n") == 12
    convert = ["convert", "random:resnet18", "--to", "detectron2", "--out", str(tmp_path / "a.pkl")]
    with pytest.raises(UserError, match=r"cannot be verified here \(detectron2 is not installed here\)"):
        CliRunner().invoke(app, [*convert, "--verify"], standalone_mode=False, catch_exceptions=False)
    done = CliRunner().invoke(app, convert, catch_exceptions=False)
    assert "not verified (detectron2 is not installed here); its names and shapes were accounted for" in done.output


def test_the_command_is_quick_to_import():
    modules = "transfer.cli, transfer.detection.compare, zoo.data.boxes.detection_data"
    code = f"import sys, {modules}; print({{'torch', 'detectron2'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_the_wheel_is_pinned_by_its_hash():
    lines = [line for line in (install._HERE / "wheel.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    assert re.fullmatch(r"sal-detectron2==0\.7\.2 --hash=sha256:[0-9a-f]{64}", lines[0])


@pytest.mark.slow
def test_a_fresh_environment_gets_the_package_alone(tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    # pip and this toolkit come from the environment of the tests; what is installed goes to the fresh one.
    code = f"import sys; sys.path.extend({sys.path!r}); from transfer.detection import install; print(install.install())"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})
    if "could not be installed from PyPI" in done.stderr:
        pytest.skip("PyPI cannot be reached")
    assert done.returncode == 0, done.stderr
    packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    assert (packages / "detectron2" / "engine").is_dir()
    assert not (packages / "tools").exists()
    assert not list((packages / "detectron2").glob("_C*"))
    record = next(packages.glob("sal_detectron2*.dist-info/RECORD")).read_text()
    assert all((packages / line.split(",")[0]).exists() for line in record.splitlines())
