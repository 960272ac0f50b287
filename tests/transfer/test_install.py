"""detectron2 is optional: what is said where it is missing, and the installer."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import venv
from importlib.metadata import PathDistribution
from pathlib import Path

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


METADATA = """Metadata-Version: 2.1
Name: sal-detectron2
Version: 0.7.2
Requires-Dist: numpy<2
Requires-Dist: omegaconf<2.4,>=2.1
Requires-Dist: hydra-core>=1.1
Requires-Dist: black
Provides-Extra: dev
Requires-Dist: flake8==6.0.0; extra == "dev"

What it is.
Requires-Dist: of the text, not of the head
"""


def test_the_metadata_says_what_is_imported_where_it_runs_and_what_is_there(tmp_path):
    info = tmp_path / "sal_detectron2-0.7.2.dist-info"
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text("")
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp310-cp310-linux_x86_64\n")
    (info / "RECORD").write_text(
        "detectron2/__init__.py,sha256=x,0\ndetectron2/_C.so,sha256=x,9\ntools/a.py,sha256=x,9\n"
        "sal_detectron2-0.7.2.dist-info/METADATA,sha256=x,9\nsal_detectron2-0.7.2.dist-info/WHEEL,sha256=x,9\n"
        "sal_detectron2-0.7.2.dist-info/RECORD,,\n"
    )
    install.rewrite_metadata(info)
    found = PathDistribution(info)
    names = sorted(re.split("[<>=]", requirement)[0] for requirement in found.requires)
    shared = ["matplotlib", "numpy", "pillow", "scipy", "tensorboard", "torch", "torchvision"]
    own = ["cloudpickle", "fvcore", "iopath", "omegaconf", "portalocker", "pycocotools", "pyyaml", "tabulate", "termcolor", "tqdm", "yacs"]
    assert names == sorted(shared + own)
    assert "omegaconf>=2.1" in found.requires
    assert found.metadata.get_payload() == "What it is.\nRequires-Dist: of the text, not of the head\n"
    assert (info / "WHEEL").read_text().endswith("Tag: py3-none-any\n")
    files = {str(file): file for file in found.files}
    assert sorted(Path(name).name for name in files) == ["METADATA", "RECORD", "WHEEL", "__init__.py"]
    for name in ("METADATA", "WHEEL"):
        file = files[f"{info.name}/{name}"]
        assert file.hash.value == base64.urlsafe_b64encode(hashlib.sha256((info / name).read_bytes()).digest()).rstrip(b"=").decode()
        assert file.size == (info / name).stat().st_size


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
    # Found before what the environment of the tests has of the same.
    paths = {"PYTHONPATH": ":".join([str(packages), *filter(None, sys.path)])}
    checked = subprocess.run([str(python), "-m", "pip", "check"], capture_output=True, text=True, env=paths)
    assert "detectron2" not in checked.stdout + checked.stderr
    record = next(packages.glob("sal_detectron2*.dist-info/RECORD")).read_text()
    assert all((packages / line.split(",")[0]).exists() for line in record.splitlines())
