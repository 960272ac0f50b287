"""How much of the bare training step the whole loop keeps: views, log, progress and all, MoCo v2 at 32 px.

    python benchmarks/step.py [--quick] [--pairs 5] [--device auto]

The bare step is query forward, backward, optimizer, key forward and moving average on ready tensors, with the same network, batch and
threads. Bare step and loop are timed in turn, and the ratio is taken pair by pair, so that a drift of the machine's speed cancels.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.methods.base import Place, RunFacts
from pretrain.methods.moco import MoCo, MoCoSettings
from pretrain.recipes import load_recipe
from zoo.backbones import create_backbone

CASES = {"resnet18_small": (64, 0.95), "resnet18": (256, 0.8)}  # backbone -> batch, least share of the bare step


class BareStep:
    """A MoCo v2 step on tensors that are there already."""

    def __init__(self, backbone: str, batch: int, device: str) -> None:
        torch.manual_seed(0)
        self.method = MoCo(
            lambda: create_backbone(backbone, image_size=32), MoCoSettings(queue=4096), RunFacts(images=batch, batch=batch, seed=0, steps=1)
        )
        self.method.to(device).train()
        self.optimizer = torch.optim.SGD(self.method.parameter_groups()[0].parameters, lr=0.03, momentum=0.9, weight_decay=1e-4)
        self.views = [torch.randn(batch, 3, 32, 32, device=device) for _ in range(2)]
        self.index: Tensor = torch.arange(batch, device=device)

    def seconds(self, steps: int) -> float:
        started = time.perf_counter()
        for step in range(steps):
            self.method.start_step(step)
            self.method(self.views, self.index, Place(step))["contrastive"].backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.method.finish_step()
        if self.index.is_cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps


def loop_seconds(backbone: str, batch: int, steps: int, device: str) -> float:
    """Seconds per step of the whole loop, the first two steps left out (buffers are made in them)."""
    settings = [
        f"data=shapes:train={batch * (steps + 2)},test=10", f"backbone={backbone}", f"batch={batch}", "epochs=1", "views.size=32", 
        "views.hue=0.1",
        "views.channel_permutation=0", "method.queue=4096", "knn.every_epochs=0", f"device={device}", "log_every=1000", "optimizer.lr=0.03",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        train(load_recipe("moco_shapes", settings), Path(folder) / "run")
        return statistics.mean(row["seconds"] for row in read_log(Path(folder) / "run" / "log.jsonl")[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair of two steps: does it run at all?")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    pairs, steps = (1, 2) if arguments.quick else (arguments.pairs, arguments.steps)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if arguments.device == "auto" else arguments.device
    lines = [f"{'backbone':<16}{'batch':>6}{'bare images/s':>15}{'loop images/s':>15}{'loop / bare':>13}   (median of {pairs} pairs; bar)"]
    for backbone, (batch, bar) in CASES.items():
        bare = BareStep(backbone, batch, device)
        bare.seconds(2)
        timed = [(bare.seconds(steps), loop_seconds(backbone, batch, steps, device)) for _ in range(pairs)]
        ratio = statistics.median(b / w for b, w in timed)
        bare_speed, loop_speed = (batch / statistics.median(times) for times in zip(*timed, strict=True))
        spread = f"{min(b / w for b, w in timed):.2f} .. {max(b / w for b, w in timed):.2f}"
        lines.append(f"{backbone:<16}{batch:>6}{bare_speed:>15.0f}{loop_speed:>15.0f}{ratio:>13.3f}   ({spread}; at least {bar})")
    print(f"device {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
