"""The survey by two processes (gloo): the tables of one, and runs that follow them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from two_processes import in_two_processes

from evaluation.extraction.batches import BATCH_SIZE
from evaluation.training.log import read_log
from pretrain.encoder import Encoder
from pretrain.loop import train
from pretrain.recipes import load_recipe, resume_recipe
from pretrain.settings import BoxSettings
from pretrain.survey import BoxMaker, Survey
from zoo.backbones import create_backbone
from zoo.data import open_data
from zoo.models.runs import checkpoints, latest_checkpoint, read_checkpoint, read_recipe

# Not a multiple of the batch, nor of the processes.
IMAGES = 2 * BATCH_SIZE + 11
# A transformer has no batch norm, so two processes must give what one gives with the joint batch, up to the order of sums.
RECIPE = """
data: shapes:train=32,test=8,size=32
backbone: test_vit
method: {name: simclr, dim: 16}
views: {size: 32, blur: 0.0, crop: contrastive_crop, alpha: 0.6}
boxes: {warmup_epochs: 1, every_epochs: 1, quantile: 0.5}
batch: 8
epochs: 3
optimizer: {lr: 0.05}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
checkpoint: {every_steps: 3, keep: 99}
"""


def survey_boxes(seed: int) -> np.ndarray:
    """The table of a network with random weights and, as processes that train have, batch-norm statistics of its own."""
    torch.manual_seed(0)
    encoder = Encoder(create_backbone("resnet10_small", image_size=16), torch.nn.Linear(256, 8))
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in encoder.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
    data = open_data(f"shapes:train={IMAGES},test=2,size=16")
    survey = Survey(
        data.role("pretrain"),
        [BoxMaker(BoxSettings(1, 1, threshold=0.4), 16)],
        size=16,
        native=16,
        mean=data.mean,
        std=data.std,
        device=torch.device("cpu"),
    )
    return survey(1, lambda name: encoder).tables["boxes"]


def _worker(rank: int, root: Path) -> None:
    config = load_recipe(str(root / "recipe.yaml"))
    train(config, root / "two")
    train(config, root / "broken")
    torch.distributed.barrier()
    if rank == 0:
        for path in checkpoints(root / "broken")[2:]:
            path.unlink()  # as if it had been killed after step 6 of 12, inside the second epoch
    torch.distributed.barrier()
    train(resume_recipe(read_recipe(root / "broken"), []), root / "broken", resume=True)
    np.save(root / f"boxes{rank}.npy", survey_boxes(seed=rank))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey")
    (folder / "recipe.yaml").write_text(RECIPE)
    train(load_recipe(str(folder / "recipe.yaml")), folder / "one")
    in_two_processes(_worker, folder)
    return folder


@pytest.mark.usefixtures("one_thread")
def test_two_processes_make_the_table_of_one_bit_for_bit(root: Path) -> None:
    """Each sees its share, by the first one's statistics, and both get all rows, in the order of the data."""
    expected = survey_boxes(seed=0)
    assert expected.shape == (IMAGES, 4)
    assert len(np.unique(expected, axis=0)) > 20
    for rank in range(2):
        assert np.array_equal(np.load(root / f"boxes{rank}.npy"), expected)


def test_two_processes_follow_boxes_as_one_does(root: Path) -> None:
    one, two = ([row["loss"] for row in read_log(root / name / "log.jsonl")] for name in ("one", "two"))
    assert len(two) == 12
    assert np.allclose(one, two, atol=1e-4)
    tables = [read_checkpoint(latest_checkpoint(root / name))["tables"]["boxes"] for name in ("one", "two")]
    # Weights differ in their last bits, which may move the edge of a box by a pixel.
    assert (tables[0] - tables[1]).abs().mean() < 0.5 / 32


def test_a_run_of_two_processes_that_follows_boxes_resumes_exactly(root: Path) -> None:
    whole, broken = (read_log(root / name / "log.jsonl") for name in ("two", "broken"))
    assert [row["loss"] for row in whole] == [row["loss"] for row in broken]
    assert [row.get("boxes/area") for row in whole] == [row.get("boxes/area") for row in broken]
