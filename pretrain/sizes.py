"""The written rule for numbers of a recipe that depend on how many images there are, or how many epochs.

A recipe leaves such a number out (``null``), and it is worked out when the data are known; the run folder's recipe holds the value.
Published recipes give their own numbers, whatever the rule says.

==========================  ====================================================================================================
``batch``                   the largest power of two that leaves 50 steps an epoch, at most 512 (256 for views beyond 96 pixels)
``method.queue``            the largest multiple of the batch within a quarter of the images, at most 65,536, at least one batch
``boxes.warmup_epochs``,    a fifth of the epochs, at least one: surveys after 20, 40, 60 and 80 % of the run, as ContrastiveCrop
``boxes.every_epochs``      published for 500 and for 100 epochs
``method.levels``           3 u, 2 u and u clusters, where u is 1000 (HCSC's for ImageNet) times the square root of the number of images in
                            ImageNets, at least 2: 3000, 2000, 1000 there, 594, 396, 198 for 50,000 images
``method.warmup_epochs``    of HCSC's prototypes: a tenth of the epochs, at least one, as published for 200 and for 800 epochs
``method.refresh_epochs``   of CsMl's neighbours: a fortieth of the epochs, at least one: 5 of 200, as its released code
``method.cross_epochs``     of CsMl, with the own key only: 5.5 % of the epochs, at least one: 11 of 200, as its released code
``method.window``,          of CsMl's patches, on a map of m x m cells: 8/14 m, and half of what is left beside a window, rounded down, at
``method.stride``           least 1: 8 and 3 of 14 cells (224 pixels), as the authors' code; 5 and 1 of 8 cells (32 pixels, small stem)
==========================  ====================================================================================================

The batches are those of the published recipes: 512 for the 50,000 to 105,000 images of CIFAR, STL-10 and Tiny-ImageNet, 256 for ImageNet. A
queue of a quarter of the images holds no key of the same image from an earlier epoch, and is fresh: it turns over four times an epoch.

Clusters grow with the square root, so that fewer images mean both fewer clusters and fewer images in each. In proportion to the images,
50,000 would have 39 clusters on the coarsest level: fewer than CIFAR-100 has classes, and fewer than a batch has images, whose clusters
are no negatives of any prototype loss.
"""

from __future__ import annotations

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf

STEPS_PER_EPOCH = 50
LARGEST_BATCH = {"small": 512, "large": 256}
SMALL_VIEW = 96
LARGEST_QUEUE = 65536
QUEUE_SHARE = 4
SURVEYS_SHARE = 5
IMAGENET_IMAGES = 1_281_167
IMAGENET_LEVELS_UNIT = 1000
LEVELS = (3, 2, 1)
WARMUP_SHARE = 10
REFRESHES = 40
OWN_KEY_SHARE = 11 / 200
WINDOW_SHARE = 8 / 14


def batch_size(images: int, view: int) -> int:
    """Global batch for so many images, views of ``view`` pixels."""
    largest = LARGEST_BATCH["small" if view <= SMALL_VIEW else "large"]
    fitting = max(1, images // STEPS_PER_EPOCH)
    return min(largest, 1 << (fitting.bit_length() - 1))


def queue_length(images: int, batch: int) -> int:
    """Length of a queue of keys."""
    return max(1, min(LARGEST_QUEUE, images // QUEUE_SHARE) // batch) * batch


def survey_interval(epochs: int) -> int:
    """Epochs before the first survey for boxes, and between two."""
    return max(1, round(epochs / SURVEYS_SHARE))


def prototype_levels(images: int) -> list[int]:
    """Clusters per level, from fine to coarse."""
    unit = max(2, round(IMAGENET_LEVELS_UNIT * math.sqrt(images / IMAGENET_IMAGES)))
    return [multiple * unit for multiple in LEVELS]


def prototype_warmup(epochs: int) -> int:
    """Epochs before the first prototypes."""
    return max(1, round(epochs / WARMUP_SHARE))


def neighbour_refresh(epochs: int) -> int:
    """Epochs between two searches for neighbours."""
    return max(1, round(epochs / REFRESHES))


def own_key_epochs(epochs: int) -> int:
    """Epochs in which a query is pulled towards the key of its own image alone."""
    return max(1, round(epochs * OWN_KEY_SHARE))


def match_window(side: int) -> int:
    """Side of the patches of a feature map of ``side`` x ``side`` cells, in cells."""
    return max(1, round(side * WINDOW_SHARE))


def match_stride(side: int, window: int) -> int:
    """Cells between two candidates for a patch of ``window`` x ``window`` cells."""
    return max(1, (side - window) // 2)


def with_sizes(config: DictConfig, images: int) -> DictConfig:
    """``config`` with every number that it leaves to the rule, for a data set of so many images."""
    config = config.copy()
    if config.batch is None:
        config.batch = batch_size(images, config.views.size)
    if "queue" in config.method and config.method.queue is None:
        config.method.queue = queue_length(images, config.batch)
    by_rule: dict[str, Any] = {
        "levels": prototype_levels(images),
        "warmup_epochs": prototype_warmup(config.epochs),
        "refresh_epochs": neighbour_refresh(config.epochs),
        "cross_epochs": own_key_epochs(config.epochs),
    }
    for key, value in by_rule.items():
        if key in config.method and config.method[key] is None:
            config.method[key] = value
    for key in ("warmup_epochs", "every_epochs"):
        if OmegaConf.select(config, f"boxes.{key}") is None:
            config.boxes[key] = survey_interval(config.epochs)
    return config
