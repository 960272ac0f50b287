"""What does CsMl's step cost? Beside MoCo v2's: same network, batch and queue, views that are ready.

    python benchmarks/csml_step.py [--quick] [--backbone resnet18] [--size 32] [--batch 256] [--queue 16384] [--level4 off,global,patch]

All steps take turns on the same tensors; a ratio is the median over the turns, by wall clock and, on a CPU, by processor time. At the last
level alone (`off`) there are three queries and two keys where MoCo has one of either: 11 forward passes for 4, a backward pass being two,
so 2.75 by arithmetic. It is timed in its first epochs (a query has one positive) and after them (two, which share the product with the
queue); the second level after them.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from method_step import Step

from pretrain.methods import CsMl, MoCo, RunFacts
from pretrain.methods.csml import CsMlSettings
from pretrain.methods.moco import MoCoSettings
from pretrain.methods.multi_level import LevelMode
from zoo.backbones import create_backbone

IMAGES, DIM = 20_000, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small case: does it run at all?")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--queue", type=int, default=16384)
    parser.add_argument("--level4", default="off", help="of off, global and patch, with commas between")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="networks under autocast to bfloat16, as on a GPU")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.quick:
        options.backbone, options.batch, options.queue, options.level4 = "resnet10_small", 16, 64, "off,global,patch"
        options.pairs = options.steps = 1
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    views = [torch.randn(options.batch, 3, options.size, options.size, device=device) for _ in range(4)]
    facts = RunFacts(images=IMAGES, batch=options.batch, seed=0, steps=1000)

    def step(kind: type[MoCo], settings: MoCoSettings, count: int, first: int = 0) -> Step:
        torch.manual_seed(0)
        method = kind(lambda: create_backbone(options.backbone, image_size=options.size), settings, facts).to(device).train()
        return Step(method, views[:count], options.bf16, first)

    steps = {"MoCo v2": step(MoCo, MoCoSettings(dim=DIM, queue=options.queue), 2)}
    for mode in options.level4.split(","):
        settings = CsMlSettings(dim=DIM, queue=options.queue, refresh_epochs=1, cross_epochs=1, level4=LevelMode(mode))
        if mode == "off":
            steps["CsMl, first epochs"] = step(CsMl, settings, 4)
        steps[f"CsMl, level4={mode}"] = step(CsMl, settings, 4, facts.steps_per_epoch)
    for one in steps.values():
        one.seconds(1)
    turns = [{name: one.timed(options.steps) for name, one in steps.items()} for _ in range(options.pairs)]
    print(f"device {device}, {torch.get_num_threads()} threads, torch {torch.__version__}{', bf16' if options.bf16 else ''}")
    print(f"{options.backbone} at {options.size} px, batch {options.batch}, queue {options.queue}")
    # What other programs take is in the first; processors' time means nothing where a GPU works.
    for clock, title in enumerate(["wall clock", *(["processors"] if device == "cpu" else [])]):
        print(f"{title}, median of {options.pairs} turns")
        for name in steps:
            ratios = [turn[name][clock] / turn["MoCo v2"][clock] for turn in turns]
            milliseconds = 1000 * statistics.median(turn[name][clock] for turn in turns)
            spread = f"({min(ratios):.2f} .. {max(ratios):.2f})"
            print(f"  {name:<20}{milliseconds:>8.0f} ms{statistics.median(ratios):>7.2f} of MoCo's {spread}")


if __name__ == "__main__":
    main()
