"""What do HCSC's selections cost? Its step beside MoCo v2's: same network, batch and queue, views that are ready.

    python benchmarks/hcsc_step.py [--quick] [--backbone resnet18] [--size 32] [--batch 256] [--queue 16384] [--levels 3000,2000,1000]

Both steps take turns on the same tensors, with prototypes as after a survey of random features; the overhead is the median over the pairs.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from method_step import Step

from pretrain.fitting.made_up import made_up_hierarchy
from pretrain.methods import MoCo, RunFacts
from pretrain.methods.hcsc import HCSC, HCSCSettings
from pretrain.methods.moco import MoCoSettings
from pretrain.survey.prototypes import PREFIX
from zoo.backbones import create_backbone

IMAGES, DIM, TEMPERATURE = 20_000, 128, 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small case: does it run at all?")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--queue", type=int, default=16384)
    parser.add_argument("--levels", default="3000,2000,1000")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="networks under autocast to bfloat16, as on a GPU")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.quick:
        options.batch, options.queue, options.levels, options.pairs, options.steps = 16, 64, "12,6,3", 1, 1
    levels = [int(count) for count in options.levels.split(",")]
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    views = [torch.randn(options.batch, 3, options.size, options.size, device=device) for _ in range(2)]
    facts = RunFacts(images=IMAGES, batch=options.batch, seed=0, steps=1000)
    steps = {}
    for name, kind, settings in (
        ("moco", MoCo, MoCoSettings(dim=DIM, queue=options.queue, temperature=TEMPERATURE)),
        ("hcsc", HCSC, HCSCSettings(dim=DIM, queue=options.queue, temperature=TEMPERATURE, levels=levels, warmup_epochs=0)),
    ):
        torch.manual_seed(0)
        method = kind(lambda: create_backbone(options.backbone, image_size=options.size), settings, facts).to(device).train()
        steps[name] = Step(method, views, options.bf16)
    tables = {PREFIX + name: tensor.numpy() for name, tensor in made_up_hierarchy(levels, IMAGES, DIM, TEMPERATURE).state_dict().items()}
    steps["hcsc"].method.receive(tables)
    for step in steps.values():
        step.seconds(1)
    timed = [(steps["moco"].seconds(options.steps), steps["hcsc"].seconds(options.steps)) for _ in range(options.pairs)]
    overheads = [100 * (hcsc / moco - 1) for moco, hcsc in timed]
    milliseconds = [1000 * statistics.median(times) for times in zip(*timed, strict=True)]
    print(f"device {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{options.backbone} at {options.size} px, batch {options.batch}, queue {options.queue}, levels {options.levels}")
    print(f"MoCo v2 {milliseconds[0]:.0f} ms a step, HCSC {milliseconds[1]:.0f} ms")
    print(f"overhead {statistics.median(overheads):.1f} % ({min(overheads):.1f} .. {max(overheads):.1f}, {options.pairs} pairs)")


if __name__ == "__main__":
    main()
