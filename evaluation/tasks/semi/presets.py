"""Protocols for few labels, and classification with few labels as a task of ``evaluate``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from evaluation.tasks.finetune.presets import BARLOW, HCSC, SWAV, TRAINING_OPTIONS, FineTunePreset, Rates, change_training, training_columns
from evaluation.tasks.task import Option, Task, check_options
from zoo.errors import UserError
from zoo.ranges import POSITIVE, Range

Way = Literal["fine-tune", "frozen", "pseudo-labels"]


@dataclass(frozen=True, kw_only=True)
class SemiPreset(FineTunePreset):
    """What is done with few labels.

    Attributes
    ----------
    way
        ``"fine-tune"``; ``"frozen"``: logistic regression on features that stay as they are; ``"pseudo-labels"``: fine-tune, label the
        other training images by it, keep the surest ones of each class, and train again from the start with these too.
    percent
        Share of the training images that keep their labels.
    labels
        A list of these images in place of a share.
    max_entropy
        pseudo-labels: images whose predicted classes have a larger entropy, in bits, are left out.
    per_class
        pseudo-labels: at most so many images of each class, those of the smallest entropy.
    folds
        frozen: choose C by cross-validation over so many parts of the labelled images; 0: by ``holdout``.
    """

    way: Way = "fine-tune"
    percent: float = 1.0
    labels: Path | None = None
    max_entropy: float = 1.0
    per_class: int = 100
    folds: int = 0

    @property
    def procedure(self) -> int:
        """2 of logistic regression: fits end at a gradient relative to the data's, ties are broken by log-loss, folds choose."""
        return 2 if self.way == "frozen" else 1

    def change(
        self,
        percent: float | None = None,
        labels: Path | None = None,
        max_entropy: float | None = None,
        per_class: int | None = None,
        folds: int | None = None,
        **training: Any,
    ) -> SemiPreset:
        """The preset with other values; those that are None stay. Raises UserError for values without meaning."""
        check_options(TASK.options, {"percent": percent, "max_entropy": max_entropy, "per_class": per_class, "folds": folds})
        changed = change_training(self, **training)
        assert isinstance(changed, SemiPreset)
        if percent is not None:
            if labels is not None:
                raise UserError("--labels names the labelled images; leave --percent out")
            changed = replace(changed, percent=percent)
        if (max_entropy is not None or per_class is not None) and self.way != "pseudo-labels":
            raise UserError(f"preset '{self.name}' makes no pseudo-labels; leave out --max-entropy and --per-class, or take preset csml")
        if self.way == "frozen":
            foreign = [name for name, value in training.items() if value is not None and name not in ("holdout", "legacy_std")]
            if foreign:
                raise UserError(f"preset 'frozen' trains no network; leave out --{foreign[0].replace('_', '-')}")
        elif folds is not None:
            raise UserError(f"preset '{self.name}' does not cross-validate; leave out --folds, or take preset frozen")
        if folds is not None and training.get("holdout") is not None:
            raise UserError("--folds and --holdout are two ways to choose C; give one of them")
        if folds is not None:
            changed = replace(changed, folds=folds)
        elif training.get("holdout") is not None:
            changed = replace(changed, folds=0)
        if max_entropy is not None:
            changed = replace(changed, max_entropy=max_entropy)
        if per_class is not None:
            changed = replace(changed, per_class=per_class)
        return replace(changed, labels=labels or self.labels)


def _semi(preset: FineTunePreset, **values: Any) -> SemiPreset:
    known = {item.name: getattr(preset, item.name) for item in fields(preset)}
    return SemiPreset(**known | values)


_MMSELFSUP = FineTunePreset(
    name="mmselfsup",
    images=SWAV.images,
    rates={1: Rates(0.01, 0.1)},
    grid=tuple(Rates(trunk, trunk * times) for trunk in (0.1, 0.01, 0.001) for times in (1, 10, 100)),
    epochs=20,
    schedule="step",
    milestones=(12, 16),
    gamma=0.2,
    weight_decay=5e-4,
    head_std=0.01,
    holdout=0.2,
    source="the nine 4xb64-steplr-20e semi-supervised configurations of open-mmlab/mmselfsup; the held-out choice among them is ours",
)
SEMI_PRESETS: Mapping[str, SemiPreset] = {
    "swav": _semi(SWAV),
    "hcsc": _semi(HCSC),
    "hirl": _semi(
        HCSC,
        name="hirl",
        rates={1: Rates(0.02, 0.2), 10: Rates(0.005, 0.1)},
        source="semi-supervised configurations of hirl-team/HIRL for MoCo v2, without the mixup and RandAugment keys in them",
    ),
    "barlow": _semi(BARLOW),
    "mmselfsup": _semi(_MMSELFSUP),
    "frozen": _semi(
        HCSC,
        name="frozen",
        way="frozen",
        folds=5,
        source="logistic regression on frozen features, as MSN (arXiv 2204.07141) and iBOT (arXiv 2111.07832) report few labels; "
        "that cross-validation over the labelled images chooses C is this toolkit's own",
    ),
    "csml": _semi(
        HCSC,
        name="csml",
        way="pseudo-labels",
        source="Xu et al., arXiv 2012.02733, whose recipe was not released: HCSC's fine-tuning, and pseudo-labels as later code that cites "
        "the paper makes them; threshold, number per class and the start of the second training are reconstructions",
    ),
}

TASK = Task(
    name="semi",
    summary="few labels, by default 1 %: the whole network is trained with them, or a classifier on frozen features",
    presets=SEMI_PRESETS,
    default_preset="swav",
    options=(
        Option("percent", float, "Share of the training images that keep their labels.", "PERCENT", None, Range(0, 100, above=True)),
        Option("labels", Path, "File that names the labelled training images, one a line, in place of a share.", "FILE"),
        *TRAINING_OPTIONS,
        Option("max_entropy", float, "csml: leave out images whose predicted classes have a larger entropy.", "BITS", within=POSITIVE),
        Option(
            "folds",
            int,
            "frozen: choose C by cross-validation over so many parts of the labelled images (--holdout chooses on one part instead).",
            "N",
            within=Range(2),
        ),
        Option("per_class", int, "csml: keep at most so many pseudo-labels of each class.", "IMAGES", within=Range(1)),
    ),
    change=SemiPreset.change,
    run="evaluation.tasks.semi.run:run_semi",
    saves=True,
    columns=training_columns,
    in_all=False,
)
