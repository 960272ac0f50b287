"""How much memory `zoo import` of a ResNet-50 needs, beside loading the whole file with torch: peak above the bare imports, over file size.

    python benchmarks/import_memory.py

Each case is a process of its own; the peak is what Linux counts (VmHWM, the largest resident set), mapped pages of the file included, above
the resident set once everything is imported. The peer
loads the file with torch.load, takes the encoder, fills the network and saves safetensors: no account, no check of the written folder. Exit
status 1 if an import of ours needs three times its file or more, or if hashing a file of 2 GiB needs more than 16 MiB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

BAR = 3.0
HASH_FILE = 2 << 30
HASH_BAR = 16 << 20
CASES = ("hcsc.pth", "hcsc_legacy.pth", "hcsc_full.pth", "bare.pth", "bare_legacy.pth", "bare.safetensors")


def backbone() -> dict[str, Tensor]:
    """A ResNet-50 whose batch norm has seen images."""
    import timm

    return {
        name: tensor + 0.01 if "running_mean" in name else tensor
        for name, tensor in timm.create_model("resnet50", num_classes=0).state_dict().items()
    }


def write(folder: Path) -> None:
    """The files: HCSC's 647 entries, the same with an optimizer's state, and the backbone alone."""
    from safetensors.torch import save_file

    state = backbone()
    shapes = {"fc.0.weight": (2048, 2048), "fc.0.bias": (2048,), "fc.2.weight": (128, 2048), "fc.2.bias": (128,)}
    whole: dict[str, Tensor] = {
        "module.queue": torch.randn(128, 16384),
        "module.queue_ptr": torch.zeros(1, dtype=torch.long),
        "module.queue_index": torch.zeros(16384, dtype=torch.long),
    }
    for encoder in ("encoder_q", "encoder_k"):
        head = {name: torch.randn(shape) for name, shape in shapes.items()}
        whole.update({f"module.{encoder}.{name}": tensor.clone() for name, tensor in {**state, **head}.items()})
    hcsc = {"epoch": 200, "arch": "resnet50", "state_dict": whole}
    momenta = {number: {"momentum_buffer": tensor.clone()} for number, (name, tensor) in enumerate(whole.items()) if "encoder_q" in name}
    torch.save(hcsc, folder / "hcsc.pth")
    torch.save(hcsc, folder / "hcsc_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({**hcsc, "optimizer": {"state": momenta, "param_groups": []}}, folder / "hcsc_full.pth")
    torch.save(state, folder / "bare.pth")
    torch.save(state, folder / "bare_legacy.pth", _use_new_zipfile_serialization=False)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "bare.safetensors")


def memory(which: str) -> int:
    """Bytes of the resident set: ``VmRSS`` now, ``VmHWM`` the largest since it was reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024


def measure(kind: str, file: Path) -> None:
    """In a process of its own: what is imported, then what is done; prints bytes above the imports, and seconds."""
    import huggingface_hub  # noqa: F401 - the card needs it
    import timm
    import timm.data
    import torchvision  # noqa: F401
    from safetensors.torch import load_file, save_file

    from zoo.hashing import file_sha256
    from zoo.model_folder.importing import import_checkpoint

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    bare, started = memory("VmRSS"), time.perf_counter()
    if kind == "ours":
        import_checkpoint(file, file.parent / "model", overwrite=True)
    elif kind == "hash":
        file_sha256(file)
    else:
        content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
        content = content.get("state_dict", content)
        prefix = "module.encoder_q." if any(name.startswith("module.encoder_q.") for name in content) else ""
        network = timm.create_model("resnet50", num_classes=0)
        network.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in content.items() if name.startswith(prefix) and ".fc." not in name}
        )
        save_file(network.state_dict(), file.parent / "peer.safetensors")
    print(memory("VmHWM") - bare, time.perf_counter() - started)


def run(kind: str, file: Path) -> tuple[int, float]:
    done = subprocess.run([sys.executable, __file__, "--measure", kind, "--file", str(file)], check=True, capture_output=True, text=True)
    above, seconds = done.stdout.split()
    return int(above), float(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.file)
        return 0
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        print(
            "| file | MiB | import: peak MiB | over the file | s | torch.load and save: peak MiB | over the file | s |\n" + "|---" * 8 + "|"
        )
        for case in CASES:
            size = (folder / case).stat().st_size
            ours, our_seconds = run("ours", folder / case)
            peer, peer_seconds = run("peer", folder / case)
            missed |= ours >= BAR * size
            print(
                f"| {case} | {size / 2**20:.0f} | {ours / 2**20:.0f} | {ours / size:.2f} | {our_seconds:.1f} "
                f"| {peer / 2**20:.0f} | {peer / size:.2f} | {peer_seconds:.1f} |"
            )
        with (folder / "large").open("wb") as file:
            file.truncate(HASH_FILE)
        above, seconds = run("hash", folder / "large")
        missed |= above > HASH_BAR
        print(f"hashing {HASH_FILE / 2**30:.0f} GiB: {above / 2**20:.1f} MiB, {HASH_FILE / 2**30 / seconds:.2f} GiB/s")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
