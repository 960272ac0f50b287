"""The README's four stories, as they stand there but for sizes and places: in a fresh folder, against a Hub on loopback."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hub_server.server import HubServer
from PIL import Image

pytestmark = pytest.mark.slow
README = Path(__file__).parents[2] / "README.md"
STORY = re.compile(r"^\*\*([^*\n]+?)[.?]?\*\*(?:[^\n]*\n)+?\n((?:    [^\n]*\n)+)", re.MULTILINE)
BIN = Path(sys.executable).parent
# An account of the loopback Hub, and its organisation in the place of the reader's.
ALICE = "hf_alice"
ORGANISATION = ("my-lab/", "zoo-lab/")
TRAIN = "epochs=1 batch=8 views.size=32 backbone=resnet10_small bn_splits=1 threads=1 device=cpu trackers=[] knn.every_epochs=0"
DETECT = (
    "DATALOADER.NUM_WORKERS 0 INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 MODEL.RPN.POST_NMS_TOPK_TRAIN 16 "
    "MODEL.RPN.POST_NMS_TOPK_TEST 8 SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 2 SOLVER.STEPS (1,) SOLVER.WARMUP_ITERS 0 "
    "TEST.PRECISE_BN.NUM_ITER 1"
)
# What is smaller than it says there, or cannot be had: published weights, and VOC.
CHANGES = (
    (r"(pretrain photos .*)", rf"\1 {TRAIN}"),
    (r"zoo pull resnet50.hcsc_200ep --out (\S+)", r"zoo import checkpoint.pth --out \1"),
    (r"voc0712_r50_c4_24k (.*)", rf"small_r18_fpn \1 {DETECT}"),
    (r"timm:resnet50.a1_in1k", "random:resnet10_small"),
    (r"(evaluate --task quality .*)", r"\1 --max-images 12"),
    (re.escape(ORGANISATION[0]), ORGANISATION[1]),
)


def stories() -> dict[str, list[str]]:
    found = STORY.findall(README.read_text(encoding="utf-8"))
    return {name: [line.strip() for line in block.splitlines()] for name, block in found}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, voc_shapes: Path) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    draws = np.random.default_rng(0)
    for number in range(24):
        for split in ("train", "val"):
            path = folder / "photos" / split / f"class{number % 3}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(256, size=(48, 48, 3), dtype=np.uint8)).save(path)
    shutil.copytree(folder / "photos" / "val" / "class0", folder / "new-photos")
    shutil.copytree(voc_shapes, folder / "VOCDEVKIT")
    network = timm.create_model("resnet18", num_classes=0).train()
    network(torch.randn(8, 3, 32, 32))
    torch.save(network.state_dict(), folder / "checkpoint.pth")
    return folder


def test_the_stories_run_in_their_order(place: Path) -> None:
    told = stories()
    assert list(told) == ["My photos", "A published checkpoint into detectron2", "What is this model worth", "Publish mine"]
    with HubServer() as server:
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": ALICE,
            "HF_HOME": str(place / "hf"),
            "ZOO_HOME": str(place / "zoo"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        for name, lines in told.items():
            for line in lines:
                for pattern, new in CHANGES:
                    line = re.sub(pattern, new, line)
                command, *words = shlex.split(line)
                if command == "transfer" and words[0] in ("detect", "predict"):
                    pytest.importorskip("detectron2", reason="python -m transfer.detection.install")
                done = subprocess.run(
                    [BIN / command, *words], cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False
                )
                assert done.returncode == 0, f"{name}: {line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    rows = (place / "new.csv").read_text().splitlines()
    assert len([row for row in rows if ".png" in row]) == 8
    for written in ("new.html", "hcsc.pkl", "runs/hcsc-voc/result.json", "found/detections.json", "report/index.html", "knn.json"):
        assert (place / written).exists(), written
