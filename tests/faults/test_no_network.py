"""Nothing but pull, push and downloads speaks to the network: the other commands run with every way to it blocked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import typed
from sources import Sources

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


# Left to the long part of the suite.
SLOW = ("linear", "trial", "torchvision", "detectron2", "onnx", "import")


class _Watch:
    """What the one audit hook of this process does; hooks stay for good."""

    asked: list[str] | None = None
    begun = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _Watch.asked is None or event not in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        return
    where = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    host = where[0] if isinstance(where, tuple) else where
    if isinstance(where, (str, bytes)) and event == "socket.connect":
        return  # a socket of this machine alone
    if host and not str(host).startswith(LOOPBACK):
        _Watch.asked.append(f"{event} {where}")
        raise OSError(101, "Network is unreachable", str(where))


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The network is gone; what was asked of it."""
    if not _Watch.begun:
        sys.addaudithook(_hook)
        _Watch.begun = True
    _Watch.asked = []
    yield _Watch.asked
    _Watch.asked = None


def words_of(sources: Sources, out: Path) -> dict[str, list[Any]]:
    folder, data = sources.run.parent, f"folder:{sources.photos}"
    return {
        "list": ["zoo", "list"],
        "cache": ["zoo", "cache"],
        "info": ["zoo", "info", sources.model, "--check"],
        "info of the catalogue": ["zoo", "info", "resnet50.hcsc_200ep"],
        "info of a run": ["zoo", "info", sources.run],
        "data": ["zoo", "data", data, "--html", out / "page.html"],
        "import": ["zoo", "import", sources.checkpoint, "--out", out / "imported"],
        "export": ["zoo", "export", sources.run, "--out", out / "model"],
        "add-result": ["zoo", "add-result", out / "model", sources.result],
        "card": ["zoo", "card", out / "model"],
        "verify": ["zoo", "verify", out / "model", "--data", "digits"],
        "evaluate": [
            *("evaluate", "--task", "knn,cluster", "--model", out / "model", "--data", data, "--k", "1", "--clusters", "2"),
            *("--out", out / "results", "--workers", "0", "--image-size", "32"),
        ],
        "linear": [
            *("evaluate", "--task", "linear", "--model", out / "model", "--data", data, "--epochs", "1", "--batch", "4"),
            *("--out", out / "linear.json", "--workers", "0", "--image-size", "32"),
        ],
        "report": ["zoo", "report", sources.result, "--out", out / "report", "--model", out / "model"],
        "pretrain": ["pretrain", folder / "tiny.yaml", "--out", out / "run", "epochs=1"],
        "trial": ["pretrain", folder / "tiny.yaml", "--trial"],
        "timm": ["transfer", "convert", sources.checkpoint, "--to", "timm", "--out", out / "a.safetensors"],
        "torchvision": ["transfer", "convert", sources.checkpoint, "--to", "torchvision", "--out", out / "a.pth"],
        "detectron2": ["transfer", "convert", sources.checkpoint, "--to", "detectron2", "--out", out / "a.pkl"],
        "onnx": ["transfer", "convert", sources.checkpoint, "--to", "onnx", "--out", out / "a.onnx"],
    }


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.faults)])
def test_the_other_commands_ask_nothing_of_the_network(
    quick: bool, sources: Sources, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in words_of(sources, tmp_path).items():
        if quick and name in SLOW:
            continue
        status = typed(words)
        captured = capsys.readouterr()
        assert status == 0, f"{name}: {captured.err}"
        assert asked == [], f"{name} asked {asked}"


def test_the_block_holds(asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pull meets it, and says so in one sentence."""
    assert typed(["zoo", "pull", "nobody/nothing", "--deadline", "3"]) == 2
    captured = capsys.readouterr()
    assert asked
    assert [line for line in captured.err.splitlines() if line.startswith("error: ")]
