"""The whole MoCo v2 loop beside lightly's: same network, images, batch, augmentation, queue.

    python -m venv LIGHTLY && LIGHTLY/bin/pip install lightly torch torchvision
    python benchmarks/lightly_moco.py --lightly LIGHTLY/bin/python [--quick] [--pairs 3] [--workers 2] [--device auto]

lightly 1.6 runs in an environment of its own, as its documentation's MoCo example has it: `MoCoV2Transform` in a `DataLoader` of
`--workers` processes, `NTXentLoss` with a memory bank, shuffled keys, momentum update, SGD. Both loops take turns, each in a fresh
process's first epoch with its first steps left out; a ratio is the median over the pairs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

SIZE, QUEUE, LEFT_OUT = 32, 4096, 2
CASES = {"resnet18_small": 64, "resnet18": 256}  # network -> batch


def lightly_seconds(network: str, pixels: Path, batch: int, steps: int, workers: int, device: str) -> float:
    """Seconds per step of lightly's loop. Runs where lightly is installed."""
    import copy

    import torchvision
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import batch_shuffle, batch_unshuffle, deactivate_requires_grad, update_momentum
    from lightly.transforms import MoCoV2Transform
    from PIL import Image

    class Pixels(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.pixels = np.load(pixels)
            self.transform = MoCoV2Transform(input_size=SIZE, gaussian_blur=0.0)

        def __len__(self) -> int:
            return len(self.pixels)

        def __getitem__(self, index: int) -> list[torch.Tensor]:
            return self.transform(Image.fromarray(self.pixels[index]))

    backbone = torchvision.models.resnet18()
    if network == "resnet18_small":
        backbone.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        backbone.maxpool = torch.nn.Identity()
    backbone.fc = torch.nn.Identity()
    query = torch.nn.Sequential(backbone, MoCoProjectionHead(512, 512, 128)).to(device).train()
    key = copy.deepcopy(query)
    deactivate_requires_grad(key)
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(QUEUE, 128)).to(device)
    optimizer = torch.optim.SGD(query.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    loader = torch.utils.data.DataLoader(Pixels(), batch, shuffle=True, drop_last=True, num_workers=workers)
    times = []
    mark = time.perf_counter()
    for first, second in loader:
        update_momentum(query, key, 0.999)
        first, second = first.to(device), second.to(device)
        with torch.no_grad():
            shuffled, order = batch_shuffle(second)
            keys = batch_unshuffle(key(shuffled), order)
        loss = criterion(query(first), keys)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # the log's, as in the documentation's example
        now = time.perf_counter()
        times.append(now - mark)
        mark = now
    return statistics.mean(times[LEFT_OUT : LEFT_OUT + steps])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lightly", type=Path, help="the Python of the environment that lightly is installed in")
    parser.add_argument("--quick", action="store_true", help="one pair of two steps: does it run at all?")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2, help="lightly's loader processes; our views need none here")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--lightly-side", nargs=3, metavar=("NETWORK", "PIXELS", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    if options.lightly_side:
        network, pixels, batch = options.lightly_side
        print(lightly_seconds(network, Path(pixels), int(batch), options.steps, options.workers, device))
        return
    if options.lightly is None:
        parser.error("name the Python of lightly's environment with --lightly")
    from step import loop_seconds

    from zoo.data import open_data

    pairs, steps = (1, 2) if options.quick else (options.pairs, options.steps)
    print(f"device {device}, {torch.get_num_threads()} threads, torch {torch.__version__}, lightly with {options.workers} loader processes")
    print(f"{'network':<16}{'batch':>6}{'lightly img/s':>15}{'ours img/s':>12}{'ours / lightly':>16}")
    with tempfile.TemporaryDirectory() as folder:
        for network, batch in CASES.items():
            pixels = Path(folder) / f"{network}.npy"
            # lightly's loader drops what does not fill a batch, and prefetches: a few batches more than are timed.
            np.save(pixels, open_data(f"shapes:train={batch * (steps + LEFT_OUT + 2)},test=1").role("pretrain").pixels)
            command = [str(options.lightly), __file__, "--steps", str(steps), "--workers", str(options.workers), "--device", device]
            times: list[tuple[float, float]] = []
            for _ in range(pairs):
                side = subprocess.run(
                    [*command, "--lightly-side", network, str(pixels), str(batch)], check=True, capture_output=True, text=True
                )
                times.append((float(side.stdout.split()[-1]), loop_seconds(network, batch, steps, device)))
            ratios = [theirs / ours for theirs, ours in times]
            theirs, ours = (batch / statistics.median(column) for column in zip(*times, strict=True))
            spread = f"({min(ratios):.2f} .. {max(ratios):.2f})"
            print(f"{network:<16}{batch:>6}{theirs:>15.0f}{ours:>12.0f}{statistics.median(ratios):>16.2f}   {spread}")


if __name__ == "__main__":
    main()
