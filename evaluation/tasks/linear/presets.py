"""Protocols of linear classifiers, and linear classification as a task of ``evaluate``. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from evaluation.tasks.presets import ImageChoices, Preset
from evaluation.tasks.task import Option, Task, check_options, numbers, several
from zoo.errors import UserError
from zoo.ranges import POSITIVE, Range

if TYPE_CHECKING:
    from zoo.results import Result

Solver = Literal["sgd", "lars", "lbfgs"]
Mode = Literal["cached", "exact"]
Decay = Literal["cosine", "step"]
MODES = ("cached", "exact")
# What a protocol says of several rates in cached mode.
SELECTION = (
    "classifiers that do not see the held-out images choose the rate, which is then trained on all images; "
    "best on test and the curves are of the former"
)


@dataclass(frozen=True, kw_only=True)
class LinearPreset(Preset):
    """A protocol of linear classification: what is trained on the frozen features, and how.

    Attributes
    ----------
    solver
        ``"sgd"`` or ``"lars"`` with momentum, in mini-batches; ``"lbfgs"``: logistic regression, to its minimum.
    mode
        ``"exact"``: random crops and flips of the training images go through the frozen network in each epoch, as the protocol was
        published. ``"cached"``: their centre crops go through it once, and every epoch sees the same features.
    rates
        Learning rates, each of a classifier of its own; all are trained side by side. For ``"lbfgs"`` the values of C, the inverse
        strength of the L2 penalty.
    rate_per_256
        Whether rates are multiplied by batch / 256.
    batch
        Images of a step; all images where there are fewer.
    epochs
        Passes over the training images, or pieces of ``steps_per_epoch`` steps.
    steps_per_epoch
        None: as many as make one pass.
    drop_last
        Leave out the last, incomplete batch of a pass.
    decay
        ``"cosine"`` to zero, or ``"step"``: times 0.1 at 60 % and at 80 % of the epochs.
    decay_each_step
        Whether the cosine falls at every step, or once an epoch.
    momentum, weight_decay
        Of the optimizer.
    crop_scale
        Share of the image's area that a random crop keeps, from and to (exact mode).
    holdout
        Share of the training images, class by class, by which rate and epoch are chosen.
    headline
        Which accuracy is the headline: ``"last"``, after the last epoch, or ``"selected"``, the rate and epoch that were best on held-out
        training images.
    """

    solver: Solver = "sgd"
    mode: Mode = "cached"
    rates: tuple[float, ...]
    rate_per_256: bool = False
    batch: int = 256
    epochs: int = 100
    steps_per_epoch: int | None = None
    drop_last: bool = False
    decay: Decay = "step"
    decay_each_step: bool = False
    momentum: float = 0.9
    weight_decay: float = 0.0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    holdout: float = 0.1
    headline: Literal["last", "selected"] = "last"

    @property
    def milestones(self) -> list[int]:
        """Epochs from which the rate of a ``"step"`` schedule is a tenth of what it was."""
        return [round(share * self.epochs) for share in (0.6, 0.8)] if self.decay == "step" else []

    def name_at(self, crop: int) -> str:
        """As the base class says, and whether features were cached, which is not as the protocol was published."""
        approximate = self.solver != "lbfgs" and self.mode == "cached"
        return (f"{self.name}-cached" if approximate else self.name) + ("" if crop == self.images.crop else f"@{crop}")

    def change(
        self,
        lr: float | Sequence[float] | None = None,
        c: float | Sequence[float] | None = None,
        epochs: int | None = None,
        batch: int | None = None,
        mode: str | None = None,
        holdout: float | None = None,
    ) -> LinearPreset:
        """The preset with other values; those that are None stay. Raises UserError for values that make no sense."""
        logistic = self.solver == "lbfgs"
        lr, c = (None if rates is None else several(rates) for rates in (lr, c))
        given: dict[str, Any] = {"epochs": epochs, "batch": batch, "mode": mode, "lr": lr}
        foreign = [name for name, value in given.items() if value is not None] if logistic else ["c"] if c is not None else []
        if foreign:
            instead = "--c is what it takes" if logistic else "--lr is what it takes"
            raise UserError(f"preset '{self.name}' has no --{foreign[0]}; {instead}")
        rates = c if logistic else lr
        check_options(TASK.options, {**given, "c": c, "holdout": holdout})
        if mode is not None and mode not in MODES:
            raise UserError(f"--mode is {' or '.join(MODES)}, not '{mode}'")
        values: dict[str, Any] = {
            "rates": None if rates is None else tuple(rates),
            "epochs": epochs,
            "batch": batch,
            "mode": mode,
            "holdout": holdout,
        }
        changed = replace(self, **{name: value for name, value in values.items() if value is not None})
        if changed.holdout == 0 and (len(changed.rates) > 1 or changed.headline == "selected"):
            raise UserError("with --holdout 0 nothing can choose among several rates, or the epoch; give a part of the training images")
        if lr is not None and changed.rate_per_256:
            changed = replace(changed, rate_per_256=False)
        return changed

    @property
    def procedure(self) -> int:
        """2 of logistic regression (fits end at a gradient relative to the data's, and ties are broken by log-loss), and where the chosen
        rate is trained anew on all images (until then every rate was, so that the best on the test images was one of those).
        """
        return 2 if self.solver == "lbfgs" or self.refits else 1

    @property
    def refits(self) -> bool:
        """Whether held-out images choose among rates first, and the chosen one is then trained on all images.

        In exact mode the forward passes are what takes time, so that all are trained beside each other, as with one rate.
        """
        return self.solver != "lbfgs" and self.mode == "cached" and len(self.rates) > 1

    @property
    def changed(self) -> list[str]:
        """Names of the values that differ from those of the registered preset; the mode is part of the preset's name."""
        registered = LINEAR_PRESETS[self.name]
        return [name for name in ("rates", "batch", "epochs", "holdout") if getattr(self, name) != getattr(registered, name)]

    def describe(self) -> dict[str, Any]:
        """Every value, as a result records it."""
        shared = {"solver": self.solver, "holdout": self.holdout, "source": self.source, "changed": self.changed}
        if self.solver == "lbfgs":
            return {"c": list(self.rates), "penalty": "l2", "intercept": "not penalised", **shared}
        augmentation = {"crop_scale": list(self.crop_scale), "flip": 0.5} if self.mode == "exact" else {}
        return {
            "mode": self.mode,
            "lr": list(self.rates),
            "lr_per_256": self.rate_per_256,
            "batch": self.batch,
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "drop_last": self.drop_last,
            "schedule": self.decay,
            "milestones": self.milestones,
            "decay_each_step": self.decay_each_step,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "head": "weights N(0, 0.01), biases 0",
            **augmentation,
            **({"selection": SELECTION} if self.refits else {}),
            **shared,
        }


_BILINEAR = ImageChoices(resize=256, crop=224, interpolation="bilinear")
_BICUBIC = ImageChoices(resize=256, crop=224, interpolation="bicubic")
_MOCO = LinearPreset(
    name="moco",
    images=_BILINEAR,
    rates=(30.0,),
    source="He et al., CVPR 2020 (arXiv 1911.05722), main_lincls.py of facebookresearch/moco; ContrastiveCrop on ImageNet",
)
_PRESETS = (
    _MOCO,
    replace(_MOCO, name="hcsc", rates=(5.0,), source="Guo et al., CVPR 2022 (arXiv 2202.00455), eval_lincls_imagenet.py of gyfastas/HCSC"),
    replace(_MOCO, name="pcl", rates=(5.0,), source="Li et al., ICLR 2021 (arXiv 2005.04966), eval_cls_imagenet.py of salesforce/PCL"),
    replace(
        _MOCO,
        name="ccrop-cifar",
        rates=(10.0,),
        batch=512,
        drop_last=True,
        source="Peng et al., CVPR 2022 (arXiv 2202.03278), DDP_linear.py of xyupeng/ContrastiveCrop for CIFAR, STL-10 and Tiny ImageNet",
    ),
    replace(
        _MOCO,
        name="swav",
        rates=(0.3,),
        decay="cosine",
        weight_decay=1e-6,
        source="Caron et al., NeurIPS 2020 (arXiv 2006.09882), eval_linear.py of facebookresearch/swav",
    ),
    replace(
        _MOCO,
        name="simsiam",
        solver="lars",
        rates=(1.6,),
        batch=4096,
        epochs=90,
        decay="cosine",
        source="Chen and He, CVPR 2021 (arXiv 2011.10566), main_lincls.py --lars of facebookresearch/simsiam (lr 0.1 x 4096 / 256)",
    ),
    replace(
        _MOCO,
        name="dino",
        images=_BICUBIC,
        rates=(0.001,),
        rate_per_256=True,
        batch=1024,
        decay="cosine",
        source="Caron et al., ICCV 2021 (arXiv 2104.14294), eval_linear.py of facebookresearch/dino, on one feature vector",
    ),
    replace(
        _MOCO,
        name="dinov2",
        images=_BICUBIC,
        rates=(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1),
        rate_per_256=True,
        batch=1024,
        epochs=10,
        steps_per_epoch=1250,
        decay="cosine",
        decay_each_step=True,
        headline="selected",
        source="Oquab et al., TMLR 2024 (arXiv 2304.07193), dinov2/eval/linear.py, its 13 rates on one feature vector; it chooses on the "
        "validation images, this on held-out training images",
    ),
    LinearPreset(
        name="logreg",
        images=ImageChoices(resize=224, crop=224, interpolation="bicubic"),
        solver="lbfgs",
        rates=tuple(10 ** (-6 + 11 * step / 44) for step in range(45)),
        headline="selected",
        source="dinov2/eval/log_regression.py of facebookresearch/dinov2: C chosen on a tenth of the training images, then all of them",
    ),
)
LINEAR_PRESETS: Mapping[str, LinearPreset] = {preset.name: preset for preset in _PRESETS}


def _columns(result: Result) -> dict[str, str]:
    columns = {"top1_last": "last", "top1_best_on_test": "best on test", "top1_selected": "selected"}
    best = result.headline.metric.replace("top1", "top5")
    shown = {metric: heading for metric, heading in columns.items() if metric in result.metrics}
    return shown | ({best: "top-5"} if best in result.metrics else {})


TASK = Task(
    name="linear",
    summary="a linear classifier on frozen features",
    presets=LINEAR_PRESETS,
    default_preset="moco",
    options=(
        Option("mode", str, "cached (centre crops, computed once) or exact (random crops through the network in each epoch).", "MODE"),
        Option(
            "lr",
            str,
            "Learning rates as they are, not the preset's; several are trained side by side.",
            "LR[,LR...]",
            numbers("--lr"),
            POSITIVE,
        ),
        Option("c", str, "Values of C for preset logreg.", "C[,C...]", numbers("--c"), POSITIVE),
        Option("epochs", int, "Epochs, not the preset's; milestones move along.", "N", within=Range(1)),
        Option("batch", int, "Images of a training step, not the preset's.", "N", within=Range(1)),
        Option("holdout", float, "Share of the training images that chooses rate and epoch.", "SHARE", None, Range(0, 1, below=True)),
    ),
    change=LinearPreset.change,
    run="evaluation.tasks.linear.run:run_linear",
    saves=True,
    columns=_columns,
)
