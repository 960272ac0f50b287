"""Every Python snippet of the documents is run, in a folder that has what they name; sizes are scaled down, as each change says."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image
from typer.testing import CliRunner

import zoo
from evaluation.commands.cli import app
from pretrain.loop import train
from pretrain.methods import METHODS
from pretrain.recipes import load_recipe
from zoo.data import open_data
from zoo.formats import readers
from zoo.model_folder.importing import import_checkpoint

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SNIPPETS = [
    pytest.param(found[1], id=f"{page.name}:{number}")
    for page in PAGES
    for number, found in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")))
]
# What is smaller here than it says there, or lies in another place.
SMALLER = (
    ('"/data/birds"', '"photos"'),
    ("folder:/data/birds", "folder:photos"),
    ("kmeans(features, 1000,", "kmeans(features, 10,"),
    ('(3000, 2000, 1000), temperature=0.2, device="cuda"', "(8, 4, 2), temperature=0.2"),
    ('keys={"views.size": 64}', 'keys={"views.size": 32, "batch": 8, "epochs": 1, "backbone": "resnet10t", "knn.every_epochs": 0}'),
    ("torchvision.models.resnet50()", "torchvision.models.resnet18()"),
    ("vit_small_patch16_224", "vit_tiny_patch16_224"),
    ("runs/moco", "RUN"),
    ("cifar10:data", "folder:photos"),
    ("change(percent=10)", "change(percent=10, epochs=1)"),
    ("epochs=100", "epochs=1"),
)
# Run elsewhere: against a server (tests/zoo/hub), and with detectron2 (tests/transfer/detection).
ELSEWHERE = ("hub:my-lab/", 'transfer.predict("runs/cells"')


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    """What snippets register is for the snippets behind them, and for nobody else."""
    methods, modules = dict(METHODS), set(sys.modules)
    yield
    METHODS.clear()
    METHODS.update(methods)
    for name in [name for name in sys.modules if name.startswith("snippet_") and name not in modules]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs, a run, models and weights under the names of the documents."""
    folder = tmp_path_factory.mktemp("world")
    draws = np.random.default_rng(0)
    for number in range(24):
        for split in ("train", "val"):
            place = folder / "photos" / split / f"class{number % 3}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(place)
    shutil.copytree(folder / "photos" / "val", folder / "new-photos")
    settings = ["data=shapes:train=32,test=8", "backbone=resnet10_small", "batch=8", "epochs=1", "views.size=32", "knn.every_epochs=0"]
    train(load_recipe("shapes_demo", [*settings, "threads=1", "trackers=[]", "device=cpu"]), folder / "RUN")
    data = f"folder:{folder / 'photos'}"
    words = ["--task", "linear", "--preset", "logreg", "--c", "1", "--model", "random:resnet10_small", "--data", data]
    words += ["--out", str(folder / "results" / "mine.json")]
    done = CliRunner().invoke(app, [*words, "--save", str(folder / "models" / "mine")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    network = timm.create_model("resnet18", num_classes=0)
    # As if it had been trained: a network that has never seen an image is refused.
    network.train()(torch.randn(8, 3, 32, 32))
    torch.save(network.state_dict(), folder / "resnet18.pth")
    import_checkpoint(folder / "resnet18.pth", folder / "models" / "resnet18.moco_200ep")
    plain = torchvision.models.resnet18()
    plain.fc = torch.nn.Identity()
    torch.save(plain.state_dict(), folder / "backbone.pth")
    safetensors.torch.save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), folder / "backbone.safetensors")
    return folder


@pytest.fixture
def names() -> dict[str, Any]:
    """What a reader has at hand already."""
    data = open_data("digits")
    images = [(data.role("test").read(index), int(data.role("test").labels[index])) for index in range(60)]
    return {
        "__name__": "snippet",
        "torch": torch,
        "torchvision": torchvision,
        "timm": timm,
        "safetensors": safetensors,
        "features": torch.randn(200, 16, generator=torch.Generator().manual_seed(0)),
        "train_dataset": images,
        "test_dataset": images[:20],
        "model": zoo.open_model("random:resnet10_small"),
        "data": open_data("shapes:train=40,test=20,size=32"),
        "spec": "shapes:train=32,test=8",
    }


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) > 15
    assert all(any(part in one.values[0] for one in SNIPPETS) for part in (*ELSEWHERE, *(old for old, _ in SMALLER if "birds" not in old)))


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(snippet: str, world: Path, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if any(part in snippet for part in ELSEWHERE):
        compile(snippet, "snippet", "exec")
        return
    for old, new in SMALLER:
        snippet = snippet.replace(old, new)
    monkeypatch.chdir(world)
    monkeypatch.setattr(readers, "READERS", readers.READERS)
    # A module, as a reader's file would be one: dataclasses look their types up there.
    module = ModuleType(f"snippet_{abs(hash(snippet))}")
    sys.modules[module.__name__] = module
    module.__dict__.update({**names, "__name__": module.__name__})
    exec(compile(snippet, "snippet", "exec"), module.__dict__)
    # What a snippet writes must not hinder the next.
    for left in ("runs", "report", "mine.safetensors", "prototypes.pt", "theirs.pth"):
        shutil.rmtree(world / left, ignore_errors=True)
        (world / left).unlink(missing_ok=True)
