"""Makes the files beside it with the toolkit as it was at the commit that ``made_at.json`` names: run it there, not later.

    OMP_NUM_THREADS=1 python tests/yesterday/make.py

Only commands are used, as a user types them, in an empty folder with paths relative to it. Needs detectron2. Everything is small: timm's
``test_resnet`` of 0.4 million parameters, ``digits`` and a few ``shapes``.

- ``runs/``: runs that a signal stopped inside an epoch, with one checkpoint each; ``unbroken/``: logs of the same runs without the stop,
  and features of their networks at the end.
- ``layouts/``: such runs of the other methods, with the layout of the checkpoint in its place: all six would take 25 MB.
- ``model/``: the zoo model of the run ``moco``, with claims on its card; ``features/``: its features of the digits to test on.
- ``results/``: one result of every task, of that model; a kNN result of the run ``hcsc_boxes``; one of a network with a classifier.
- ``detection/``: the texts of a finished run of ``transfer detect``, and the layout of the checkpoint at which it was stopped once;
  ``detection_data/``: its images and annotations.
- ``recipes.json``: every published recipe as ``pretrain --show`` printed it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "transfer" / "detection")]

MOCO = """
data: digits
max_images: 160
backbone: test_resnet
method: {name: moco, queue: 64, dim: 16, momentum: 0.9}
views: {size: 16, blur: 0.2, blur_sigma: [0.1, 1.0], flip: 0.0}
batch: 16
epochs: 3
optimizer: {lr: 0.03, momentum: 0.9, weight_decay: 1e-4}
schedule: {warmup_epochs: 1}
"""
HCSC = """
data: shapes:train=96,test=45,size=64
backbone: test_resnet
method: {name: hcsc, queue: 48, dim: 16, momentum: 0.9, levels: [12, 6, 3], warmup_epochs: 1}
views: {size: 64, blur: 0.0, crop: contrastive_crop, alpha: 0.6}
boxes: {warmup_epochs: 1, every_epochs: 1, quantile: 0.6}
batch: 8
bn_splits: 2
epochs: 3
optimizer: {lr: 0.03, momentum: 0.9}
"""
CSML = """
data: digits
max_images: 160
backbone: test_resnet
method: {name: csml, queue: 64, dim: 16, momentum: 0.9, k: 3, refresh_epochs: 1, cross_epochs: 1, level4: global}
views: {size: 32, blur: 0.0, flip: 0.0}
batch: 16
epochs: 3
optimizer: {lr: 0.03}
"""
SIAMESE = """
data: digits
max_images: 160
backbone: test_resnet
method: {name: METHOD, dim: 16}
views: {size: 16, blur: 0.0, flip: 0.0}
batch: 16
epochs: 3
optimizer: {lr: 0.03}
"""
SAME = """threads: 1
device: cpu
log_every: 1
trackers: []
knn: {every_epochs: 1, train_images: 200, test_images: 100}
checkpoint: {every_epochs: 1, keep: 1}
"""
# Of runs whose checkpoint is kept, and of those of which its layout is: the recipe, and the step from which on the run is stopped.
RUNS = {"moco": (MOCO, 13), "hcsc_boxes": (HCSC, 16)}
LAYOUTS = {"csml": (CSML, 13)} | {name: (SIAMESE.replace("METHOD", name), 13) for name in ("simclr", "byol", "simsiam")}
FEATURES = "shapes:train=96,test=45,size=64"
CLASSIFIER = """
import timm


def make():
    return timm.create_model("test_resnet", num_classes=10)
