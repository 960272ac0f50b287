"""What docs/formats.md shows of `zoo import` is what the command prints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from fake_checkpoints import behind, linear, other, queue, training
from torch import nn
from typer.testing import CliRunner

from zoo.commands.cli import app

PAGE = Path(__file__).parents[3] / "docs" / "formats.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(command: str) -> tuple[str, str]:
    """The words of a command on the page, and what stands below it, on one line."""
    block = re.search(rf"^    \$ ({re.escape(command)}.*)\n((?:    .*\n)+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert block is not None
    return block[1], " ".join(block[2].split())


def test_an_import_of_hcsc(here: Path, make_backbone: Callable[..., nn.Module]) -> None:
    """A ResNet-50 of random weights in the layout of HCSC's pre-training checkpoints."""
    network = make_backbone("resnet50", image_size=64).state_dict()
    head = linear("fc.", 0, 2)
    parts = {
        **queue(),
        "queue_index": torch.zeros(64, dtype=torch.long),
        **behind("encoder_q.", {**network, **head}),
        **behind("encoder_k.", {**other(network), **head}),
    }
    torch.save(training(behind("module.", parts)), here / "hcsc_200eps.pth")
    words, lines = shown("zoo import hcsc_200eps.pth")
    done = CliRunner().invoke(app, shlex.split(words)[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert " ".join(done.output.split()) == lines


def test_a_refusal_says_what_would_read_the_file(here: Path) -> None:
    network = timm.create_model("resnet18", num_classes=0).state_dict()
    torch.save({"state_dict": behind("module.encoder_momentum.", network)}, here / "fork.pth")
    words, lines = shown("zoo import fork.pth")
    done = CliRunner().invoke(app, shlex.split(words)[1:])
    begin, _, end = lines.removeprefix("error: ").partition(" ...; ")
    assert done.exception is not None
    assert str(done.exception).startswith(begin)
    assert str(done.exception).endswith(end)
