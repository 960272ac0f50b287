"""Photos of three classes in folders, and classifiers of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from easy_data import NAMES, split
from PIL import Image
from typed import typed

from zoo.results import Result, load_result

# What each task is asked for, and how few steps it takes here.
TASKS = {
    "linear": "--task linear --epochs 8 --lr 0.1,1,10 --batch 32",
    "exact": "--task linear --mode exact --epochs 2 --lr 1 --batch 30 --preset simsiam",
    "selected": "--task linear --preset dinov2 --lr 0.1,3 --batch 32 --epochs 3",
    "logreg": "--task linear --preset logreg --c 0.1,1",
    "semi": "--task semi --percent 50 --epochs 2 --batch 8 --trunk-lr 0.01 --head-lr 0.1",
    "grid": "--task semi --preset mmselfsup --percent 50 --epochs 1 --batch 8",
    "pseudo": "--task semi --preset csml --percent 50 --epochs 2 --batch 8 --max-entropy 2",
    "frozen": "--task semi --preset frozen --percent 50 --folds 2",
    "finetune": "--task finetune --epochs 2 --batch 16 --trunk-lr 0.05",
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train`` and ``test``, 20 px and more, with a folder for each class."""
    root = tmp_path_factory.mktemp("photos")
    for number, (name, count) in enumerate({"train": 60, "test": 31}.items()):
        images = split(name, count, seed=number)
        for index in range(count):
            place = root / name / NAMES[images.labels[index]]
            place.mkdir(parents=True, exist_ok=True)
            # Not square, and not of one size: resizing and cropping have something to do.
            image = images.read(index).resize((20 + index % 7, 24), Image.Resampling.BILINEAR)
            image.save(place / f"{index:03}.png")
    return root


@pytest.fixture(scope="session")
def saved(photos: Path, tmp_path_factory: pytest.TempPathFactory):
    """By the name of a task: the folder that ``--save`` made, and the result; each is trained once."""
    root, made = tmp_path_factory.mktemp("saved"), {}

    def make(name: str, model: str = "random:test_resnet:1") -> tuple[Path, Result]:
        key = (name, model)
        if key not in made:
            folder = root / str(len(made))
            words = [*TASKS[name].split(), "--model", model, "--data", f"folder:{photos}", "--image-size", "16", "--device", "cpu"]
            assert typed("evaluate", *words, "--save", folder / "model", "--out", folder / "result.json") == 0
            made[key] = folder / "model", load_result(folder / "result.json")
        return made[key]

    return make
