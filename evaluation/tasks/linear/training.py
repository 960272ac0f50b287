"""Training linear classifiers on frozen features, several learning rates in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from evaluation.extraction.checks import check_classes, check_finite, checked_labels
from evaluation.extraction.image_bar import image_bar
from evaluation.extraction.subsets import split_off
from evaluation.search import full_float32
from evaluation.statistics.accuracy import Accuracy, count_correct
from evaluation.tasks.linear.heads import Heads, make_heads_optimizer
from evaluation.tasks.linear.presets import TASK, LinearPreset
from evaluation.training.optimizers import Schedule, ScheduleName, ScheduleSettings, ScheduleUnit
from evaluation.views.parameters import to_device
from zoo.errors import UserError
from zoo.randomness import generator

_ORDER_PURPOSE = "linear order"


@dataclass(frozen=True, eq=False)
class LinearTraining:
    """What became of the classifiers, one for each of R rates.

    Attributes
    ----------
    rates
        Peak learning rates (R,), as they were used.
    losses
        float64 (epochs, R): mean training loss of each epoch.
    test_correct
        int64 (epochs, R): right answers on the test images after each epoch.
    holdout_correct
        int64 (epochs, R): right answers of the twins on the held-out training images; None without any.
    held_out
        Number of these images.
    last_rate
        Position of the rate that was best on held-out images after the last epoch.
    selected
        Epoch (from 0) and position of the rate that were best on held-out images, the earlier epoch and the smaller rate of equals; None
        without any.
    best_on_test
        Epoch and position of the rate with most right answers on the test images: an optimistic number, chosen by what it reports.
    last, chosen
        Answers on the test images of the classifier with ``last_rate`` after the last epoch, and of the selected one.
    layers
        Weights and biases of these two, by ``"last"`` and ``"selected"``.
    """

    rates: tuple[float, ...]
    losses: NDArray[np.float64]
    test_correct: NDArray[np.int64]
    holdout_correct: NDArray[np.int64] | None
    held_out: int
    last_rate: int
    selected: tuple[int, int] | None
    best_on_test: tuple[int, int]
    last: Accuracy
    chosen: Accuracy | None
    layers: Mapping[str, tuple[Tensor, Tensor]]


class FeatureBatches(Protocol):
    """Features of training images, batch by batch."""

    batch: int
    steps_per_epoch: int

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """float32 (B, D) on the device of the classifiers, and the images' positions, int64 (B,) on the CPU."""


class CachedBatches:
    """Batches of features that were computed once, in a new order each epoch.

    The order is an endless row of permutations, the p-th of them drawn at (seed, "linear order", p): an epoch of one pass is one of them.

    Parameters
    ----------
    features
        float32 (N, D) on any device.
    device
        Where batches go; the matrix itself stays where it is.
    """

    def __init__(self, features: Tensor, preset: LinearPreset, *, seed: int, device: torch.device) -> None:
        self._features, self._seed, self._device = features, seed, device
        self.batch = min(preset.batch, len(features))
        one_pass = len(features) // self.batch if preset.drop_last else -(-len(features) // self.batch)
        self.steps_per_epoch = preset.steps_per_epoch or one_pass
        self._endless = preset.steps_per_epoch is not None

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self._features)
        for step in range(self.steps_per_epoch):
            start = (epoch * self.steps_per_epoch + step if self._endless else step) * self.batch
            stop = start + self.batch if self._endless else min(start + self.batch, count)
            places = np.arange(start, stop)
            passes = places // count + (0 if self._endless else epoch)
            index = np.concatenate([self._order(number)[places[passes == number] % count] for number in np.unique(passes)])
            rows = self._features.index_select(0, to_device(index, self._features.device))
            yield rows.to(self._device), torch.from_numpy(index)

    def _order(self, number: int) -> NDArray[np.int64]:
        if getattr(self, "_drawn", (-1, None))[0] != number:
            self._drawn = number, generator(self._seed, _ORDER_PURPOSE, epoch=number).permutation(len(self._features))
        return self._drawn[1]


