"""Training linear classifiers on frozen features, several learning rates in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from evaluation.arrays import Matrix, as_matrix
from evaluation.extraction.checks import check_classes, check_finite, check_widths, checked_labels
from evaluation.extraction.image_bar import image_bar
from evaluation.extraction.subsets import split_off
from evaluation.search import full_float32
from evaluation.statistics.accuracy import Accuracy, count_correct
from evaluation.tasks.linear.batches import CachedBatches, FeatureBatches, near
from evaluation.tasks.linear.heads import Heads, make_heads_optimizer
from evaluation.tasks.linear.presets import TASK, LinearPreset
from evaluation.training.optimizers import Schedule, ScheduleName, ScheduleSettings, ScheduleUnit
from evaluation.views.parameters import to_device
from zoo.errors import UserError


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
        int64 (epochs, R): right answers on the test images after each epoch. Where several rates are chosen from and then one is trained on
        all images (:attr:`LinearPreset.refits`), losses and these are of the classifiers that do not see the held-out images.
    holdout_correct
        int64 (epochs, R): right answers on the held-out training images by the classifiers that do not see them; None without any.
    held_out
        Number of these images.
    diverged
        Rates at which a classifier's weights were no numbers at the end.
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
    diverged: tuple[float, ...]
    last_rate: int
    selected: tuple[int, int] | None
    best_on_test: tuple[int, int]
    last: Accuracy
    chosen: Accuracy | None
    layers: Mapping[str, tuple[Tensor, Tensor]]


def train_linear(
    train_features: Matrix,
    train_labels: ArrayLike,
    test_features: Matrix,
    test_labels: ArrayLike,
    *,
    preset: str | LinearPreset = "moco",
    num_classes: int | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> LinearTraining:
    """Train linear classifiers on features by a preset, in its cached mode, and count their right answers.

    Rate and epoch are selected on held-out training images, by classifiers that do not see these. The classifiers whose answers count learn
    from all training images, and nothing is chosen by the test images but the metric that says so. With one rate the two are trained beside
    each other, in the same steps. With several rates those that choose are trained first, and then one at the chosen rate
    (:func:`train_chosen`).

    Parameters
    ----------
    train_features, test_features
        (N, D) and (Q, D): tensors or arrays of any real numbers (:func:`evaluation.arrays.as_matrix`); the training is in float32.
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
    bank, tests = as_matrix(train_features, "train features"), as_matrix(test_features, "test features")
    check_widths(bank, tests)
    labels, truth = checked_labels(train_labels, len(bank), "train"), checked_labels(test_labels, len(tests), "test")
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    check_classes(labels, truth, classes)
    check_finite(bank, "train")
    check_finite(tests, "test")
    place = bank.device if device is None else torch.device(device)
    bank, tests = bank.float(), tests.float()
    held_out = split_off(labels.numpy(), preset.holdout, seed)[1] if preset.holdout else np.empty(0, dtype=np.int64)
    near_bank = near(bank, place)
    whole = CachedBatches(near_bank, preset, seed=seed, device=place)
    images = HeldOut(labels, torch.from_numpy(held_out), bank[held_out], tests, truth)
    settings: dict[str, Any] = {"preset": preset, "classes": classes, "seed": seed, "device": place, "progress": progress}
    if not preset.refits:
        return train_heads(whole, images, **settings)
    return train_chosen(CachedBatches(near_bank, preset, seed=seed, device=place, left_out=held_out), whole, images, **settings)


