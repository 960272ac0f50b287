"""A published network on real images: right answers of right and wrong inputs, on 500 test images of CIFAR-10.

Needs the weights of akamaster/pytorch_resnet_cifar10's ResNet-20 (``resnet20-12fca82f.th``) in ``../shared/data/cifar10-resnet20`` and
CIFAR-10 as ``test/<class>/<index>.png`` in the folder that ``CIFAR10_ROOT`` names. ``docs/results.md`` has the numbers of all images.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.extraction.labelled import LabelledData, labelled_data
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.top1.run import run_top1
from zoo.data import ArrayImages, Data, Level
from zoo.model_spec import open_model

WEIGHTS = Path(__file__).parents[4] / "shared" / "data" / "cifar10-resnet20" / "resnet20-12fca82f.th"
ROOT = Path(os.environ.get("CIFAR10_ROOT", "nowhere"))
SPEC = f"python:{Path(__file__).parents[1] / 'cifar_resnet.py'}:resnet20"
PER_CLASS = 50

NEEDED = f"needs {WEIGHTS.name} in ../shared, and CIFAR10_ROOT/test/<class>/<index>.png"
pytestmark = pytest.mark.skipif(not (WEIGHTS.is_file() and (ROOT / "test").is_dir()), reason=NEEDED)


@pytest.fixture(scope="module")
def images() -> LabelledData:
    folders = sorted(path for path in (ROOT / "test").iterdir() if path.is_dir())
    files = [(label, path) for label, folder in enumerate(folders) for path in sorted(folder.iterdir())[:PER_CLASS]]
    pixels = np.stack([np.asarray(Image.open(path)) for _, path in files])
    level = Level(np.array([label for label, _ in files]), tuple(folder.name for folder in folders))
    split = ArrayImages("cifar10", "test", pixels, {"class": level})
    data = Data("cifar10", "cifar10", {"test": lambda: split}, {"train": "test", "test": "test"}, image_size=32)
    return labelled_data(data)


@pytest.mark.parametrize(
    ("inputs", "correct", "warnings"),
    [
        ({}, 457, 0),
        ({"channels": "bgr"}, 434, 1),
        ({"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}, 197, 3),
    ],
    ids=["right", "bgr", "not normalised"],
)
def test_right_answers_and_warnings(inputs: dict[str, object], correct: int, warnings: int, images: LabelledData) -> None:
    model = open_model(SPEC, weights=WEIGHTS, **inputs)  # type: ignore[arg-type]
    result = run_top1(model, images, runtime=Runtime())
    assert result.counts["correct"]["top1"] == correct
    assert len(result.details.get("warnings", [])) == warnings