def train_linear(
    train_features: Tensor | NDArray[np.floating],
    train_labels: ArrayLike,
    test_features: Tensor | NDArray[np.floating],
    test_labels: ArrayLike,
    *,
    preset: str | LinearPreset = "moco",
    num_classes: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> LinearTraining:
    """Train linear classifiers on features by a preset, in its cached mode, and count their right answers.

    For each rate a *twin* is trained beside the classifier, in the same steps, that does not see the held-out training images. Rate and
    epoch are selected by the twins' answers on these, so the classifiers themselves learn from all training images, and nothing is chosen
    by the test images but the metric that says so.

    Parameters
    ----------
    train_features, test_features
        (N, D) and (Q, D), of any floating dtype; the training is in float32.
    train_labels, test_labels
        Whole numbers (N,) and (Q,) from 0 on.
    preset
        A name in :data:`evaluation.tasks.linear.presets.LINEAR_PRESETS` (``"logreg"`` is :func:`fit_logistic_regression`), or such a preset
        with changes (``LINEAR_PRESETS["moco"].change(lr=[1, 3, 10], epochs=20)``).
    num_classes
        By default the largest training label plus one.
    seed
        Of initial weights, order and held-out images.
    device
        Where it is computed; by default where the training features are. They are moved there if they fit beside what is there already.
    progress
        Show a progress bar.

    Raises
    ------
    UserError
        Features that are not finite, a test label that no training image has, classifiers that all diverged.
    ValueError
        Shapes or labels that make no sense.
    """
    preset = TASK.find(preset) if isinstance(preset, str) else preset
    if preset.solver == "lbfgs":
        raise ValueError(f"preset '{preset.name}' is not trained in steps; see fit_logistic_regression")
    bank, tests = torch.as_tensor(train_features), torch.as_tensor(test_features)
    labels, truth = checked_labels(train_labels, len(bank), "train"), checked_labels(test_labels, len(tests), "test")
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    check_classes(labels, truth, classes)
    check_finite(bank, "train")
    check_finite(tests, "test")
    place = bank.device if device is None else torch.device(device)
    bank, tests = bank.float(), tests.float()
    held_out = torch.from_numpy(split_off(labels.numpy(), preset.holdout, seed)[1])
    source = CachedBatches(near(bank, place), preset, seed=seed, device=place)
    return train_heads(
        source, labels, tests, truth, held_out, bank[held_out], preset=preset, classes=classes, seed=seed, device=place, progress=progress
    )


def train_heads(
    source: FeatureBatches,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    held_out: Tensor,
    held_out_features: Tensor,
    *,
    preset: LinearPreset,
    classes: int,
    seed: int,
    device: torch.device,
    progress: bool,
) -> LinearTraining:
    """The training behind :func:`train_linear`, on batches from anywhere. ``held_out`` are positions of images."""
    rates = tuple(rate * source.batch / 256 if preset.rate_per_256 else rate for rate in preset.rates)
    twins = len(held_out) > 0
    count = len(rates)
    kept = torch.ones(len(labels))
    kept[held_out] = 0
    labels_there, kept_there = labels.to(device), kept.to(device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False), full_float32():
        heads = Heads(count * (1 + twins), classes, test_features.shape[1], seed=seed, device=device)
        settings = {"momentum": preset.momentum, "weight_decay": preset.weight_decay}
        optimizer = make_heads_optimizer(heads, rates * (1 + twins), solver=preset.solver, **settings)
        schedule = Schedule(optimizer, _schedule(preset), epochs=preset.epochs, steps_per_epoch=source.steps_per_epoch)
        test_features, held_out_features = near(test_features, device), near(held_out_features, device)
        history = _History(count, twins, test_labels, labels[held_out])
        total = preset.epochs * source.steps_per_epoch * source.batch
        with image_bar(f"linear {preset.name}, {len(rates)} rates", total, show=progress) as advance:
            step = 0
            for epoch in range(preset.epochs):
                loss = torch.zeros(heads.count, device=device)
                for features, index in source.batches(epoch):
                    there = to_device(index.numpy(), device)
                    used = None
                    if twins:
                        used = torch.ones(len(index), heads.count, device=device)
                        used[:, count:] = kept_there[there][:, None]
                    loss += heads.backward(features, labels_there[there], used)
                    schedule.set(step)
                    optimizer.step()
                    step += 1
                    advance(len(index))
                history.epoch(heads, loss / source.steps_per_epoch, test_features, held_out_features)
        return history.training(heads, rates, test_features)


class _History:
    """Right answers after each epoch, and the classifier selected so far."""

    def __init__(self, count: int, twins: bool, truth: Tensor, held_out_truth: Tensor) -> None:
        self.count, self.twins, self.truth, self.held_out_truth = count, twins, truth, held_out_truth
        self.losses: list[NDArray[np.float64]] = []
        self.test: list[NDArray[np.int64]] = []
        self.held_out: list[NDArray[np.int64]] = []
        self.selected: tuple[int, int] | None = None
        self.chosen: Accuracy | None = None
        self.layers: dict[str, tuple[Tensor, Tensor]] = {}

    def epoch(self, heads: Heads, losses: Tensor, tests: Tensor, held_out: Tensor) -> None:
        finite = heads.finite()
        # A classifier that diverged answers nothing.
        test = (heads.predict(tests)[:, : self.count] == self.truth[:, None]).sum(0) * finite[: self.count]
        self.losses.append(losses[: self.count].double().cpu().numpy())
        self.test.append(test.numpy())
        if not self.twins:
            return
        right = (heads.predict(held_out)[:, self.count :] == self.held_out_truth[:, None]).sum(0)
        right = right * finite[: self.count] * finite[self.count :]
        self.held_out.append(right.numpy())
        best = int(right.argmax())
        if self.selected is None or right[best] > self.held_out[self.selected[0]][self.selected[1]]:
            self.selected = len(self.held_out) - 1, best
            self.chosen = count_correct(heads.outputs(tests, best), self.truth)
            self.layers["selected"] = heads.layer(best)

    def training(self, heads: Heads, rates: tuple[float, ...], tests: Tensor) -> LinearTraining:
        finite = heads.finite()[: self.count]
        if not finite.any():
            raise UserError(f"every classifier diverged, at learning rates {', '.join(f'{rate:g}' for rate in rates)}; give smaller --lr")
        last_rate = int(self.held_out[-1].argmax()) if self.twins else 0
        test = np.stack(self.test)
        epoch, rate = np.unravel_index(int(test.argmax()), test.shape)
        return LinearTraining(
            rates=rates,
            losses=np.stack(self.losses),
            test_correct=test,
            holdout_correct=np.stack(self.held_out) if self.twins else None,
            held_out=len(self.held_out_truth),
            last_rate=last_rate,
            selected=self.selected,
            best_on_test=(int(epoch), int(rate)),
            last=count_correct(heads.outputs(tests, last_rate), self.truth),
            chosen=self.chosen,
            layers={**self.layers, "last": heads.layer(last_rate)},
        )


def _schedule(preset: LinearPreset) -> ScheduleSettings:
    return ScheduleSettings(
        name=ScheduleName(preset.decay),
        milestones=preset.milestones,
        unit=ScheduleUnit.step if preset.decay_each_step else ScheduleUnit.epoch,
    )


def near(features: Tensor, device: torch.device) -> Tensor:
    """The matrix on a GPU if it takes at most half of what is free there; else where it is."""
    if device.type != "cuda" or features.device == device:
        return features
    free, _ = torch.cuda.mem_get_info(device)
    return features.to(device) if 2 * features.nbytes <= free else features