def diverged_doubts(training: LinearTraining, classes: int) -> list[str]:
    """What a reader must know of classifiers that diverged, or whose loss at the end is above that of guessing."""
    found = []
    if training.diverged:
        rates = ", ".join(f"{rate:g}" for rate in training.diverged)
        found.append(f"the classifier diverged at {len(training.diverged)} of {len(training.rates)} learning rates ({rates})")
    rate, loss = training.rates[training.last_rate], float(training.losses[-1, training.last_rate])
    if not loss <= math.log(classes):
        guessing = f"above that of guessing, {math.log(classes):.3g}"
        at_end = f"at learning rate {rate:g} the training loss of the last epoch, {loss:.3g},"
        found.append(f"{at_end} is {guessing}; a smaller --lr may do better")
    return found


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Labels of all training images, and what chooses and what tests.

    Attributes
    ----------
    labels
        int64 (N,) of the training images.
    positions, features
        Of the held-out training images: int64 (M,), and float32 (M, D).
    tests, truth
        Of the test images: float32 (Q, D), and int64 (Q,).
    """

    labels: Tensor
    positions: Tensor
    features: Tensor
    tests: Tensor
    truth: Tensor

    def near(self, device: torch.device) -> HeldOut:
        """With the features on the device where they fit."""
        return replace(self, features=near(self.features, device), tests=near(self.tests, device))


def train_heads(
    source: FeatureBatches,
    images: HeldOut,
    *,
    preset: LinearPreset,
    classes: int,
    seed: int,
    device: torch.device,
    progress: bool,
) -> LinearTraining:
    """Classifiers that learn from all images and, beside each in the same steps, a twin that does not see the held-out ones."""
    rates = _rates(preset, source)
    count, twins = len(rates), len(images.positions) > 0
    kept = torch.ones(len(images.labels), device=device)
    kept[images.positions.to(device)] = 0

    def used(index: Tensor) -> Tensor:
        mask = torch.ones(len(index), 2 * count, device=device)
        mask[:, count:] = kept[index][:, None]
        return mask

    with _exact(device):
        images = images.near(device)
        heads = Heads(count * (1 + twins), classes, images.tests.shape[1], seed=seed, device=device)
        history = _History(count, images, held_out_from=count if twins else None)
        with _bar(preset, source, 1, progress) as advance:
            for losses in _epochs(heads, rates * (1 + twins), source, images.labels.to(device), preset, advance, used if twins else None):
                history.epoch(heads, losses)
                if history.newly_selected is not None:
                    history.choose(heads, history.newly_selected)
        _refuse_if_all_diverged(heads, range(count), rates)
        return history.training(rates, heads, history.last_rate)


def train_chosen(
    searched: FeatureBatches,
    whole: FeatureBatches,
    images: HeldOut,
    *,
    preset: LinearPreset,
    classes: int,
    seed: int,
    device: torch.device,
    progress: bool,
) -> LinearTraining:
    """Classifiers that do not see the held-out images, one a rate; then one at the chosen rate that learns from all images.

    The rate that is best after the last epoch and the one that is best at any epoch are mostly the same; where they are two, two
    classifiers are trained, side by side.

    Parameters
    ----------
    searched, whole
        The same steps, of the images without the held-out ones, and of all.
    """
    rates = _rates(preset, whole)
    labels = images.labels.to(device)
    with _exact(device):
        images = images.near(device)
        width = images.tests.shape[1]
        history = _History(len(rates), images, held_out_from=0)
        with _bar(preset, whole, 2, progress) as advance:
            heads = Heads(len(rates), classes, width, seed=seed, device=device)
            for losses in _epochs(heads, rates, searched, labels, preset, advance):
                history.epoch(heads, losses)
            _refuse_if_all_diverged(heads, range(len(rates)), rates)
            assert history.selected is not None
            epoch_selected, rate_selected = history.selected
            chosen = sorted({history.last_rate, rate_selected})
            heads = Heads(len(chosen), classes, width, seed=seed, device=device)
            for epoch, _ in enumerate(_epochs(heads, [rates[rate] for rate in chosen], whole, labels, preset, advance)):
                if epoch == epoch_selected:
                    history.choose(heads, chosen.index(rate_selected))
        _refuse_if_all_diverged(heads, [chosen.index(history.last_rate)], [rates[history.last_rate]])
        return history.training(rates, heads, chosen.index(history.last_rate))


def _epochs(
    heads: Heads,
    rates: Sequence[float],
    source: FeatureBatches,
    labels: Tensor,
    preset: LinearPreset,
    advance: Callable[[int], None],
    used: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Tensor]:
    """Train; yields the mean losses (G,) of each epoch, after it. ``used`` gives the mask of :meth:`Heads.backward` for positions."""
    device = labels.device
    optimizer = make_heads_optimizer(heads, rates, solver=preset.solver, momentum=preset.momentum, weight_decay=preset.weight_decay)
    schedule = Schedule(optimizer, _schedule(preset), epochs=preset.epochs, steps_per_epoch=source.steps_per_epoch)
    step = 0
    for epoch in range(preset.epochs):
        loss = torch.zeros(heads.count, device=device)
        for features, index in source.batches(epoch):
            there = to_device(index.numpy(), device)
            loss += heads.backward(features, labels[there], None if used is None else used(there))
            schedule.set(step)
            optimizer.step()
            step += 1
            advance(len(index))
        yield loss / source.steps_per_epoch


def _rates(preset: LinearPreset, source: FeatureBatches) -> tuple[float, ...]:
    return tuple(rate * source.batch / 256 if preset.rate_per_256 else rate for rate in preset.rates)


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """No gradients and full float32, whatever the caller works in."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False), full_float32():
        yield


