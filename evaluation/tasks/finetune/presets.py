"""Fine-tuning protocols, and fine-tuning with all labels as a task of ``evaluate``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evaluation.tasks.presets import ImageChoices, Preset
from evaluation.tasks.task import Option, Task, check_options, folder_to_write
from zoo.errors import UserError
from zoo.ranges import Range

if TYPE_CHECKING:
    from zoo.results import Result

# Torchvision's evaluation transform, which all of these protocols use.
IMAGES = ImageChoices(resize=256, crop=224, interpolation="bilinear")
# SwAV's and HCSC's semi-supervised scripts divide the red channel by .228, all others by .229.
LEGACY_RED_STD = 0.228


@dataclass(frozen=True)
class Rates:
    """Peak learning rates: of the backbone, and of the linear layer on top."""

    trunk: float
    head: float


@dataclass(frozen=True, kw_only=True)
class FineTunePreset(Preset):
    """A protocol that trains the whole network, or a linear layer on a frozen one, with SGD on images that are augmented anew each epoch.

    Attributes
    ----------
    rates
        By the share of labelled images in percent that they were published for. Another share takes the nearest's, by their ratio.
    grid
        Rates that are all tried; the best on the held-out images counts. Empty: ``rates`` alone.
    epochs, schedule, milestones, gamma, period
        ``"step"``: times ``gamma`` at the milestones (epochs from 0); ``"cosine"`` to 0; both change once an epoch. ``"restarts"``: a
        cosine to 0 every ``period`` epochs, changed at every step.
    how
        ``"trained"``; or ``"frozen"``: the backbone stays as it is, in eval mode.
    batch
        Global. Fewer labelled images make one batch of all.
    momentum, weight_decay
        Of SGD, without Nesterov's form; everything decays.
    head_std
        Standard deviation of the layer's first weights; None: torch's own start.
    holdout
        Share of the labelled images that is not trained on, and chooses the epoch (and the rates of a grid). 0: all are trained on, and the
        last epoch counts.
    scale, ratio
        Ranges of a training crop's share of the image's area, and of its width over its height.
    strong
        Whether training images get MoCo v2's colours, grey and blur too, besides crops and flips.
    legacy_std
        Normalise red by .228, as SwAV's and HCSC's scripts do, if it would be .229.
    checkpoints
        Folder to keep checkpoints in; None: none are kept.
    """

    rates: Mapping[float, Rates]
    epochs: int
    schedule: Literal["step", "cosine", "restarts"]
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    period: int = 10
    how: Literal["trained", "frozen"] = "trained"
    batch: int = 256
    momentum: float = 0.9
    weight_decay: float = 0.0
    head_std: float | None = None
    holdout: float = 0.0
    grid: tuple[Rates, ...] = ()
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    strong: bool = False
    legacy_std: bool = False
    checkpoints: Path | None = None

    def rates_for(self, percent: float) -> Rates:
        """The rates for a share of labelled images."""
        return self.rates[min(self.rates, key=lambda known: max(known / percent, percent / known))]

    def changed_from(self, registered: Mapping[str, Any]) -> list[str]:
        """Names of the values that differ from those of the registered preset of this name."""
        left_out = {"name", "images", "source", "checkpoints"}
        own = registered[self.name]
        return [item.name for item in fields(self) if item.name not in left_out and getattr(self, item.name) != getattr(own, item.name)]

    def describe(self) -> dict[str, Any]:
        """The values as a result records them, but for the rates."""
        return {
            "optimizer": "sgd",
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "epochs": self.epochs,
            "schedule": self.schedule,
            **({"milestones": list(self.milestones), "gamma": self.gamma} if self.schedule == "step" else {}),
            **({"period": self.period} if self.schedule == "restarts" else {}),
            "backbone": self.how,
            "train_images": {"scale": list(self.scale), "ratio": list(self.ratio), "flip": 0.5, "colours": self.strong},
            "head_std": self.head_std,
            "holdout": self.holdout,
            "legacy_std": self.legacy_std,
            "source": self.source,
        }


def change_training(
    preset: FineTunePreset,
    *,
    epochs: int | None = None,
    batch: int | None = None,
    trunk_lr: float | None = None,
    head_lr: float | None = None,
    weight_decay: float | None = None,
    holdout: float | None = None,
    legacy_std: bool | None = None,
    checkpoints: Path | None = None,
) -> FineTunePreset:
    """A preset with other values; those that are None stay.

    Milestones move with the number of epochs, in proportion. Raises UserError for values without meaning.
    """
    given = {"epochs": epochs, "batch": batch, "trunk_lr": trunk_lr, "head_lr": head_lr, "weight_decay": weight_decay, "holdout": holdout}
    check_options(TRAINING_OPTIONS, given)
    changed = preset
    if epochs is not None:
        moved = tuple(round(milestone * epochs / preset.epochs) for milestone in preset.milestones)
        changed = replace(changed, epochs=epochs, milestones=moved)
    if batch is not None:
        changed = replace(changed, batch=batch)
    if trunk_lr is not None or head_lr is not None:
        rates = {
            percent: Rates(known.trunk if trunk_lr is None else trunk_lr, known.head if head_lr is None else head_lr)
            for percent, known in preset.rates.items()
        }
        changed = replace(changed, rates=rates, grid=())
    if weight_decay is not None:
        changed = replace(changed, weight_decay=weight_decay)
    if holdout is not None:
        changed = replace(changed, holdout=holdout)
    if legacy_std is not None:
        changed = replace(changed, legacy_std=legacy_std)
    if changed.grid and not changed.holdout:
        raise UserError(f"preset '{preset.name}' tries {len(changed.grid)} pairs of rates, which only held-out images can choose among")
    return replace(changed, checkpoints=checkpoints or preset.checkpoints)


EPOCHS = Option("epochs", int, "Epochs of the training, not the preset's; its milestones move along.", "N", within=Range(1))
# Batch norm has no variance over one image.
BATCH = Option("batch", int, "Images per optimizer step over all processes, not the preset's.", "IMAGES", within=Range(2))
CHECKPOINTS = Option(
    "checkpoints",
    Path,
    "Folder for checkpoints: the same command goes on from there. Without it none are written.",
    "DIR",
    parse=folder_to_write,
)
HEAD_LR = Option("head_lr", float, "Peak learning rate of the linear layer.", "RATE", within=Range(0))
HOLDOUT = Option(
    "holdout",
    float,
    "Share of the labelled images that chooses the epoch and is not trained on.",
    "SHARE",
    within=Range(0, 1, below=True),
)
TRAINING_OPTIONS = (
    EPOCHS,
    BATCH,
    Option("trunk_lr", float, "Peak learning rate of the backbone.", "RATE", within=Range(0)),
    HEAD_LR,
    Option("weight_decay", float, "Weight decay, not the preset's.", "DECAY", within=Range(0)),
    HOLDOUT,
    Option("legacy_std", bool, "Normalise red by .228, as SwAV's and HCSC's scripts do, where it would be .229."),
    CHECKPOINTS,
)

SWAV = FineTunePreset(
    name="swav",
    images=IMAGES,
    rates={1: Rates(0.02, 5.0), 10: Rates(0.01, 0.2)},
    epochs=20,
    schedule="step",
    milestones=(12, 16),
    gamma=0.2,
    source="Caron et al., NeurIPS 2020 (arXiv 2006.09882), eval_semisup.py of facebookresearch/swav: 8 x 32 images, SyncBN",
)
HCSC = FineTunePreset(
    name="hcsc",
    images=IMAGES,
    rates={10: Rates(0.005, 0.02)},
    epochs=70,
    schedule="step",
    milestones=(30, 60),
    source="Guo et al., CVPR 2022 (arXiv 2202.00455), eval_semisup.py of gyfastas/HCSC: 8 x 32 images, SyncBN; the same for 1 % and 10 %",
)
BARLOW = FineTunePreset(
    name="barlow",
    images=IMAGES,
    rates={1: Rates(0.005, 0.5)},
    epochs=20,
    schedule="cosine",
    head_std=0.01,
    source="Zbontar et al., ICML 2021 (arXiv 2103.03230), evaluate.py of facebookresearch/barlowtwins, as its README runs it for 1 %",
)
STANDARD = FineTunePreset(
    name="standard",
    images=IMAGES,
    rates={100: Rates(0.01, 0.1)},
    epochs=50,
    schedule="cosine",
    weight_decay=1e-4,
    head_std=0.01,
    holdout=0.1,
    source="this toolkit's own choice, for any classification data; no publication uses it",
)
FINETUNE_PRESETS: Mapping[str, FineTunePreset] = {
    "standard": STANDARD,
    "swav": replace(SWAV, holdout=0.1),
    "hcsc": replace(HCSC, holdout=0.1),
    "barlow": replace(BARLOW, holdout=0.1),
}


def training_columns(result: Result) -> dict[str, str]:
    """Columns of a table, in this order, as far as the result has them."""
    headings = {
        "top1_selected": "selected",
        "top1_last": "last",
        "top1_best_on_test": "best on test",
        "top1_plain_last": "plain, last",
        "top1_frozen": "frozen",
        "top5_selected": "top-5 selected",
        "top5_last": "top-5 last",
        "top5_frozen": "top-5 frozen",
    }
    if "top5_selected" in result.metrics:
        del headings["top5_last"]
    return {metric: heading for metric, heading in headings.items() if metric in result.metrics}


TASK = Task(
    name="finetune",
    summary="the whole network trained with all labels; the epoch is chosen on a held-out part of the training images",
    presets=FINETUNE_PRESETS,
    default_preset="standard",
    options=TRAINING_OPTIONS,
    change=change_training,
    run="evaluation.tasks.finetune.run:run_finetune",
    saves=True,
    columns=training_columns,
    in_all=False,
)
