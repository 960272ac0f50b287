"""HCSC by two processes (gloo): prototypes as one makes them, and a resumed run."""

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
from pretrain.survey import PrototypeMaker, Survey
from zoo.backbones import create_backbone
from zoo.data import open_data
from zoo.models.runs import checkpoints, latest_checkpoint, read_checkpoint, read_recipe

# Not a multiple of the batch, nor of the processes.
IMAGES = 2 * BATCH_SIZE + 11
# Fewer images than a batch of the survey: the first process's share of them is empty.
RECIPE = """
data: shapes:train=32,test=8,size=16
backbone: test_vit
method: {name: hcsc, dim: 16, queue: 16, levels: [8, 6, 4], warmup_epochs: 1}
views: {size: 16, blur: 0.0}
batch: 8
epochs: 3
optimizer: {lr: 0.05}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
checkpoint: {every_steps: 3, keep: 99}
"""


def prototypes() -> dict[str, np.ndarray]:
    """The tables of a network with random weights."""
    torch.manual_seed(0)
    encoder = Encoder(create_backbone("test_vit", image_size=16), torch.nn.Linear(64, 8))
    data = open_data(f"shapes:train={IMAGES},test=2,size=16")
    maker = PrototypeMaker((12, 6, 3), 1, temperature=0.2, seed=0, empty=torch.empty(0, 8), labels={})
    survey = Survey(data.role("pretrain"), [maker], size=16, native=16, mean=data.mean, std=data.std, device=torch.device("cpu"))
    return survey(1, lambda name: encoder).tables


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
    np.savez(root / f"prototypes{rank}.npz", **prototypes())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hcsc")
    (folder / "recipe.yaml").write_text(RECIPE)
    in_two_processes(_worker, folder)
    return folder


@pytest.mark.usefixtures("one_thread")
def test_two_processes_find_the_same_prototypes_and_those_of_one(root: Path) -> None:
    alone = prototypes()
    first, second = (np.load(root / f"prototypes{rank}.npz") for rank in range(2))
    assert set(first) == set(second) == set(alone)
    for name, table in alone.items():
        assert np.array_equal(first[name], second[name]), name
        assert first[name].shape == table.shape
        assert first[name].dtype == table.dtype
    # Sums are rounded otherwise, so a few images may be in another cluster.
    assert (first["prototypes.assignments.0"] == alone["prototypes.assignments.0"]).mean() > 0.95
    assert len(np.unique(alone["prototypes.assignments.0"])) == 12
    assert alone["prototypes.assignments.0"].shape == (IMAGES,)


def test_a_run_of_two_processes_resumes_exactly(root: Path) -> None:
    whole, broken = (read_log(root / name / "log.jsonl") for name in ("two", "broken"))
    assert len(whole) == 12
    assert [row["loss"] for row in whole] == [row["loss"] for row in broken]
    assert ["prototypes/0/dropped" in row for row in whole] == [step in (4, 8) for step in range(12)]
    assert [row.get("prototypes/0/dropped") for row in whole] == [row.get("prototypes/0/dropped") for row in broken]
    states = [read_checkpoint(latest_checkpoint(root / name)) for name in ("two", "broken")]
    for part in ("model", "tables"):
        assert all(torch.equal(states[1][part][key], value) for key, value in states[0][part].items())