@contextmanager
def _bar(preset: LinearPreset, source: FeatureBatches, passes: int, show: bool) -> Iterator[Callable[[int], None]]:
    total = passes * preset.epochs * source.steps_per_epoch * source.batch
    with image_bar(f"linear {preset.name}, {len(preset.rates)} rates", total, show=show) as advance:
        yield advance


def _refuse_if_all_diverged(heads: Heads, those: Iterable[int], rates: Sequence[float]) -> None:
    if not heads.finite()[list(those)].any():
        raise UserError(f"every classifier diverged, at learning rates {', '.join(f'{rate:g}' for rate in rates)}; give smaller --lr")


class _History:
    """Right answers after each epoch, and the classifier selected so far.

    Parameters
    ----------
    count
        R, the number of rates: the test images are asked of the first R classifiers.
    held_out_from
        Which classifiers have not seen the held-out images: R from here on; None: none.
    """

    def __init__(self, count: int, images: HeldOut, *, held_out_from: int | None) -> None:
        self.count, self.images, self.held_out_from = count, images, held_out_from
        self.held_out_truth = images.labels[images.positions]
        self.losses: list[NDArray[np.float64]] = []
        self.test: list[NDArray[np.int64]] = []
        self.held_out: list[NDArray[np.int64]] = []
        self.finite = np.ones(count, dtype=bool)
        self.selected: tuple[int, int] | None = None
        self.newly_selected: int | None = None
        self.chosen: Accuracy | None = None
        self.layers: dict[str, tuple[Tensor, Tensor]] = {}

    def epoch(self, heads: Heads, losses: Tensor) -> None:
        every = heads.finite()
        finite = every[: self.count]
        if self.held_out_from is not None:
            finite = finite & every[self.held_out_from :][: self.count]
        self.finite = finite.numpy()
        # A classifier that diverged answers nothing.
        test = (heads.predict(self.images.tests)[:, : self.count] == self.images.truth[:, None]).sum(0) * every[: self.count]
        self.losses.append(losses[: self.count].double().cpu().numpy())
        self.test.append(test.numpy())
        self.newly_selected = None
        if self.held_out_from is None:
            return
        answers = heads.predict(self.images.features)[:, self.held_out_from :][:, : self.count]
        right = (answers == self.held_out_truth[:, None]).sum(0) * finite
        self.held_out.append(right.numpy())
        best = int(right.argmax())
        if self.selected is None or right[best] > self.held_out[self.selected[0]][self.selected[1]]:
            self.selected = len(self.held_out) - 1, best
            self.newly_selected = best

    @property
    def last_rate(self) -> int:
        """Position of the rate that was best on held-out images after the last epoch."""
        return int(self.held_out[-1].argmax()) if self.held_out else 0

    def choose(self, heads: Heads, classifier: int) -> None:
        """Take this one of the classifiers as the selected one."""
        self.chosen = count_correct(heads.outputs(self.images.tests, classifier), self.images.truth)
        self.layers["selected"] = heads.layer(classifier)

    def training(self, rates: tuple[float, ...], heads: Heads, last: int) -> LinearTraining:
        """What became of it; ``last`` is the classifier of the last epoch that counts."""
        test = np.stack(self.test)
        epoch, rate = np.unravel_index(int(test.argmax()), test.shape)
        return LinearTraining(
            rates=rates,
            losses=np.stack(self.losses),
            test_correct=test,
            holdout_correct=np.stack(self.held_out) if self.held_out else None,
            held_out=len(self.held_out_truth),
            diverged=tuple(rate for rate, finite in zip(rates, self.finite, strict=True) if not finite),
            last_rate=self.last_rate,
            selected=self.selected,
            best_on_test=(int(epoch), int(rate)),
            last=count_correct(heads.outputs(self.images.tests, last), self.images.truth),
            chosen=self.chosen,
            layers={**self.layers, "last": heads.layer(last)},
        )


def _schedule(preset: LinearPreset) -> ScheduleSettings:
    return ScheduleSettings(
        name=ScheduleName(preset.decay),
        milestones=preset.milestones,
        unit=ScheduleUnit.step if preset.decay_each_step else ScheduleUnit.epoch,
    )
