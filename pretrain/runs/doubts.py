"""What a run says at its start beside the plain facts: what a rule chose, and what is doubtful."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch.nn.modules.batchnorm import _BatchNorm

from pretrain.methods import Method
from pretrain.settings import Recipe
from pretrain.sizes import FEW_IMAGES, PUBLISHED_START


def rule_lines(fitted: Mapping[str, Any], config: DictConfig, count: int, folder: Path) -> Iterator[str]:
    """What the rule made of ``count`` images, and a warning where they are too few to learn from; nothing where no rule was asked."""
    if not fitted:
        return
    chosen = ", ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in fitted.items())
    yield f"by the rule for {count:,} images (pretrain/sizes.py): {chosen}, method.queue={config.method.get('queue', 0)}"
    if count < FEW_IMAGES and not config.init:
        words = ["pretrain", "photos", "--out", str(folder), "--overwrite", f"data={config.data}", f"init={PUBLISHED_START}"]
        yield (
            f"warning: {count:,} images are too few to learn much from a random start (the published trainings have 50,000 and more); "
            f"start from published weights: {shlex.join(words)}"
        )


def doubts(recipe: Recipe, method: Method, count: int, processes: int) -> Iterator[str]:
    """What keeps a run on ``count`` images from learning what it could."""
    queue = getattr(recipe.method, "queue", 0)
    if queue > count:
        yield f"note: method.queue={queue} exceeds the {count} images, so older keys of an image are among its own negatives"
    normed = any(isinstance(module, _BatchNorm) for module in method.modules())
    if queue and normed and processes * recipe.bn_splits == 1:
        yield (
            "warning: batch norm can leak: on one device with bn_splits=1 a query may recognise its key by the statistics that they "
            "share, and learn nothing else; set bn_splits=8"
        )
