"""What torch.compile gains: a method's step on ready views, eager and compiled, in turn, in one process.

    python benchmarks/compiled_step.py [--method moco] [--backbone resnet18_small] [--side 32] [--batch 64] [--bf16] [--device auto]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "gpu"))

from measure import seconds, synchronise
from steps import Size, Step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="moco")
    parser.add_argument("--backbone", default="resnet18_small")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    name = ("cuda" if torch.cuda.is_available() else "cpu") if given.device == "auto" else given.device
    device, size = torch.device(name), Size(given.backbone, given.side, given.batch, 50_000, 64 * given.batch, (594, 396, 198))
    eager, compiled = (Step(given.method, size, device, bf16=given.bf16, compiled=which) for which in (False, True))
    started = time.perf_counter()
    compiled()
    synchronise(device)
    first = time.perf_counter() - started
    eager()
    turns = [[seconds(step, device, repeats=given.steps, warm_up=0) for step in (eager, compiled)] for _ in range(given.pairs)]
    ratios = [plain / fast for plain, fast in turns]
    losses = [float(step.losses[0]) for step in (eager, compiled)]
    print(f"device {name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {'bf16' if given.bf16 else 'fp32'}")
    print(f"{given.method}, {given.backbone} at {given.side} px, batch {given.batch}; first compiled step {first:.0f} s")
    print("eager {:.0f} ms, compiled {:.0f} ms".format(*(1000 * statistics.median(times) for times in zip(*turns, strict=True))))
    print(f"eager / compiled {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f}, {given.pairs} pairs)")
    print("first losses: eager {:.6f}, compiled {:.6f}".format(*losses))


if __name__ == "__main__":
    main()
