"""CsMl by two processes (gloo): neighbours as one finds them, steps as one takes them, and a resumed run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from run_files import losses
from two_processes import in_two_processes

from evaluation.extraction.batches import BATCH_SIZE
from evaluation.training.log import read_log
from pretrain.encoder import Encoder
from pretrain.loop import train
from pretrain.recipes import load_recipe, resume_recipe
from pretrain.survey import NeighbourMaker, Survey
from zoo.backbones import create_backbone
from zoo.data import open_data
from zoo.models.runs import checkpoints, latest_checkpoint, read_checkpoint, read_recipe

# Not a multiple of the batch, nor of the processes.
IMAGES = 2 * BATCH_SIZE + 11
# Fewer images than a batch of the survey: the first process's share of them is empty. All parts are in use, prototypes from epoch 1 on.
RECIPE = """
data: shapes:train=32,test=8,size=16
backbone: resnet10_small
method:
  {name: csml, dim: 16, queue: 32, momentum: 0.9, k: 3, refresh_epochs: 1, cross_epochs: 1, level4: patch, levels: [8, 6, 4],
   prototypes: true, warmup_epochs: 1, prototype_selection: false}
views: {size: 16, blur: 0.0}
batch: 16
epochs: 2
optimizer: {lr: 0.02, weight_decay: 0.0}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
checkpoint: {every_steps: 1, keep: 99}
"""
STEPS, KEPT = 4, 3  # of a run, and checkpoints of a broken one: killed inside the second epoch


def neighbours() -> np.ndarray:
    """The table of a network with random weights."""
    torch.manual_seed(0)
    encoder = Encoder(create_backbone("test_vit", image_size=16), torch.nn.Linear(64, 8))
    data = open_data(f"shapes:train={IMAGES},test=2,size=16")
    maker = NeighbourMaker(5, 1, device=torch.device("cpu"), labels={})
    survey = Survey(data.role("pretrain"), [maker], size=16, native=16, mean=data.mean, std=data.std, device=torch.device("cpu"))
    return survey(0, lambda name: encoder).tables["neighbours"]


def _worker(rank: int, root: Path) -> None:
    config = load_recipe(str(root / "recipe.yaml"))
    train(config, root / "two")
    train(config, root / "broken")
    torch.distributed.barrier()
    if rank == 0:
        for path in checkpoints(root / "broken")[KEPT:]:
            path.unlink()
    torch.distributed.barrier()
    train(resume_recipe(read_recipe(root / "broken"), []), root / "broken", resume=True)
    np.save(root / f"neighbours{rank}.npy", neighbours())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("csml")
    (folder / "recipe.yaml").write_text(RECIPE)
    # One process must form the groups of batch norm that two have: of these are the boxes of the mixed view, too.
    train(load_recipe(str(folder / "recipe.yaml"), ["bn_splits=2"]), folder / "one")
    in_two_processes(_worker, folder)
    return folder


@pytest.mark.usefixtures("one_thread")
def test_two_processes_find_the_neighbours_of_one_bit_for_bit(root: Path) -> None:
    alone = neighbours()
    assert alone.shape == (IMAGES, 5)
    for rank in range(2):
        assert np.array_equal(np.load(root / f"neighbours{rank}.npy"), alone)


def test_two_processes_are_one_with_two_groups(root: Path) -> None:
    """In the first epoch; then k-means and searches may take another of two equals, since sums are rounded otherwise."""
    assert len(losses(root / "two")) == STEPS
    assert np.allclose(losses(root / "one")[:2], losses(root / "two")[:2], atol=1e-4)
    states = [read_checkpoint(checkpoints(root / name)[1]) for name in ("one", "two")]
    assert states[0]["step"] == states[1]["step"] == STEPS // 2
    one, two = (state["model"] for state in states)
    assert one.keys() == two.keys()
    for key in one:
        if "running_" not in key:
            assert torch.allclose(one[key].float(), two[key].float(), atol=1e-3), key
    assert torch.equal(states[0]["tables"]["neighbours"], states[1]["tables"]["neighbours"])


def test_a_run_of_two_processes_resumes_exactly(root: Path) -> None:
    whole, broken = (read_log(root / name / "log.jsonl") for name in ("two", "broken"))
    assert [row["loss"] for row in whole] == [row["loss"] for row in broken]
    assert ["neighbours/purity_class" in row for row in whole] == [step in (0, 2) for step in range(STEPS)]
    assert [row.get("neighbours/similarity") for row in whole] == [row.get("neighbours/similarity") for row in broken]
    states = [read_checkpoint(latest_checkpoint(root / name)) for name in ("two", "broken")]
    assert {"queue.keys", "level_queue.keys"} < states[0]["model"].keys()
    assert {"neighbours", "prototypes.centroids.0"} < states[0]["tables"].keys()
    for part in ("model", "tables"):
        assert states[0][part].keys() == states[1][part].keys()
        assert all(torch.equal(states[1][part][key], value) for key, value in states[0][part].items())
