"""The zoo command, in this process where that will do, in its own where start-up and exit status matter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zoo.commands.cli import app
from zoo.errors import UserError
from zoo.model_folder.manifest import read_manifest
from zoo.results import save_result


def invoke(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_info_shows_a_model(zoo_folder):
    manifest = read_manifest(zoo_folder)
    lines = dict(line.split("  ", 1) for line in invoke("info", zoo_folder).split("\n\n")[0].splitlines())
    facts = {name.strip(): value.strip() for name, value in lines.items()}
    assert facts["zoo model"] == "test_resnet.moco_2ep"
    assert facts["architecture"] == "test_resnet (372,688 parameters, 96 features)"
    assert facts["data"] == "not stated, images of 32 px"
    assert facts["file sha256"] == manifest.file_sha256


def test_info_json_is_the_zoo_json(zoo_folder):
    assert json.loads(invoke("info", zoo_folder, "--json")) == json.loads((zoo_folder / "zoo.json").read_text())


def test_info_check_hashes_the_weights(zoo_folder):
    assert "(checked)" in invoke("info", zoo_folder, "--check")
    weights = zoo_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"\0")
    invoke("info", zoo_folder)
    with pytest.raises(UserError, match=r"is not the file that zoo\.json describes"):
        invoke("info", zoo_folder, "--check")


def test_info_of_a_run_says_how_to_export_it(make_run):
    run = make_run(steps=(10, 20))
    text = invoke("info", run)
    assert "2, the newest at step 20" in text
    assert f"zoo export {run} --out DIR" in text
    known = json.loads(invoke("info", run, "--json"))
    assert (known["kind"], known["step"], known["recipe"]["backbone"]) == ("run", 20, "test_resnet")


def test_info_of_something_else_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"is neither a zoo model .* nor a run"):
        invoke("info", tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        invoke("info", tmp_path / "nothing")


def test_add_result_and_the_table_that_info_shows(zoo_folder, make_result, tmp_path):
    sha256 = read_manifest(zoo_folder).tensors_sha256
    for seed in (0, 1):
        save_result(make_result(sha256, value=50.0 + seed, seed=seed), tmp_path / f"{seed}.json")
    assert "2 results added" in invoke("add-result", zoo_folder, tmp_path / "0.json", tmp_path / "1.json")
    table = invoke("info", zoo_folder).split("\n\n")[1].splitlines()
    assert table[0].split() == ["Task", "Data", "Test", "images", "Protocol", "Metric", "Value", "Measured"]
    assert [line.split()[-2] for line in table[1:]] == ["50.00", "51.00"]


def command(*arguments: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path[:0] = {[str(path)] if path else []}; from zoo.commands.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)


def test_a_mistake_is_one_line_and_exit_status_2(tmp_path):
    done = command("info", tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: there is no folder '{tmp_path / 'nothing'}'\n"


@pytest.fixture
def plugins(tmp_path) -> Path:
    """A folder to put on the path, with three distributions that add commands: a function, an application, and one that is broken."""
    (tmp_path / "good_plugin.py").write_text(
        "import typer\n"
        "from zoo.errors import UserError\n"
        'def greet(name: str, loud: bool = False) -> None:\n    "Greet somebody."\n    typer.echo(name.upper() if loud else name)\n'
        'app = typer.Typer(help="Several commands.")\n'
        '@app.command()\ndef one() -> None:\n    "The first."\n    typer.echo("one")\n'
        '@app.command()\ndef two() -> None:\n    "The second."\n    raise UserError("two is one too many")\n'
    )
    (tmp_path / "broken_plugin.py").write_text("import a_module_that_does_not_exist\n")
    entries = {"greet": "good_plugin:greet", "several": "good_plugin:app", "broken": "broken_plugin:run", "info": "good_plugin:greet"}
    metadata = tmp_path / "plugins-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[zoo.commands]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items()))
    return tmp_path


def test_commands_of_other_packages_are_listed_and_run_and_a_broken_one_harms_none(plugins):
    listing = command("--help", path=plugins)
    assert listing.returncode == 0
    for part in ("Greet somebody.", "Several commands.", "Show what a zoo model or a run is,", "(unavailable: ModuleNotFoundError"):
        assert part in " ".join(listing.stdout.replace("│", " ").split())
    assert command("greet", "you", "--loud", path=plugins).stdout == "YOU\n"
    assert command("several", "one", path=plugins).stdout == "one\n"
    assert command("several", "two", path=plugins).stderr == "error: two is one too many\n"
    broken = command("broken", "whatever", "--some", "option", path=plugins)
    assert broken.returncode == 2
    assert broken.stderr == (
        "error: `zoo broken` is unavailable: broken_plugin:run cannot be imported "
        "(ModuleNotFoundError: No module named 'a_module_that_does_not_exist')\n"
    )


def test_nothing_here_imports_torch(zoo_folder, make_run):
    calls = [
        *(["--help"], ["--version"], ["info", str(zoo_folder), "--check"], ["info", str(make_run())], ["export", "--help"]),
        *(["list"], ["list", "--json"], ["info", "resnet50.hcsc_200ep"], ["import", "--help"]),
    ]
    for call in calls:
        program = f"""
import sys
from zoo.commands.cli import app
try:
    app({call!r})
except SystemExit as end:
    assert end.code == 0
print([name for name in ("torch", "timm", "torchvision", "huggingface_hub") if name in sys.modules])
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", call


def test_unknown_commands_are_refused_with_the_nearest():
    done = command("inf")
    assert done.returncode == 2
    assert "info" in done.stderr
