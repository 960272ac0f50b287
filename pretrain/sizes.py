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
``method.warmup_epochs``    of HCSC's prototypes: a tenth of the epochs, at least one, as published for 200 and for 800 epochs; one where
                            ``method.start_ami`` ends the warm-up
``method.refresh_epochs``   of CsMl's neighbours: a fortieth of the epochs, at least one: 5 of 200, as its released code
``method.cross_epochs``     of CsMl, with the own key only: 5.5 % of the epochs, at least one: 11 of 200, as its released code
``method.window``,          of CsMl's patches, on a map of m x m cells: 8/14 m, and half of what is left beside a window, rounded down, at
``method.stride``           least 1: 8 and 3 of 14 cells (224 pixels), as the authors' code; 5 and 1 of 8 cells (32 pixels, small stem)
==========================  ====================================================================================================

A recipe that names keys in ``fit`` (``photos``) has these follow the images too, unless they are set; the shorter side is the median of the
images' shorter sides:

==========================  ====================================================================================================
``views.size``              that of ``init``'s images; else the largest of 32, 64, 96, 128, 160, 192 and 224 pixels that the shorter side
                            reaches, at least 32
``backbone``                that of ``init``; else ``resnet18_small`` for views up to 64 pixels, and beyond ``resnet18`` for fewer than
                            20,000 images, ``resnet50`` for more
``batch``                   as above, and at least 32, or all images where there are fewer (a power of two): batch norm needs some
``epochs``                  as many as make 20,000 optimizer steps, a multiple of 10, at least 100 and at most 800, which is the span of the
                            published trainings
``optimizer.lr_per_256``    0.25 for views up to 96 pixels, as ContrastiveCrop's CIFAR recipes (0.5 at 512 images); beyond 0.03, as MoCo v2
``bn_splits``               1, 2, 4 or 8 groups of at least 8 images of a forward pass, as on so many devices
``views.blur``              0.5 for views beyond 96 pixels, as MoCo v2; 0 up to that, as the CIFAR recipes
==========================  ====================================================================================================

The batches are those of the published recipes: 512 for the 50,000 to 105,000 images of CIFAR, STL-10 and Tiny-ImageNet, 256 for ImageNet. A
queue of a quarter of the images holds no key of the same image from an earlier epoch, and is fresh: it turns over four times an epoch.

Clusters grow with the square root, so that fewer images mean both fewer clusters and fewer images in each. In proportion to the images,
50,000 would have 39 clusters on the coarsest level: fewer than CIFAR-100 has classes, and fewer than a batch has images, whose clusters
are no negatives of any prototype loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # methods use the rule too, where there is no recipe
    from omegaconf import DictConfig

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


FIT_SIDES = (32, 64, 96, 128, 160, 192, 224)
SMALL_STEM_VIEW = 64
IMAGES_FOR_50_LAYERS = 20_000
LEAST_BATCH = 32
FIT_STEPS = 20_000
EPOCHS_UNIT, LEAST_EPOCHS, MOST_EPOCHS = 10, 100, 800
SMALL_RATE, LARGE_RATE = 0.25, 0.03
MOST_SPLITS, LEAST_GROUP = 8, 8
LARGE_BLUR = 0.5
# A tenth of CIFAR-10, the smallest set that the methods here were published on.
FEW_IMAGES = 5_000
# Of the catalogue: the network that most here was measured with, under a free licence.
PUBLISHED_START = "resnet50.hcsc_200ep"


@dataclass(frozen=True)
class Seen:
    """What the rule needs to know of the training images, and of where they are trained on.

    Attributes
    ----------
    images
        Their number.
    side
        The median of their shorter sides in pixels; None where nobody looked.
    start, start_side
        Architecture of the model that ``init`` names, and the side of the images that it was made for; None for a random start.
    processes
        That share a batch.
    """

    images: int
    side: int | None = None
    start: str | None = None
    start_side: int | None = None
    processes: int = 1


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


def view_size(side: int) -> int:
    """Side of views of images with so long a shorter side."""
    return max((size for size in FIT_SIDES if size <= side), default=FIT_SIDES[0])


def backbone_for(images: int, view: int) -> str:
    """A network for a random start on so many images, views of ``view`` pixels."""
    if view <= SMALL_STEM_VIEW:
        return "resnet18_small"
    return "resnet18" if images < IMAGES_FOR_50_LAYERS else "resnet50"


def fitted_batch(images: int, view: int) -> int:
    """:func:`batch_size` with the least that batch norm wants."""
    return max(batch_size(images, view), min(LEAST_BATCH, 1 << (max(images, 1).bit_length() - 1)))


def fitted_epochs(images: int, batch: int) -> int:
    """Epochs of about FIT_STEPS steps."""
    steps = max(1, images // batch)
    return min(MOST_EPOCHS, max(LEAST_EPOCHS, round(FIT_STEPS / steps / EPOCHS_UNIT) * EPOCHS_UNIT))


def fitted_splits(share: int) -> int:
    """Groups of batch norm for so many images of a forward pass."""
    splits = MOST_SPLITS
    while splits > 1 and (share % splits or share // splits < LEAST_GROUP):
        splits //= 2
    return splits


def _share(config: DictConfig, seen: Seen) -> int:
    return int(config.micro_batch or config.batch // seen.processes)


# What a key of ``fit`` becomes; in this order, since the later ones look at the earlier.
_FITTED: Mapping[str, Callable[[DictConfig, Seen], Any]] = {
    "views.size": lambda config, seen: seen.start_side or (config.views.size if seen.side is None else view_size(seen.side)),
    "backbone": lambda config, seen: seen.start or backbone_for(seen.images, config.views.size),
    "batch": lambda config, seen: fitted_batch(seen.images, config.views.size),
    "epochs": lambda config, seen: fitted_epochs(seen.images, config.batch),
    "optimizer.lr_per_256": lambda config, seen: SMALL_RATE if config.views.size <= SMALL_VIEW else LARGE_RATE,
    "bn_splits": lambda config, seen: fitted_splits(_share(config, seen)),
    "views.blur": lambda config, seen: 0.0 if config.views.size <= SMALL_VIEW else LARGE_BLUR,
}
# What a recipe may name in ``fit``.
FIT_KEYS = tuple(_FITTED)


def fit_to_images(config: DictConfig, seen: Seen) -> DictConfig:
    """``config`` with the keys that it names in ``fit`` as the rule has them; then it names none."""
    from omegaconf import OmegaConf

    config = config.copy()
    for key, value in _FITTED.items():
        if key in config.fit:
            OmegaConf.update(config, key, value(config, seen))
    config.fit = []
    return config


def with_sizes(config: DictConfig, images: int) -> DictConfig:
    """``config`` with every number that it leaves to the rule, for a data set of so many images."""
    from omegaconf import OmegaConf

    config = config.copy()
    if config.batch is None:
        config.batch = batch_size(images, config.views.size)
    if "queue" in config.method and config.method.queue is None:
        config.method.queue = queue_length(images, config.batch)
    by_rule: dict[str, Any] = {
        "levels": prototype_levels(images),
        "warmup_epochs": 1 if config.method.get("start_ami") is not None else prototype_warmup(config.epochs),
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
