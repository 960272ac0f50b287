"""Helps and mistakes answer without what takes seconds to import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

# What no help and no mistake in a word may import.
HEAVY = ("torch", "torchvision", "timm", "scipy", "sklearn", "faiss", "matplotlib", "accelerate", "onnx", "detectron2", "transformers")
PLACES = {"zoo": "zoo.commands.cli", "evaluate": "evaluation.commands.cli", "pretrain": "pretrain.cli", "transfer": "transfer.cli"}
# One process for all of them: whatever is imported stays, and who imported it first is told.
PROGRAM = """
import contextlib, importlib, io, json, sys
HEAVY, PLACES, commands = json.loads(sys.stdin.read())
found, before = [], set()
for words in commands:
    out, err = io.StringIO(), io.StringIO()
    sys.argv, status = words, 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            importlib.import_module(PLACES[words[0]]).main()
        except SystemExit as left:
            status = left.code or 0
    imported = {name for name in HEAVY if name in sys.modules} - before
    before |= imported
    found.append([status, out.getvalue(), err.getvalue(), sorted(imported)])
print(json.dumps(found))
"""


def run(commands: list[list[str]], folder) -> list[tuple[int, str, str, list[str]]]:
    """Exit status, both outputs and what was newly imported, for each command."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([HEAVY, PLACES, commands]),
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout)]


def every_help() -> list[list[str]]:
    import importlib

    import typer

    found = []
    for name, module in PLACES.items():
        group = typer.main.get_command(importlib.import_module(module).app)
        below = group.list_commands(None) if hasattr(group, "list_commands") else []
        found += [[name, "--help"], *([name, word, "--help"] for word in below)]
    return found


def test_no_help_imports_what_is_heavy(tmp_path):
    helps = every_help()
    assert {"pull", "push", "mirror", "cache", "report", "verify", "export"} <= {words[1] for words in helps}
    for words, (status, out, _, imported) in zip(helps, run(helps, tmp_path), strict=True):
        assert (status, imported) == (0, []), words
        assert "Usage" in out, words
        # A plugin that cannot be imported is shown so, and imports nothing.
        assert "unavailable" not in out, words


