"""What a recipe may say: every key of a pre-training, its type and its default."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from evaluation.stopping import parse_duration
from evaluation.training.kernels import AUTO
from evaluation.training.optimizers import OptimizerSettings, ScheduleSettings
from evaluation.views.settings import ViewSettings, check_box
from zoo.errors import UserError
from zoo.ranges import NORM_EPS, SEED, SHARE, STEM_PADDING, WORKERS, Range, check_ranges


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
    keep_every
        Epochs between checkpoints that are kept for good besides, to choose from; 0 for none. They are saved even where ``every_epochs``
        would pass over them.
    """

    every_epochs: Annotated[int, Range(1)] = 1
    every_steps: Annotated[int, Range(0)] = 0
    keep: Annotated[int, Range(1)] = 2
    keep_every: Annotated[int, Range(0)] = 0


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

    every_epochs: Annotated[int, Range(0)] = 10
    preset: str = "dino"
    train_images: Annotated[int, Range(1)] = 20000
    test_images: Annotated[int, Range(1)] = 5000


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

    warmup_epochs: Annotated[int | None, Range(0)] = None
    every_epochs: Annotated[int | None, Range(1)] = None
    threshold: Annotated[float, Range(0, 1, below=True)] = 0.1
    quantile: Annotated[float | None, Range(0, 1, below=True)] = None
    initial: Annotated[list[float], SHARE] = field(default_factory=lambda: [0.0, 0.0, 1.0, 1.0])
    look: BoxLook = BoxLook.whole


@dataclass
class InitFileSettings:
    """How ``init`` is read where it is a checkpoint file of others (``docs/formats.md``), as ``zoo import`` takes it by its options.

    Attributes
    ----------
    key
        The keys that lead to the network's tensors, with dots between them.
    prefix
        What their names begin with.
    rename
        ``PATTERN=REPLACEMENT``, one after the other.
    drop
        Patterns of names that are left out.
    heads
        Attention heads of a vision transformer.
    norm_eps
        Epsilon of its norms.
    stem_padding
        Padding of conv1 in the small-image stem, in pixels.
    """

    key: str | None = None
    prefix: str | None = None
    rename: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    heads: Annotated[int | None, Range(1)] = None
    norm_eps: Annotated[float | None, NORM_EPS] = None
    stem_padding: Annotated[int | None, STEM_PADDING] = None


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
    init_file
        How it is read where it is a checkpoint file of no known layout.
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
    max_images: Annotated[int | None, Range(1)] = None
    backbone: str = "resnet50"
    zero_init_residual: bool = False
    init: str | None = None
    init_file: InitFileSettings = field(default_factory=InitFileSettings)
    method: Any = None
    views: ViewSettings = field(default_factory=ViewSettings)
    boxes: BoxSettings = field(default_factory=BoxSettings)
    batch: Annotated[int | None, Range(1)] = None
    micro_batch: Annotated[int | str | None, Range(1)] = None
    bn_splits: Annotated[int, Range(1)] = 1
    sync_bn: bool = False
    epochs: Annotated[int, Range(1)] = 200
    seed: Annotated[int, SEED] = 0
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
    threads: Annotated[int | None, Range(1, 1024)] = None
    workers: Annotated[int, WORKERS] = 4
    max_time: str | None = None
    log_every: Annotated[int, Range(1)] = 20
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    knn: KnnCheckSettings = field(default_factory=KnnCheckSettings)


    def check(self) -> None:
        """Raise UserError, which says what is allowed, for the first value that has no meaning."""
        check_ranges(self)
        # The method holds its own settings to theirs as well, for whoever makes one without a recipe; here it is before any image is read.
        check_ranges(self.method, "method.")
        self.views.check()
        check_box("boxes.initial", self.boxes.initial)
        if self.max_time is not None:
            parse_duration(self.max_time)
        if isinstance(self.micro_batch, str) and self.micro_batch != AUTO:
            raise UserError(f"micro_batch is a number of images or auto, not '{self.micro_batch}'")


# What may be changed when a run is resumed: nothing that its numbers depend on.
CHANGEABLE_ON_RESUME = ("workers", "max_time", "log_every", "checkpoint.every_epochs", "checkpoint.every_steps", "checkpoint.keep")
