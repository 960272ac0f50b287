"""A checkpoint as it was published, in detectron2: converted, fine-tuned on my boxes, and used on my photographs.

    python -m transfer.detection.install
    python examples/published_checkpoint_in_detectron2.py moco_v2_800ep.pth.tar small_r50_fpn voc:cells runs/cells photos
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import transfer


def main(checkpoint: str, config: str, data: str, run: str, photos: str, **keys: Any) -> float:
    # What plain detectron2 would take as MODEL.WEIGHTS, every tensor checked by its own network.
    transfer.convert(checkpoint, "detectron2", Path(run).with_suffix(".pkl"))
    done = transfer.detect(config, checkpoint, data, out=run, keys=keys)
    assert done.result is not None, done.stopped
    print(f"box AP {done.result.headline.value:.2f}")
    found = transfer.predict(run, [photos], out=f"{run}-found", score=0.3)
    print(f"{found.detections} objects in {found.images} photographs: {found.out}")
    return done.result.headline.value


if __name__ == "__main__":
    main(*sys.argv[1:6])