MISTAKES = {
    # An option that there is none of, and one that is missing.
    "zoo pull --bogus": "No such option: --bogus",
    "zoo push --bogus": "No such option: --bogus",
    "zoo verify --bogus": "No such option: --bogus",
    "zoo report --bogus": "No such option: --bogus",
    "zoo export --bogus": "No such option: --bogus",
    "evaluate --model pixels --data shapes --bogus": "No such option: --bogus",
    "pretrain shapes_demo --out o --bogus": "pretrain has no option '--bogus'",
    "transfer convert --bogus": "No such option: --bogus",
    "zoo lits": "No such command 'lits'",
    "zoo import weights.pth": "Missing option '--out'",
    "zoo export run": "Missing option '--out'",
    "zoo push": "Missing argument 'DIR'",
    "evaluate --model pixels": "Missing option '--data'",
    "evaluate --data shapes": "Missing option '--model'",
    "pretrain shapes_demo": "--out RUN",
    "transfer convert pixels --out a.onnx": "Missing option '--to'",
    "transfer detect small_r18_fpn --data voc:x --out o": "give --model MODEL",
    # Words of the zoo.
    "zoo info nothing": "there is no folder 'nothing'",
    "zoo import missing.pth --out o": "there is no file missing.pth",
    "zoo import missing.pth --out o --format mocco": r"there is no format 'mocco'; did you mean 'moco'",
    "zoo import missing.pth --out o --mean 3": "--mean takes three numbers",
    "zoo data flder:x": r"unknown data 'flder' \(nearest: 'folder'\)",
    "zoo pull nothing": "the catalogue has no model 'nothing'",
    "zoo pull a/b@a..b": "git allows no such name",
    "zoo push nothing a/b": "nothing has no zoo.json",
    "zoo mirror nothing lab": "the catalogue has no model 'nothing'",
    "zoo cache --kind feature": "there is no kind 'feature'",
    "zoo export nothing --out o": "'nothing' is not a run folder",
    "zoo report results --out o --map tsme": "--map is tsne, umap or none, not 'tsme'",
    "zoo report results --out o --device gpu": "there is no device 'gpu'",
    "zoo report results --out o --model tim:resnet50": "there is no model 'tim:resnet50'; did you mean 'timm'",
    "zoo verify nothing": "there is no zoo model 'nothing'",
    "zoo verify --catalogue --task kn": "unknown task 'kn'; did you mean 'knn'",
    "zoo verify --catalogue --device gpu": "there is no device 'gpu'",
    "zoo verify --catalogue --data flder:x": "unknown data 'flder'",
    # Models, data and tasks.
    "evaluate --model pixels --data shapes --task kn": r"unknown task 'kn' \(nearest: 'knn'\)",
    "evaluate --model pixels --data shapes --preset nothing": "unknown knn preset 'nothing'",
    "evaluate --model tim:resnet50 --data shapes": "there is no model 'tim:resnet50'; did you mean 'timm'",
    "evaluate --model nothing --data shapes": "there is no model 'nothing'; a model is a zoo model folder",
    "evaluate --model file:missing.pth --data shapes": "there is no file missing.pth",
    "evaluate --model timm: --data shapes": "'timm:' names nothing behind its colon",
    "evaluate --model random:resnet18:x --data shapes": "has no valid seed",
    "evaluate --model python:x --data shapes": "is not of the form python:FILE_OR_MODULE:CALLABLE",
    "evaluate --model hub:nothing --data shapes": "the catalogue has no model 'nothing'",
    "evaluate --model hub:a/b--c --data shapes": "does not name a model on the Hub",
    "evaluate --model pixels --data shpaes": r"unknown data 'shpaes' \(nearest: 'shapes'\)",
    "evaluate --model pixels --data shapes --device gpu": "there is no device 'gpu'; --device is auto, cpu or cuda",
    "evaluate --model pixels --data shapes --dtype half": "unknown dtype 'half'",
    "evaluate --model pixels --data shapes --k 0": "--k must be at least 1, not 0",
    "pretrain shapes_dmo --out o": r"there is no recipe 'shapes_dmo'; did you mean 'shapes_demo'",
    "pretrain shapes_dmo --trial": "there is no recipe 'shapes_dmo'",
    "pretrain --resume nothing": "nothing is not a run folder",
    "pretrain boxes nothing --out boxes.png": "nothing is not a run folder",
    "transfer convert pixels --to tim --out a": "there is no format 'tim' to convert to; did you mean 'timm'",
    "transfer convert tim:x --to timm --out a.safetensors": "there is no model 'tim:x'",
    "transfer detect small_r18 --model random --data voc:x --out o": "there is no config 'small_r18'; did you mean 'small_r18_fpn'",
    "transfer detect small_r18_fpn --model nothing --data voc:x --out o": "there is no model 'nothing'",
    "transfer compare small_r18_fpn --models random,nothing --data voc:x --out o": "there is no model 'nothing'",
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    commands = [text.split() for text in MISTAKES]
    return dict(zip(MISTAKES, run(commands, tmp_path_factory.mktemp("empty")), strict=True))


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_told_before_what_is_heavy_is_imported(mistakes, command):
    status, out, err, imported = mistakes[command]
    assert (status, out, imported) == (2, "", [])
    assert re.search(MISTAKES[command], " ".join(err.replace("│", " ").split())), err


def test_the_names_of_light_rooms_are_those_of_the_heavy_ones():
    from evaluation.tasks.runtime import _CAST
    from transfer.conversion import TARGETS
    from transfer.words import TARGET_NAMES
    from zoo.data import data_names
    from zoo.data.spec import BOX_SETS, KEYS, NAMES
    from zoo.words.runtime import DTYPES

    assert set(NAMES) == set(data_names()) == set(KEYS) - set(BOX_SETS)
    assert tuple(TARGETS) == TARGET_NAMES
    assert tuple(_CAST) == DTYPES


def test_a_reader_that_goes_away_is_no_mistake() -> None:
    # As `pretrain --list | true`.
    command = [sys.executable, "-m", "pretrain", "--list"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
