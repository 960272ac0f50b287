"""What do boxes cost? Their extraction beside a loop over the images, and a whole survey beside its bare forward passes.

    python benchmarks/boxes.py [--quick] [--threads 1] [--pairs 7] [--device auto]

Both sides take turns; a ratio is the median over the pairs. The loop is the published one in torch: per image the scaling, the
enlargement, the maxima over rows and columns, and the first and last active index of each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.extraction.batches import BATCH_SIZE
from pretrain.encoder import Encoder
from pretrain.settings import BoxSettings
from pretrain.survey import BoxMaker, Survey, extract_boxes
from zoo.backbones import create_backbone
from zoo.data import open_data
from zoo.models.transforms import normalise

CASES = ((4, 32), (12, 96), (7, 224))  # cells of the map, side of the image
BAR = 10.0  # times the loop's speed, at 4x4 -> 32


def loop(heat: Tensor, side: int, threshold: float = 0.1) -> Tensor:
    boxes = []
    for one in heat:
        one = one - one.min()
        one = one / one.max()
        active = F.interpolate(one[None, None], size=(side, side), mode="bilinear", align_corners=False)[0, 0] > threshold
        rows, columns = active.max(dim=1).values.nonzero().flatten(), active.max(dim=0).values.nonzero().flatten()
        ends = (rows[0].item(), columns[0].item(), rows[-1].item(), columns[-1].item())
        boxes.append(torch.tensor([end / side for end in ends]))
    return torch.stack(boxes)


def seconds(function: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def ratio(first: list[float], second: list[float]) -> str:
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return f"{statistics.median(ratios):>9.2f}   ({min(ratios):.2f} .. {max(ratios):.2f})"


def measure_extraction(images: int, pairs: int, device: torch.device) -> None:
    print(f"{'map -> image':<14}{'loop, us/image':>16}{'batch, us/image':>17}{'loop / batch':>14}   (at least {BAR:g} at 4x4 -> 32)")
    for cells, side in CASES:
        heat = torch.rand(images, cells, cells, generator=torch.Generator().manual_seed(0)).to(device) ** 4
        assert torch.equal(extract_boxes(heat, side)[0].cpu(), loop(heat, side))
        slow = [seconds(lambda heat=heat, side=side: loop(heat, side), device) for _ in range(pairs)]
        fast = [seconds(lambda heat=heat, side=side: extract_boxes(heat, side), device) for _ in range(pairs)]
        per_image = [1e6 * statistics.median(times) / images for times in (slow, fast)]
        print(f"{f'{cells}x{cells} -> {side}':<14}{per_image[0]:>16.1f}{per_image[1]:>17.2f}     {ratio(slow, fast)}")


def measure_survey(backbone: str, images: int, pairs: int, device: torch.device) -> None:
    data = open_data(f"shapes:train={images},test=1")
    pixels = torch.from_numpy(data.role("pretrain").pixels).to(device)
    network = create_backbone(backbone, image_size=32).to(device)
    encoder = Encoder(network, nn.Linear(int(network.num_features), 128).to(device))  # type: ignore[arg-type]
    maker = BoxMaker(BoxSettings(1, 1), 32)
    survey = Survey(data.role("pretrain"), [maker], size=32, native=32, mean=data.mean, std=data.std, device=device)

    @torch.inference_mode()
    def forward() -> None:
        network.eval()
        for start in range(0, images, BATCH_SIZE):
            network(normalise(pixels[start : start + BATCH_SIZE], data.mean, data.std))

    times: dict[str, list[float]] = {"survey": [], "forward": []}
    for pair in range(pairs + 1):
        for name, function in (("forward", forward), ("survey", lambda: survey(1, lambda _: encoder))):
            spent = seconds(function, device)
            if pair:
                times[name].append(spent)
    speeds = [images / statistics.median(times[name]) for name in ("survey", "forward")]
    print(f"survey of {images} images, {backbone} at 32 px: {speeds[0]:.0f} images/s; bare forward {speeds[1]:.0f} images/s")
    print(f"survey / forward: {ratio(times['survey'], times['forward'])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images and pairs: does it run at all?")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--backbone", default="resnet18_small")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pairs, images = (2, 64) if arguments.quick else (arguments.pairs, arguments.images)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if arguments.device == "auto" else arguments.device
    device = torch.device(name)
    print(f"device {name}, {arguments.threads} thread(s), torch {torch.__version__}")
    measure_extraction(images, pairs, device)
    measure_survey(arguments.backbone, 2 * images, pairs, device)


if __name__ == "__main__":
    main()
