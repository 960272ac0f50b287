"""How fast `zoo data` looks at images, beside a bare Pillow decode of the same files by the same number of processes.

    python benchmarks/data_look.py [--files 6000] [--processes 2] [--pairs 5]

Files are JPEGs of noise of several scales at 64 and at 256 pixels (or, with ``--from FOLDER``, those in a folder), read once before
anything is timed, so that both read from memory. A pair is a bare decode, then a look (sha256 of the bytes, decode, thumbnail, header,
EXIF), then the other way round in the next pair. The look's ratio is bare / look, and must not be below 0.5 at 64 pixels and 0.7 at 256. It
is given by the clock, and by the CPU time of all processes, which depends less on other work on the machine.

At the end 50,000 files of 64 pixels are looked at twice: the second look must take less than two seconds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.data import FileImages
from zoo.data.entries import FileEntry
from zoo.data.inspection.look import look_at
from zoo.data.inspection.scan import scan_images

BARS = {64: 0.5, 256: 0.7}
CHUNK = 64
SECOND_LOOK_FILES, SECOND_LOOK_SECONDS = 50_000, 2.0


def make_files(folder: Path, side: int, count: int) -> list[str]:
    """JPEGs that compress like photographs: noise of several scales."""
    folder.mkdir(parents=True)
    paths = []
    for number in range(count):
        generator = np.random.default_rng(number)
        layers = [generator.normal(0, 40 / 2**level, (4 * 2**level, 4 * 2**level, 3)) for level in range(5)]
        images = [Image.fromarray(np.uint8(np.clip(layer + 128, 0, 255))).resize((side, side)) for layer in layers]
        resized = [np.asarray(image, dtype=float) for image in images]
        pixels = np.uint8(np.clip(sum(resized) - 128 * 4, 0, 255))
        paths.append(str(folder / f"{number:06}.jpg"))
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def bare(paths: list[str]) -> int:
    """Decode files by Pillow and do nothing else."""
    for path in paths:
        with Image.open(path) as image:
            image.load()
    return len(paths)


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has waited for."""
    return sum(one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def bare_decode(paths: list[str], processes: int) -> None:
    """Decode all files and do nothing else, by so many processes."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
        assert sum(pool.map(bare, chunks)) == len(paths)


def look(paths: list[str], processes: int) -> None:
    """Look at every file, whatever is known of it, and keep what was seen."""
    images = FileImages("folder", "all", map(FileEntry, paths), {})
    assert scan_images(images, workers=processes, again=True).decoded == len(paths)


def timed(work: Callable[[list[str], int], None], paths: list[str], processes: int) -> tuple[float, float]:
    """Seconds by the clock, and of CPU time."""
    began, cpu = time.perf_counter(), cpu_seconds()
    work(paths, processes)
    return time.perf_counter() - began, cpu_seconds() - cpu


def compare(paths: list[str], processes: int, pairs: int) -> list[tuple[float, float]]:
    """bare / look of each pair, by the clock and by CPU time."""
    ratios = []
    for pair in range(pairs):
        order = (bare_decode, look) if pair % 2 == 0 else (look, bare_decode)
        seconds = {work: timed(work, paths, processes) for work in order}
        ratios.append((seconds[bare_decode][0] / seconds[look][0], seconds[bare_decode][1] / seconds[look][1]))
        rates = [len(paths) / seconds[work][0] for work in (bare_decode, look)]
        print(f"  bare {rates[0]:,.0f} files/s, look {rates[1]:,.0f} files/s, ratio {ratios[-1][0]:.2f}, by CPU time {ratios[-1][1]:.2f}")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=6000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--from", dest="folder", type=Path, help="JPEG files of your own instead; their side is not asked for")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["ZOO_HOME"] = str(Path(temporary) / "home")
        sets = {side: make_files(Path(temporary) / str(side), side, options.files) for side in BARS} if options.folder is None else {}
        if options.folder is not None:
            sets[0] = sorted(str(path) for path in options.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[: options.files]
        for side, paths in sets.items():
            for path in paths:
                Path(path).read_bytes()
            print(f"{len(paths):,} files of {f'{side} px' if side else options.folder}, {options.processes} processes")
            ratios = compare(paths, options.processes, options.pairs)
            for name, column in zip(("by the clock", "by CPU time"), zip(*ratios, strict=True), strict=True):
                spread = f"{statistics.median(column):.2f} (least {min(column):.2f}, largest {max(column):.2f})"
                print(f"  median ratio {name} {spread}; bar {BARS.get(side, '-')}")
        if options.folder is None:
            many = Path(temporary) / "many" / "train"
            for number in range(SECOND_LOOK_FILES):
                target = many / f"{number % 100:02}" / f"{number}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(sets[64][number % options.files], target)
            for which in ("first", "second"):
                began = time.perf_counter()
                look_at(f"folder:{many.parent}")
                seconds = time.perf_counter() - began
                print(f"{which} look at {SECOND_LOOK_FILES:,} files: {seconds:.2f} s (bar of the second: {SECOND_LOOK_SECONDS} s)")


if __name__ == "__main__":
    main()
