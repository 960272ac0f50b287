"""Pulling a ResNet-50 (94 MB), beside the Hub's own client and torch's downloader, from a server on the loopback.

    python benchmarks/pull.py [--rounds 5]

What is compared: ``zoo pull`` with ``huggingface_hub.snapshot_download`` (which checks sizes only), with an empty cache and from the cache;
and ``zoo.hub.fetch`` with ``torch.hub.download_url_to_file`` (with its own check of eight hex digits). Each measurement is a process of its
own, in turn; imports are done before the clock starts. Seconds are medians, ratios medians of pairs, memory (on Linux) the peak beyond the
imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The test server, and this very checkout before whatever else is called zoo.
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

PROGRAM = """
import json, re, sys, time
from pathlib import Path
{imports}
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
started = time.perf_counter()
{call}
seconds = time.perf_counter() - started
print(json.dumps([seconds, peak() - before]))
"""
ZOO = ("from zoo.hub.pull import pull", "pull('alice/resnet50@{commit}')")
CLIENT = (
    "from huggingface_hub import hf_hub_download, snapshot_download; import httpx2, hf_xet",
    "snapshot_download('alice/resnet50', revision='{commit}')",
)
FETCH = ("from zoo.hub.fetch import fetch", "fetch('{url}', sha256='{sha256}')")
TORCH = ("import torch", "torch.hub.download_url_to_file('{url}', Path({home!r}) / 'file', hash_prefix='{short}', progress=False)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds

    from hub_server import HubServer, sha256

    from zoo.backbones import create_backbone
    from zoo.model_folder.folder import write_zoo_model
    from zoo.model_folder.manifest import Manifest

    with tempfile.TemporaryDirectory() as place, HubServer() as hub:
        imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        manifest = Manifest("resnet50.random", "resnet50", None, 224, imagenet, "bilinear", 0.875)
        folder = write_zoo_model(Path(place) / "model", create_backbone("resnet50"), manifest)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        commit = hub.store.publish("alice/resnet50", files)
        hub.files["resnet50.pth"] = files["model.safetensors"]
        digest = sha256(files["model.safetensors"])
        facts = {"commit": commit, "url": f"{hub.url}/files/resnet50.pth", "sha256": digest, "short": digest[:8]}

        def measure(way: tuple[str, str], home: Path) -> tuple[float, float]:
            home.mkdir(parents=True, exist_ok=True)
            environment = {
                **os.environ,
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(home),
                "ZOO_HOME": str(home / "zoo"),
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "NO_PROXY": "127.0.0.1",
            }
            imports, call = way
            program = PROGRAM.format(imports=imports, call=call.format(home=str(home), **facts))
            done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
            seconds, mebibytes = json.loads(done.stdout.splitlines()[-1])
            return seconds, mebibytes

        def compare(label: str, ours: tuple[str, str], theirs: tuple[str, str], home: Callable[[str, int], Path]) -> None:
            pairs = [(measure(ours, home("ours", turn)), measure(theirs, home("theirs", turn))) for turn in range(rounds)]
            seconds = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
            ratio = statistics.median(a[0] / b[0] for a, b in pairs)
            memory = [max(pair[side][1] for pair in pairs) for side in (0, 1)]
            print(
                f"{label:<34} ours {seconds[0]:7.3f} s {memory[0]:6.1f} MiB   theirs {seconds[1]:7.3f} s {memory[1]:6.1f} MiB   "
                f"ours / theirs {ratio:5.2f}"
            )

        fresh = iter(range(10_000))
        compare("pull, empty cache", ZOO, CLIENT, lambda side, turn: Path(place) / f"fresh{next(fresh)}")
        for way in (ZOO, CLIENT):
            measure(way, Path(place) / "kept")
        compare("pull, from the cache", ZOO, CLIENT, lambda side, turn: Path(place) / "kept")
        compare("one file from its authors", FETCH, TORCH, lambda side, turn: Path(place) / f"fresh{next(fresh)}")


if __name__ == "__main__":
    main()
