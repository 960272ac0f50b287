"""Two processes on the CPU (gloo) against one: losses, weights, resume."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.methods.parts import gather_with_gradient
from pretrain.methods.simclr import nt_xent
from pretrain.recipes import load_recipe, resume_recipe
from zoo.errors import UserError
from zoo.runs import checkpoints, latest_checkpoint, read_checkpoint, read_recipe

# A transformer has no batch norm, so two processes must give what one gives with the joint batch, up to the order of sums.
RECIPE = """
data: shapes:train=32,test=8,size=16
backbone: test_vit
method: {name: NAME, dim: 16}
views: {size: 16, blur: 0.0}
batch: 8
epochs: 2
optimizer: {lr: 0.05}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
checkpoint: {every_steps: 3, keep: 9}
"""
CASES = {"simclr": RECIPE.replace("NAME", "simclr"), "moco": RECIPE.replace("NAME", "moco, queue: 16, momentum: 0.9")}


def _worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", ACCELERATE_USE_CPU="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    root = Path(folder)
    for name in CASES:
        config = load_recipe(str(root / f"{name}.yaml"))
        train(config, root / f"{name}_two")
        run = root / f"{name}_broken"
        train(config, run)
        torch.distributed.barrier()
        if rank == 0:
            for path in checkpoints(run)[1:]:
                path.unlink()  # as if it had been killed after step 3 of 8, in mid-epoch
        torch.distributed.barrier()
        train(resume_recipe(read_recipe(run), []), run, resume=True)
    # The gradient of the joint SimCLR loss, rows of two processes, as DistributedDataParallel averages it.
    first, second = (t.chunk(2)[rank].clone().requires_grad_() for t in torch.load(root / "embeddings.pt"))
    nt_xent(gather_with_gradient(first), gather_with_gradient(second), 0.5).backward()
    torch.save([first.grad / 2, second.grad / 2], root / f"gradient{rank}.pt")  # type: ignore[operator]
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both methods by one process here, then by two processes, unbroken and resumed."""
    root = tmp_path_factory.mktemp("processes")
    generator = torch.Generator().manual_seed(0)
    torch.save([torch.nn.functional.normalize(torch.randn(6, 5, generator=generator), dim=1) for _ in range(2)], root / "embeddings.pt")
    for name, text in CASES.items():
        (root / f"{name}.yaml").write_text(text)
        train(load_recipe(str(root / f"{name}.yaml")), root / f"{name}_one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_worker, (port, str(root)), nprocs=2)
    return root


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in read_log(run / "log.jsonl")]


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_are_one_with_the_joint_batch(runs: Path, name: str) -> None:
    assert len(losses(runs / f"{name}_two")) == 8
    assert np.allclose(losses(runs / f"{name}_one"), losses(runs / f"{name}_two"), atol=1e-4)
    one, two = (read_checkpoint(latest_checkpoint(runs / f"{name}_{count}"))["model"] for count in ("one", "two"))
    assert one.keys() == two.keys()
    for key in one:
        assert torch.allclose(one[key].float(), two[key].float(), atol=1e-3), key


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_resume_exactly(runs: Path, name: str) -> None:
    assert losses(runs / f"{name}_two") == losses(runs / f"{name}_broken")
    whole, broken = (read_checkpoint(latest_checkpoint(runs / f"{name}_{kind}"))["model"] for kind in ("two", "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_the_gathered_gradient_is_that_of_the_joint_batch(runs: Path) -> None:
    first, second = (t.requires_grad_() for t in torch.load(runs / "embeddings.pt"))
    nt_xent(first, second, 0.5).backward()
    parts = [torch.load(runs / f"gradient{rank}.pt") for rank in range(2)]
    for view, joint in enumerate((first, second)):
        assert torch.allclose(torch.cat([part[view] for part in parts]), joint.grad, atol=1e-6)


def test_another_number_of_processes_is_refused_with_the_reason(runs: Path) -> None:
    run = runs / "moco_two"
    with pytest.raises(UserError, match="was made by 2 processes and cannot go on with 1"):
        train(resume_recipe(read_recipe(run), []), run, resume=True)
