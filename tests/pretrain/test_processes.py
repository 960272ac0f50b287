"""Two processes on the CPU (gloo) against one: losses, gradients, weights, resume."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from run_files import losses
from two_processes import in_two_processes

from pretrain.loop import train
from pretrain.methods.parts import gather_with_gradient
from pretrain.methods.simclr import nt_xent
from pretrain.recipes import load_recipe, resume_recipe
from zoo.errors import UserError
from zoo.models.runs import checkpoints, latest_checkpoint, read_checkpoint, read_recipe

# Without batch norm, two processes must give what one gives with the joint batch, up to the order of sums.
RECIPE = """
data: shapes:train=32,test=8,size=16
backbone: test_vit
method: {METHOD}
views: {size: 16, blur: 0.0}
batch: 8
epochs: 1
optimizer: {lr: 0.02, weight_decay: 0.0}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
checkpoint: {every_steps: 1, keep: 9}
"""
PLAIN = {
    "simclr": "name: simclr, dim: 16",
    "moco": "name: moco, dim: 16, queue: 16, momentum: 0.9",
    "byol": "name: byol, dim: 16, hidden: 32, head_norm: false, momentum: 0.9",
    "simsiam": "name: simsiam, dim: 16, predictor_hidden: 8, head_norm: false",
}
# With it, one process must form the groups that two have.
NORMED = {f"{name}_bn": method.replace(", head_norm: false", "") for name, method in PLAIN.items()}
CASES = {name: RECIPE.replace("METHOD", method) for name, method in PLAIN.items()} | {
    name: RECIPE.replace("METHOD", method).replace("test_vit", "test_resnet").replace("batch: 8\nepochs: 1", "batch: 16\nepochs: 2")
    for name, method in NORMED.items()
}
BROKEN = ("moco", "byol_bn")
STEPS, KEPT = 4, 1  # of a run, and checkpoints of a broken one, as if it had been killed after that step


def _worker(rank: int, root: Path) -> None:
    for name in CASES:
        train(load_recipe(str(root / f"{name}.yaml")), root / f"{name}_two")
    for name in BROKEN:
        run = root / f"{name}_broken"
        if rank == 0:
            shutil.copytree(root / f"{name}_two", run)
            for path in checkpoints(run)[KEPT:]:
                path.unlink()
        torch.distributed.barrier()
        train(resume_recipe(read_recipe(run), []), run, resume=True)
    # The gradient of the joint SimCLR loss, rows of two processes, as DistributedDataParallel averages it.
    first, second = (t.chunk(2)[rank].clone().requires_grad_() for t in torch.load(root / "embeddings.pt"))
    nt_xent(gather_with_gradient(first), gather_with_gradient(second), 0.5).backward()
    torch.save([first.grad / 2, second.grad / 2], root / f"gradient{rank}.pt")  # type: ignore[operator]
    try:
        train(load_recipe(str(root / "byol_bn.yaml"), ["sync_bn=true"]), root / "refused")
    except UserError as error:
        (root / f"refusal{rank}.txt").write_text(str(error))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All methods by one process here, then by two processes; some of the latter again, broken and resumed."""
    root = tmp_path_factory.mktemp("processes")
    generator = torch.Generator().manual_seed(0)
    torch.save([torch.nn.functional.normalize(torch.randn(6, 5, generator=generator), dim=1) for _ in range(2)], root / "embeddings.pt")
    for name, text in CASES.items():
        (root / f"{name}.yaml").write_text(text)
        train(load_recipe(str(root / f"{name}.yaml"), ["bn_splits=2"] if name in NORMED else []), root / f"{name}_one")
    in_two_processes(_worker, root)
    return root


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_are_one_with_the_joint_batch(runs: Path, name: str) -> None:
    assert len(losses(runs / f"{name}_two")) == STEPS
    assert np.allclose(losses(runs / f"{name}_one"), losses(runs / f"{name}_two"), atol=1e-4)
    one, two = (read_checkpoint(latest_checkpoint(runs / f"{name}_{count}"))["model"] for count in ("one", "two"))
    assert one.keys() == two.keys()
    # The statistics of one process are the mean over its groups; a checkpoint of two processes has the first one's.
    for key in one if name in PLAIN else (key for key in one if "running_" not in key):
        assert torch.allclose(one[key].float(), two[key].float(), atol=1e-3), key


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_have_the_gradient_of_the_joint_batch(runs: Path, name: str) -> None:
    # Without weight decay, what momentum holds after the first step is its gradient.
    one, two = (read_checkpoint(checkpoints(runs / f"{name}_{count}")[0]) for count in ("one", "two"))
    assert (one["step"], two["step"]) == (1, 1)
    gradients = [[state["momentum_buffer"] for state in checkpoint["optimizer"]["state"].values()] for checkpoint in (one, two)]
    largest = max(gradient.abs().max().item() for gradient in gradients[0])
    assert largest > 1e-2
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("name", BROKEN)
def test_two_processes_resume_exactly(runs: Path, name: str) -> None:
    assert losses(runs / f"{name}_two") == losses(runs / f"{name}_broken")
    whole, broken = (read_checkpoint(latest_checkpoint(runs / f"{name}_{kind}"))["model"] for kind in ("two", "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_sync_batchnorm_without_gpus_is_refused_with_the_reason(runs: Path) -> None:
    for rank in range(2):
        assert (runs / f"refusal{rank}.txt").read_text().startswith("sync_bn=true needs GPUs: torch has no SyncBatchNorm for CPUs")
    assert not (runs / "refused").exists()


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["simclr_bn", "byol_bn", "simsiam_bn"])
def test_sync_batchnorm_on_a_gpu_trains_as_batchnorm_does(tmp_path: Path, name: str) -> None:
    """In one process: the layer is another one, the numbers are the same."""
    (tmp_path / "recipe.yaml").write_text(CASES[name])
    for sync in ("true", "false"):
        train(load_recipe(str(tmp_path / "recipe.yaml"), ["device=cuda", f"sync_bn={sync}"]), tmp_path / sync)
    assert np.allclose(losses(tmp_path / "true"), losses(tmp_path / "false"), atol=1e-3)


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