"""
# Small enough for a CPU: pictures of 64 px, few regions, no loader processes.
DETECTION = (
    "DATALOADER.NUM_WORKERS 0 INPUT.MIN_SIZE_TRAIN (56,64) INPUT.MIN_SIZE_TEST 64 MODEL.RPN.BATCH_SIZE_PER_IMAGE 32 "
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN 50 MODEL.RPN.PRE_NMS_TOPK_TEST 50 MODEL.RPN.POST_NMS_TOPK_TRAIN 16 MODEL.RPN.POST_NMS_TOPK_TEST 8 "
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE 8 MODEL.ANCHOR_GENERATOR.SIZES [[8],[16],[32],[64],[128]] MODEL.ROI_BOX_HEAD.FC_DIM 64 "
    "MODEL.MASK_ON True MODEL.ROI_MASK_HEAD.CONV_DIM 32 MODEL.ROI_MASK_HEAD.NUM_CONV 1 SOLVER.IMS_PER_BATCH 2 SOLVER.BASE_LR 0.002 "
    "SOLVER.WARMUP_ITERS 0 SOLVER.MAX_ITER 3 SOLVER.STEPS (2,) TEST.EVAL_PERIOD 3 TEST.PRECISE_BN.NUM_ITER 1"
)


def typed(line: str, status: int = 0) -> str:
    """What a command prints, called as it is typed."""
    command, *words = line.split()
    main: Callable[[], None] = distribution("backbone-loop").entry_points.select(group="console_scripts", name=command)[command].load()
    sys.argv = [command, *words]
    print("$", line, flush=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            main()
            left = 0
        except SystemExit as leaving:
            left = int(leaving.code or 0)
    if left != status:
        raise RuntimeError(f"{line}: exit status {left}\n{printed.getvalue()}")
    return printed.getvalue()


def rows(log: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def make_run(name: str, recipe: str, stop_at: int) -> Path:
    """A run that is stopped inside an epoch; returns its checkpoint."""
    Path(f"{name}.yaml").write_text(recipe.lstrip() + SAME)

    def stop() -> None:
        log = Path(name, "log.jsonl")
        while not log.exists() or len(log.read_text().splitlines()) < stop_at:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop, daemon=True)
    watcher.start()
    typed(f"pretrain {name}.yaml --out {name}", status=3)
    watcher.join()
    done = rows(Path(name, "log.jsonl"))
    in_epoch = sum(row["epoch"] == done[-1]["epoch"] for row in done)
    assert 2 <= in_epoch <= sum(row["epoch"] == 0 for row in done) - 2, f"{name} was stopped at an epoch's edge, after {len(done)} steps"
    (checkpoint,) = Path(name, "checkpoints").iterdir()
    print(f"  stopped after step {len(done)}, {checkpoint.stat().st_size:,} bytes")
    return checkpoint


def make_whole_run(name: str) -> None:
    """The run, stopped, and the numbers that it has without a stop; resumed here and now, it gives these to the last bit."""
    make_run(name, *RUNS[name])
    typed(f"pretrain {name}.yaml --out unbroken-{name}")
    shutil.copytree(name, f"resumed-{name}")
    typed(f"pretrain --resume resumed-{name}")
    whole, again = (Path(f"{kind}-{name}", "log.jsonl") for kind in ("unbroken", "resumed"))
    assert [row["loss"] for row in rows(again)] == [row["loss"] for row in rows(whole)], name
    typed(f"evaluate --task features --data {FEATURES} --split val --npz npz-{name} --model unbroken-{name} --no-cache")
    shutil.copyfile(whole, f"unbroken/{name}.jsonl")
    (features,) = Path(f"npz-{name}").iterdir()
    shutil.move(features, f"unbroken/{name}.npz")
    shutil.move(name, f"runs/{name}")


def make_layout(name: str) -> None:
    import torch
    from checkpoint_layout import describe

    checkpoint = make_run(name, *LAYOUTS[name])
    layout = describe(torch.load(checkpoint, weights_only=True))
    Path(name, "checkpoint.json").write_text(json.dumps({"file": checkpoint.name, "layout": layout}) + "\n")
    shutil.rmtree(Path(name, "checkpoints"))
    shutil.move(name, f"layouts/{name}")


def make_voc07(root: Path) -> None:
    """20 colours, one for each class, in the archives' layout."""
    import numpy as np
    from PIL import Image
    from zoo.data.voc07 import CLASSES

    folder = root / "VOCdevkit" / "VOC2007"
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (20, 3))
    names = {split: [f"{split}{index:03}" for index in range(40)] for split in ("train", "val", "test")}
    for of_split in names.values():
        for index, name in enumerate(of_split):
            pixels = np.clip(colours[index % 20] + rng.normal(0, 12, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
    names["trainval"] = names["train"] + names["val"]
    for split, of_split in names.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in of_split))
        for column, label in enumerate(CLASSES):
            marks = (f"{name} {1 if int(name[-3:]) % 20 == column else -1:2d}\n" for name in of_split)
            (lists / f"{label}_{split}.txt").write_text("".join(marks))


