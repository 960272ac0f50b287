"""`transfer detect`'s trainer beside plain detectron2's: the same config, data, weights and process, iteration by iteration.

    python benchmarks/detection.py [--config small_r18_fpn] [--pairs 20] [--side 128] [--batch 2]

Both are detectron2's DefaultTrainer on the same registered set (made from `shapes`); ours has the keyed loader, seeding of every step,
the strict checkpointer, the log and the progress. They take turns within one process, one iteration each, so that a machine that others use
too slows both alike; the ratio is the median over the pairs, and its spread is from a bootstrap over them. The bar: at most 5 % slower.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

BAR = 1.05
LEFT_OUT = 2


def make_data(root: Path, images: int) -> None:
    """`shapes` in COCO's layout: pictures of 128 px, with a box each."""
    from PIL import Image

    from zoo.data import open_data

    for name, split in (("train", "train"), ("val", "test")):
        shapes = open_data(f"shapes:train={images},test=4,size=128").split(split)
        (root / name).mkdir(parents=True)
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        content["categories"] = [{"id": i + 1, "name": label} for i, label in enumerate(shapes.classes)]
        for index in range(len(shapes)):
            Image.fromarray(shapes.pixels[index]).save(root / name / f"{index}.jpg")
            top, left, bottom, right = (float(v) * 128 for v in shapes.extras["boxes"][index])
            content["images"].append({"id": index, "file_name": f"{index}.jpg", "height": 128, "width": 128})
            box = {"bbox": [left, top, right - left + 1, bottom - top + 1], "iscrowd": 0, "area": (right - left) * (bottom - top)}
            content["annotations"].append({"id": index + 1, "image_id": index, "category_id": int(shapes.labels[index]) + 1, **box})
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


class Clock:
    """One trainer of the two, ready to do one iteration when asked."""

    def __init__(self, trainer: Any) -> None:
        from detectron2.utils.events import EventStorage

        self.trainer = trainer
        trainer.iter = trainer.start_iter = 0
        self.storage = EventStorage(0)
        with self.storage:
            trainer.storage = self.storage
            trainer.before_train()

    def step(self) -> float:
        trainer = self.trainer
        began = time.perf_counter()
        with self.storage:
            trainer.before_step()
            trainer.run_step()
            trainer.after_step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took = time.perf_counter() - began
        trainer.iter += 1
        return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="small_r18_fpn")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    from transfer.presence import require_detectron2
    from zoo.errors import UserError

    try:
        require_detectron2()
    except UserError as error:
        print(error)
        return
    from detectron2.engine import DefaultTrainer

    from evaluation.stopping import StopRequest
    from transfer.detection.detect import _log_to
    from transfer.detection.engine.dataset_catalog import register
    from transfer.detection.engine.settings import fit_to_data, fit_to_device, load_config
    from transfer.detection.engine.trainer import Trainer
    from transfer.formats.detectron2_file import write
    from zoo.data.boxes.detection_data import open_detection_data
    from zoo.model_spec import open_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        make_data(root / "data", 64)
        data = open_detection_data(f"coco:{root / 'data'}")
        values = {
            "INPUT.MIN_SIZE_TRAIN": (options.side,),
            "SOLVER.IMS_PER_BATCH": options.batch,
            "SOLVER.REFERENCE_WORLD_SIZE": 0,
            "DATALOADER.NUM_WORKERS": 0,
            "TEST.EVAL_PERIOD": 0,
            "MODEL.MASK_ON": False,
            "SOLVER.BASE_LR": 0.001,
            "MODEL.WEIGHTS": str(root / "start.pkl"),
            "SEED": 0,
        }
        cfg = load_config(options.config)
        cfg.merge_from_list([word for pair in values.items() for word in pair])
        write(open_model(f"random:resnet{cfg.MODEL.RESNETS.DEPTH}"), root / "start.pkl")
        fit_to_data(cfg, data, set(), options.config)
        fit_to_device(cfg, device, 1)
        train, test = register(data, root / "evaluation", masks=False)
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), (test,)
        clocks = {}
        for name, make in (("detectron2", DefaultTrainer), ("ours", lambda cfg: Trainer(cfg, StopRequest()))):
            (root / name).mkdir()
            cfg = cfg.clone()
            cfg.OUTPUT_DIR = str(root / name)
            _log_to(root / name)
            torch.manual_seed(0)
            trainer = make(cfg)
            trainer.resume_or_load(resume=False)
            clocks[name] = Clock(trainer)
        times: dict[str, list[float]] = {name: [] for name in clocks}
        for pair in range(options.pairs + LEFT_OUT):
            # Which goes first alternates: the second of a pair finds the cache as the first left it.
            for name in list(clocks)[:: 1 if pair % 2 else -1]:
                times[name].append(clocks[name].step())
    theirs, ours = (np.array(times[name][LEFT_OUT:]) for name in ("detectron2", "ours"))
    ratios = ours / theirs
    draws = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.percentile(np.median(draws, axis=1), [5, 95])
    place = f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{options.config}, {options.side} px, batch {options.batch}, {place}")
    print(f"detectron2 {statistics.median(theirs):.3f} s/iteration, ours {statistics.median(ours):.3f}")
    print(f"ours / detectron2: {np.median(ratios):.3f}, 90 % of the bootstrap in {low:.3f} .. {high:.3f}, {len(ratios)} pairs; bar {BAR}")


if __name__ == "__main__":
    main()
