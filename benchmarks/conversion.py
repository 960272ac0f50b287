"""Conversion of a ResNet-50 to detectron2's pickle: time and memory above the bare imports.

    python benchmarks/conversion.py [--arch resnet50] [--runs 5]

Each run is a fresh process that imports what it needs first; then the clock starts, and memory is by how much the peak exceeds what the
process holds at that moment. The source is a zoo model folder, whose sha256 is checked as always. The bars: under 5 s, and under three
times the file's size, without the comparison in detectron2; with it (where detectron2 is installed) the figures are shown beside.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

BAR_SECONDS, BAR_FILES = 5.0, 3.0


def one_run(folder: str, out: str, verify: bool) -> None:
    """Print seconds of wall clock, seconds of processor time, and bytes of memory. Runs in a process of its own."""
    from transfer.conversion import convert

    if verify:
        from detectron2.modeling import GeneralizedRCNN  # noqa: F401

        import transfer.formats.detectron2_stages  # noqa: F401
    held = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    wall, cpu = time.perf_counter(), time.process_time()
    convert(folder, "detectron2", out, overwrite=True, verify=verify)
    print(time.perf_counter() - wall, time.process_time() - cpu, memory("VmHWM") - held)


def memory(name: str) -> int:
    """A line of this process's memory, in bytes (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def make_model(folder: Path, arch: str) -> None:
    from zoo.backbones import create_backbone
    from zoo.model_folder.folder import write_zoo_model
    from zoo.model_folder.manifest import Manifest

    normalisation = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    manifest = Manifest(f"{arch}.benchmark", arch, None, 224, normalisation, "bilinear", 0.875)
    write_zoo_model(folder, create_backbone(arch).eval(), manifest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "OUT", "VERIFY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_run(options.one[0], options.one[1], options.one[2] == "True")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "model", Path(temporary) / "weights.pkl"
        make_model(folder, options.arch)
        print(f"{options.arch}, {options.runs} runs each: median (least, largest)")
        for verify in (False, True):
            if verify and find_spec("detectron2") is None:
                print("with the comparison in detectron2: not measured, it is not installed")
                continue
            command = [sys.executable, "-W", "ignore", __file__, "--one", str(folder), str(out), str(verify)]
            rows = [
                [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-3:]]
                for _ in range(options.runs)
            ]
            size = out.stat().st_size
            wall, cpu, peak = zip(*rows, strict=True)
            files = [value / size for value in peak]
            print(
                f"{'with' if verify else 'without'} the comparison in detectron2: {spread(wall)} s wall, {spread(cpu)} s processor time, "
                f"{spread(files)} times the file ({size / 1e6:.1f} MB) in memory"
            )
            if not verify:
                met = statistics.median(wall) < BAR_SECONDS and max(files) < BAR_FILES
                print(f"  bars of {BAR_SECONDS:g} s and {BAR_FILES:g} files: {'met' if met else 'missed'}")


def spread(values: tuple[float, ...] | list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}, {max(values):.2f})"


if __name__ == "__main__":
    main()
