"""What `zoo doctor` says: versions as they are installed, what is missing with its line, what is wrong with a status."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import zoo.commands.examine
from zoo.commands.cli import app
from zoo.commands.examine import examine


def test_versions_and_devices_are_those_that_are_here() -> None:
    found = {(one.part, one.what): one for one in examine()}
    for module, name in (("torch", "torch"), ("sklearn", "scikit-learn"), ("PIL", "pillow")):
        assert found["software", module].detail == version(name)
    assert ("devices", "GPU") in found or torch.cuda.is_available()
    assert all(one.ok is not False for one in found.values() if one.part in ("software", "devices", "optional"))


def test_what_is_missing_has_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo.commands.examine, "NEEDED", ("torch", "no_such_module_here"))
    monkeypatch.setitem(zoo.commands.examine._OPTIONAL, "no_such_extra", ("nothing", "pip install nothing"))
    found = {one.what: one for one in examine()}
    assert (found["no_such_module_here"].ok, found["no_such_module_here"].remedy) == (False, "pip install 'backbone-loop'")
    assert (found["no_such_extra"].ok, found["no_such_extra"].remedy) == (None, "pip install nothing")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 2
    (line,) = [line for line in done.output.splitlines() if "no_such_module_here" in line]
    assert "wrong" in line


def test_settings_that_keep_the_client_from_working_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 2
    (wrong,) = [one for one in json.loads(done.stdout) if one["ok"] is False]
    assert (wrong["part"], wrong["what"]) == ("Hub", "settings")
    assert "SSL_CERT_FILE" in wrong["detail"]
