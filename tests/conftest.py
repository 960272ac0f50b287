"""Fixtures that several rooms need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from zoo.backbones import create_backbone
from zoo.runs import CHECKPOINT_FOLDER, CHECKPOINT_FORMAT, checkpoint_name

MakeRun = Callable[..., Path]


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Give every tensor of a network, batch-norm statistics included, a value of its own, so that nothing can pass for an initial value."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(seed + 7)
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        else:
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder as pre-training leaves it: two encoders with random weights and statistics, a queue, one checkpoint per step."""

    def make(
        name: str = "run",
        *,
        arch: str = "test_resnet",
        image_size: int = 32,
        steps: tuple[int, ...] = (10,),
        recipe_arch: str | None = None,
    ) -> Path:
        run = tmp_path / name
        (run / "checkpoints").mkdir(parents=True)
        (run / "recipe.yaml").write_text(
            f"backbone: {recipe_arch or arch}\ndata: cifar10:/somebody/data\nepochs: 4\nviews:\n  size: {image_size}\n"
            "lr: 0.03\nmethod:\n  name: moco\n  temperature: 0.2\n"
        )
        (run / "environment.json").write_text('{"commit": "abc1234", "versions": {"torch": "2.9"}, "host": "somebody.example"}')
        for step in steps:
            model = {"queue": torch.randn(4, 8)}
            for seed, prefix in enumerate(("encoder_q.", "encoder_k.")):
                backbone = randomise(create_backbone(arch, image_size=image_size), step + seed)
                model.update({prefix + key: tensor for key, tensor in backbone.state_dict().items()})
            checkpoint = {
                "format": CHECKPOINT_FORMAT,
                "step": step,
                "epoch": step // 5,
                "arch": arch,
                "image_size": image_size,
                "mean": [0.5, 0.4, 0.3],
                "std": [0.2, 0.25, 0.3],
                "data": "cifar10:/somebody/data",
                "model": model,
                "encoders": {"query": "encoder_q.", "key": "encoder_k."},
                "optimizer": {"state": {}, "param_groups": []},
            }
            torch.save(checkpoint, run / CHECKPOINT_FOLDER / checkpoint_name(step))
        return run

    return make