def make_places205(root: Path) -> None:
    """Three of the 205 classes, told apart by brightness, in the archives' layout."""
    import numpy as np
    from PIL import Image

    images, lists = root / "data/vision/torralba/deeplearning/images256", root / "trainvalsplit_places205"
    lists.mkdir(parents=True)
    rng = np.random.default_rng(0)
    classes = ((0, "a/abbey", 30), (41, "c/coast", 120), (204, "y/yard", 220))
    for split, count in (("train", 30), ("val", 12)):
        lines = []
        for index in range(count):
            label, folder, shade = classes[index % 3]
            path = images / folder / f"gsun_{split}{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(shade - 20, shade + 20, (32, 32, 3), dtype=np.uint8)).save(path)
            lines.append(f"{folder}/{path.name} {label}\n")
        (lists / f"{split}_places205.csv").write_text("".join(lines))


def make_results() -> None:
    typed("zoo export runs/moco --out model --licence MIT")
    make_voc07(Path("voc07"))
    make_places205(Path("places205"))
    Path("classifier.py").write_text(CLASSIFIER)
    digits = "evaluate --model model --data digits"
    typed(f"{digits} --task knn --out results/knn.json")
    typed(f"{digits} --task linear --epochs 5 --out results/linear.json")
    typed(f"{digits} --task cluster --out results/cluster.json")
    typed(f"{digits} --task semi --percent 10 --epochs 2 --out results/semi.json")
    typed(f"{digits} --task finetune --epochs 1 --out results/finetune.json")
    typed(f"{digits} --task features --split val --npz features --out results/features.json")
    typed("evaluate --model model --data voc07:voc07 --task voc07 --preset pcl --shots 1,2 --image-size 16 --out results/voc07.json")
    places = "evaluate --model model --data places205:places205 --task places205"
    typed(f"{places} --epochs 2 --batch 10 --image-size 28 --out results/places205.json")
    typed("evaluate --model python:classifier.py:make --data digits --task top1 --out results/top1.json")
    typed("evaluate --model runs/hcsc_boxes --data digits --task knn --out results/knn_of_run.json")
    typed("zoo add-result model results/knn.json results/linear.json results/cluster.json results/voc07.json")


def make_detection() -> None:
    import torch
    from checkpoint_layout import describe
    from detection_layouts import as_coco

    as_coco(Path("detection_data"), train=4, test=2)
    typed(
        "transfer detect small_r18_fpn --model random:resnet18:5 --data coco:detection_data --device cpu --out detection --max-time 0s "
        + DETECTION,
        status=3,
    )
    (checkpoint,) = Path("detection").glob("model_*.pth")
    layout = describe(torch.load(checkpoint, weights_only=True))
    typed("transfer detect --resume detection")
    texts = ("config.yaml", "run.json", "annotations.txt", "log.jsonl", "result.json")
    Path("texts").mkdir()
    for text in texts:
        shutil.move(Path("detection", text), Path("texts", text))
    Path("texts", "checkpoint.json").write_text(json.dumps({"file": checkpoint.name, "layout": layout}) + "\n")
    shutil.rmtree("detection")
    shutil.move("texts", "detection")
    shutil.copyfile("detection/result.json", "results/detection.json")


def make_recipes() -> None:
    names = [line.split()[0] for line in typed("pretrain --list").splitlines()]
    shown = {name: typed(f"pretrain --show {name}") for name in names}
    Path("recipes.json").write_text(json.dumps(shown, indent=0) + "\n")


def make_all() -> None:
    """Everything, in the present folder."""
    for folder in ("runs", "unbroken", "layouts", "results"):
        Path(folder).mkdir()
    for name in RUNS:
        make_whole_run(name)
    for name in LAYOUTS:
        make_layout(name)
    make_results()
    make_detection()
    make_recipes()


def main() -> None:
    import torch

    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("set OMP_NUM_THREADS=1: sums depend on the number of threads")
    root = HERE.parent.parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    kept = ("runs", "unbroken", "layouts", "model", "features", "results", "detection", "detection_data", "recipes.json")
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BACKBONE_LOOP_CACHE"] = str(Path(folder, "cache"))
        work = Path(folder, "work")
        work.mkdir()
        os.chdir(work)
        try:
            make_all()
        finally:
            os.chdir(before)
        for name in kept:
            old = HERE / name
            if old.is_dir():
                shutil.rmtree(old)
            shutil.move(work / name, old)
    facts = {"commit": commit, "threads": torch.get_num_threads(), "capability": torch.backends.cpu.get_cpu_capability()}
    (HERE / "made_at.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
