"""What a recipe may say: every key of a pre-training, its type and its default."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from evaluation.training.optimizers import OptimizerSettings, ScheduleSettings
from evaluation.views.settings import ViewSettings, check_box
from zoo.errors import UserError


class DeviceName(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class BoxLook(StrEnum):
    """The encoder pass that boxes are made of: the trained encoder on the whole image, or the key encoder on its centre crop."""

    whole = "whole"
    shared = "shared"


class PrecisionName(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


@dataclass
class CheckpointSettings:
    """Attributes
    ----------
    every_epochs
        Epochs between checkpoints; the last step is always saved.
    every_steps
        Further checkpoints inside an epoch, at global steps that this divides; 0 for none.
    keep
        How many to keep, the newest.
    """

    every_epochs: int = 1
    every_steps: int = 0
    keep: int = 2


@dataclass
class KnnCheckSettings:
    """The online check: kNN of the trained backbone, test images against training images, in eval mode.

    Attributes
    ----------
    every_epochs
        Epochs between checks, and after the last one; 0 for none.
    preset
        Of `evaluate --task knn`.
    train_images, test_images
        At most so many of each, evenly spread over the split.
    """

    every_epochs: int = 10
    preset: str = "dino"
    train_images: int = 20000
    test_images: int = 5000


@dataclass
class BoxSettings:
    """The survey for ContrastiveCrop's boxes (Peng et al., arXiv 2202.03278, section 3.2); used where ``views.crop`` follows boxes.

    Attributes
    ----------
    warmup_epochs
        Epochs of plain random crops before boxes are followed. None: by the rule of :mod:`pretrain.sizes`.
    every_epochs
        A survey at the start of every epoch, from ``warmup_epochs`` on, that this divides (never before the first step). None: by the rule.
    threshold
        A pixel belongs to the object if its heat, scaled to 0 .. 1 on each image, exceeds this.
    quantile
        Instead of ``threshold``: a pixel belongs to the object if its heat exceeds this quantile of its own image's heat. For networks,
        such as vision transformers, whose maps exceed any fixed threshold nearly everywhere.
    initial
        The box of all images until the first survey: (h0, w0, h1, w1) in shares of the image.
    look
        ``whole``: as published. ``shared``: the encoder pass of HCSC's prototypes and CsMl's neighbours, so that one forward pass serves
        all tables; no box then reaches beyond the centre crop.
    """

    warmup_epochs: int | None = None
    every_epochs: int | None = None
    threshold: float = 0.1
    quantile: float | None = None
    initial: list[float] = field(default_factory=lambda: [0.0, 0.0, 1.0, 1.0])
    look: BoxLook = BoxLook.whole

    def check(self) -> None:
        """Raise UserError for the first value that has no meaning."""
        for name, least in (("warmup_epochs", 0), ("every_epochs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"boxes.{name} must be {least} or more, not {value}")
        for name in ("threshold", "quantile"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < 1.0:
                raise UserError(f"boxes.{name} must be at least 0 and below 1, not {value}")
        check_box("boxes.initial", self.initial)


@dataclass
class Recipe:
    """A pre-training.

    Attributes
    ----------
    data
        ``NAME[:ROOT]``, as everywhere.
    max_images
        Pre-train on at most so many images, evenly spread over the split; None: all. For trial runs.
    backbone
        Architecture: a timm name or one of ours.
    zero_init_residual
        Start the last batch norm of each residual block at zero (Goyal et al., arXiv 1706.02677, section 5.1); ResNets only.
    init
        A model to start from (any ``--model`` word of the same architecture); its backbone is loaded, heads are new.
    method
        ``name`` and what that method can be told.
    views
        The augmentation; ``views.size`` is the side of the images that the network trains on.
    boxes
        The survey for ContrastiveCrop's boxes.
    batch
        Global batch, images per optimizer step over all processes. None: by the rule of :mod:`pretrain.sizes`.
    micro_batch
        Images per process and forward pass; None: the process's whole share of the batch. Smaller values accumulate gradients. ``auto``:
        the most that fit on the GPU, found before the first step (:mod:`pretrain.fitting.micro_batch`); on a CPU the whole share.
    bn_splits
        Batch norm works in so many groups on each process, as on so many devices.
    sync_bn
        Batch norm over all processes; needs GPUs.
    epochs
        Passes over the data; each drops what is left of the last incomplete batch.
    seed
        Of every random choice.
    fit
        Keys that follow the images by the rule of :mod:`pretrain.sizes`. One that is set, in a recipe that builds on this one or on the
        command line, is taken out.
    device
        ``auto|cpu|cuda``; ``auto``: a GPU where there is one.
    precision
        ``fp32|bf16|auto``; ``auto``: bf16 on GPUs that compute in it, fp32 elsewhere.
    channels_last
        Memory layout of convolutions: ``true|false|auto``; ``auto``: true on GPUs, false elsewhere.
    tf32
        On GPUs: float32 products and convolutions in TensorFloat-32. What autocast runs in bf16 is not touched.
    deterministic
        On GPUs: only kernels that give the same bits each time, which an exact resume needs. Off: cuDNN chooses the fastest.
    compile
        torch.compile of the backbones. Passes that need feature maps (surveys, CsMl's second level) run as written.
    activation_checkpointing
        Vision transformers: keep activations only between blocks and compute the rest again in backward.
    threads
        CPU threads per process; None: torch's own choice. Recorded in checkpoints and restored on resume, since sums depend on it.
    workers
        Loader processes per process, for images that do not fit into memory.
    max_time
        Save and stop after this time (``45m``, ``3h``); the rest follows by ``--resume``.
    log_every
        Steps between transfers of the losses from the device to the log (which has a row for every step).
    trackers
        ``tensorboard``, ``wandb``.
    """

    data: str = "shapes"
    max_images: int | None = None
    backbone: str = "resnet50"
    zero_init_residual: bool = False
    init: str | None = None
    method: Any = None
    views: ViewSettings = field(default_factory=ViewSettings)
    boxes: BoxSettings = field(default_factory=BoxSettings)
    batch: int | None = None
    micro_batch: int | str | None = None
    bn_splits: int = 1
    sync_bn: bool = False
    epochs: int = 200
    seed: int = 0
    fit: list[str] = field(default_factory=list)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    device: DeviceName = DeviceName.auto
    precision: PrecisionName = PrecisionName.auto
    channels_last: bool | str = "auto"
    tf32: bool = False
    deterministic: bool = False
    compile: bool = False
    activation_checkpointing: bool = False
    threads: int | None = None
    workers: int = 4
    max_time: str | None = None
    log_every: int = 20
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    knn: KnnCheckSettings = field(default_factory=KnnCheckSettings)


# What may be changed when a run is resumed: nothing that its numbers depend on.
CHANGEABLE_ON_RESUME = ("workers", "max_time", "log_every", "checkpoint.every_epochs", "checkpoint.every_steps", "checkpoint.keep")
