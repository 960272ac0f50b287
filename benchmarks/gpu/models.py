"""Backbones that come back from a GPU: in half precision, in parts that can travel, and zoo models again, with card and results.

    python benchmarks/gpu/models.py FROM --out DIR        make a zoo model of each backbone whose parts lie in FROM

A backbone is rounded to half precision before it is evaluated, so that its results are of the very weights that are kept.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))

from evaluation.training.log import LOG_NAME  # noqa: E402
from zoo.backbones import load_backbone  # noqa: E402
from zoo.model_folder.folder import load_zoo_model, write_zoo_model  # noqa: E402
from zoo.model_folder.manifest import MANIFEST_FILE, read_manifest  # noqa: E402

LARGEST_PART = 15 << 20
_WEIGHTS = "half.safetensors"


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels in half precision, where all their numbers have one; all else as it is."""

    def one(tensor: Tensor) -> Tensor:
        half = tensor.half()
        return half if tensor.dtype is torch.float32 and tensor.ndim > 1 and bool(half.isfinite().all()) else tensor

    return {name: one(tensor).contiguous() for name, tensor in state.items()}


def round_to_half(network: nn.Module) -> nn.Module:
    """``network`` with the numbers that :func:`halved` keeps, in place."""
    network.load_state_dict({name: tensor.to(network.state_dict()[name].dtype) for name, tensor in halved(network.state_dict()).items()})
    return network


def keep(folder: Path, out: Path, name: str, *, log: Path | None = None) -> list[Path]:
    """Write the parts of a zoo model folder whose weights are rounded, with the log of its training."""
    backbone, _ = load_zoo_model(folder)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_WEIGHTS, save_tensors(halved(backbone.state_dict())))
        archive.write(folder / MANIFEST_FILE, MANIFEST_FILE)
        if log is not None:
            archive.write(log, LOG_NAME)
    content = file.getvalue()
    count = -(-len(content) // LARGEST_PART)
    written = []
    for number in range(count):
        path = out / f"{name}.zip.{number + 1}of{count}"
        path.write_bytes(content[number * LARGEST_PART : (number + 1) * LARGEST_PART])
        written.append(path)
    return written


def assemble(source: Path, out: Path) -> list[Path]:
    """A zoo model folder for each backbone in ``source``. Those of which a part is missing are said to be so, and left out."""
    from pretrain.runs.curve import draw_curve

    made = []
    for first in sorted(source.glob("*.zip.1of*")):
        name, _, numbers = first.name.rpartition(".zip.")
        count = int(numbers.partition("of")[2])
        parts = [source / f"{name}.zip.{number + 1}of{count}" for number in range(count)]
        missing = [path.name for path in parts if not path.exists()]
        if missing:
            sys.stdout.write(f"{name}: left out, {', '.join(missing)} did not arrive\n")
            continue
        with zipfile.ZipFile(io.BytesIO(b"".join(path.read_bytes() for path in parts))) as archive:
            with tempfile.TemporaryDirectory() as folder:
                archive.extractall(folder, [file for file in (MANIFEST_FILE, LOG_NAME) if file in archive.namelist()])
                manifest = read_manifest(folder)
                curve = draw_curve(folder, steps=manifest.steps or 0, title=manifest.name)
            kept = load_tensors(archive.read(_WEIGHTS))
        state = {key: value.float() if value.dtype is torch.half else value for key, value in kept.items()}
        backbone = load_backbone(manifest.arch, state, first.name, image_size=manifest.image_size)
        # Results are of these weights, and refused where they are not.
        made.append(write_zoo_model(out / name, backbone, manifest, curve=curve))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for folder in assemble(given.source, given.out):
        sys.stdout.write(f"{folder}: a zoo model; zoo push publishes it\n")


if __name__ == "__main__":
    main()
