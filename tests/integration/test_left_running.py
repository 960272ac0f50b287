"""Whoever trains or extracts in a notebook has no worker processes and no threads left afterwards, also after an error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from left_running import everything_ends
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from evaluation.extraction.features import extract_features
from evaluation.loading import ClosableLoader
from evaluation.tasks.finetune.presets import FINETUNE_PRESETS, Rates
from evaluation.tasks.finetune.training import Labelled, fine_tune
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.linear.run import run_linear
from evaluation.tasks.runtime import Runtime
from pretrain.loop import train
from pretrain.recipes import load_recipe
from pretrain.survey.boxes import locate
from zoo.backbones import create_backbone
from zoo.data import Images, open_data
from zoo.errors import UserError
from zoo.model_spec import open_model
from zoo.models.transforms import EvalTransform

SIDE, TRAIN, TEST = 16, 280, 20
TRANSFORM = EvalTransform(SIDE, SIDE, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
RUNTIME = Runtime(workers=2, batch_size=16)
RECIPE = """
data: folder:{root}
backbone: resnet10_small
method: {{name: moco, queue: 140, dim: 16}}
views: {{size: 16, blur: 0.0, crop: contrastive_crop}}
boxes: {{warmup_epochs: 0, every_epochs: 1, threshold: 0.3}}
batch: 140
epochs: 2
optimizer: {{lr: 0.05}}
workers: 2
threads: 1
device: cpu
trackers: [tensorboard]
log_every: 1
knn: {{every_epochs: 1, train_images: 280, test_images: 20}}
checkpoint: {{every_epochs: 1}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image files of two classes: more than one batch of the survey's, so that it has workers."""
    root = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("test", TEST)):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
        for number in range(count):
            # Images of one size would be kept in memory.
            pixels = rng.integers(0, 256, (SIDE, SIDE + number % 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / "ab"[number % 2] / f"{number:03d}.png")
    return root


@pytest.fixture(scope="module")
def images(root: Path) -> Images:
    return open_data(f"folder:{root}").role("train")


@pytest.fixture
def recipe(root: Path, tmp_path: Path) -> str:
    path = tmp_path / "files.yaml"
    path.write_text(RECIPE.format(root=root))
    return str(path)


class Fails(nn.Module):
    """A network that fails at its second batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches = 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += 1
        if self.batches == 2:
            raise RuntimeError("out of memory")
        return images.mean((2, 3))


def test_training_with_a_survey_and_a_knn_check(recipe: str, tmp_path: Path) -> None:
    # The loader's two, two of each epoch's survey, and the decoders of the kNN check.
    with everything_ends(workers=6):
        outcome = train(load_recipe(recipe), tmp_path / "run")
    assert outcome.step == 4


def test_a_training_that_fails_between_two_steps(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss became nan") as kept, everything_ends(workers=2):
        train(load_recipe(recipe, ["optimizer.lr=1e30"]), tmp_path / "run")
    assert kept.traceback


def test_extraction(images: Images) -> None:
    with everything_ends(workers=2):
        extract_features(nn.Flatten(), images, TRANSFORM, batch_size=16, workers=2, device="cpu", progress=False)


def test_an_extraction_that_fails(images: Images) -> None:
    with pytest.raises(RuntimeError, match="out of memory") as kept, everything_ends(workers=2):
        extract_features(Fails(), images, TRANSFORM, batch_size=16, workers=2, progress=False)
    assert kept.traceback


def test_a_survey_that_fails(images: Images) -> None:
    network = create_backbone("resnet10_small", image_size=SIDE)
    seen = []

    def fail(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(len(arguments[0]))
        if len(seen) == 3:  # the first is a look at the size of the map
            raise RuntimeError("out of memory")

    network.conv1.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory") as kept, everything_ends(workers=2):
        locate(network, images, side=SIDE, mean=(0.5,) * 3, std=(0.2,) * 3, workers=2)
    assert kept.traceback
    assert seen[1] > 1


@pytest.mark.parametrize("fails", [False, True])
def test_fine_tuning(images: Images, root: Path, tmp_path: Path, fails: bool) -> None:
    (tmp_path / "train").symlink_to(root / "train")
    shutil.copytree(root / "test", tmp_path / "test")
    test = open_data(f"folder:{tmp_path}").role("test")
    if fails:  # found after the first epoch
        next((tmp_path / "test" / "b").iterdir()).unlink()
    preset = replace(FINETUNE_PRESETS["standard"], epochs=1, batch=140, holdout=0.0)
    with pytest.raises(UserError) if fails else nullcontext(), everything_ends(workers=2):
        fine_tune(
            create_backbone("test_resnet", image_size=SIDE),
            labelled(images),
            labelled(test),
            2,
            preset=preset,
            rates=Rates(0.01, 0.1),
            transform=TRANSFORM,
            runtime=RUNTIME,
        )


def labelled(images: Images) -> Labelled:
    assert images.labels is not None
    return Labelled(images, images.labels, np.arange(len(images)))


def test_linear_classification_of_random_crops(root: Path) -> None:
    model, data = open_model("random:test_resnet", image_size=SIDE), open_data(f"folder:{root}")
    preset = LINEAR_PRESETS["moco"].change(mode="exact", epochs=1, batch=70)
    with everything_ends(workers=2):
        run_linear(model, data, preset=preset, image_size=SIDE, runtime=RUNTIME)


def test_a_closed_loader_can_be_iterated_again() -> None:
    with everything_ends(workers=4):
        loader = ClosableLoader(Squares(), batch_size=None, num_workers=2, persistent_workers=True)
        seen = iter(loader)
        assert [next(seen), next(seen)] == [0, 1]
        loader.close()
        assert list(loader) == [0, 1, 4, 9, 16]
        loader.close()
        loader.close()


class Squares(Dataset[int]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> int:
        return index * index


PROGRAM = """
import sys
from evaluation.views import ViewSettings, ViewSource, ViewSpec
from zoo.data import open_data

data = open_data(f"folder:{sys.argv[1]}")
settings = ViewSettings(size=16, blur=0.0, backend="cpu")
specs = [ViewSpec("query"), ViewSpec("key")]
images = data.role("pretrain")
source = ViewSource(images, specs, settings, mean=data.mean, std=data.std, seed=0, batch=40, device="cpu", workers=2)
for batch in source.batches(epoch=0, first_step=0):
    break
print(len(batch.index))
"""


def test_a_program_that_closes_nothing_ends(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(root)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "40"), done.stderr
