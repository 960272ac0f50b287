"""Linear classifiers: training side by side against torch's optimizers one by one, selection, logistic regression against scikit-learn."""

from __future__ import annotations

import dataclasses
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Peer
from timm.optim.lars import Lars
from torch import Tensor, nn
from torch.nn import functional

from evaluation.extraction.features import Features
from evaluation.extraction.subsets import folds_of, split_off, stratified_subset
from evaluation.tasks.linear import logistic
from evaluation.tasks.linear.batches import CachedBatches
from evaluation.tasks.linear.heads import Heads
from evaluation.tasks.linear.logistic import LogisticRegression, fit_logistic_regression
from evaluation.tasks.linear.presets import LINEAR_PRESETS, LinearPreset
from evaluation.tasks.linear.run import run_linear
from evaluation.tasks.linear.sweep import _Sweep, sweep_logistic
from evaluation.tasks.linear.training import train_linear
from evaluation.tasks.runtime import Runtime
from zoo.data import open_data
from zoo.errors import UserError
from zoo.hashing import tensors_sha256
from zoo.model_spec import open_model

Arrays = tuple[Tensor, np.ndarray, Tensor, np.ndarray]


def blobs(classes: int = 5, train: int = 203, test: int = 120, width: int = 12, seed: int = 0) -> Arrays:
    """Features about class centres, which overlap."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, width))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, train - classes)])
    truth = rng.integers(0, classes, test)
    features, tests = (centres[rows] + 1.3 * rng.standard_normal((len(rows), width)) for rows in (labels, truth))
    return torch.from_numpy(features).float(), labels, torch.from_numpy(tests).float(), truth


def one_by_one(data: Arrays, preset: LinearPreset, rate: float, left_out: np.ndarray) -> tuple[nn.Linear, list[int]]:
    """One classifier, trained by autograd and a published optimizer; right answers on the test images after each epoch."""
    features, labels, tests, truth = data
    classes = int(labels.max()) + 1
    head = nn.Linear(features.shape[1], classes)
    start = Heads(1, classes, features.shape[1], seed=0, device=torch.device("cpu"))
    head.weight.data.copy_(start.weight)
    head.bias.data.zero_()
    common = {"lr": rate, "momentum": preset.momentum, "weight_decay": preset.weight_decay}
    optimizer = torch.optim.SGD(head.parameters(), **common)
    if preset.solver == "lars":
        optimizer = Lars(head.parameters(), always_adapt=True, **common)
    source = CachedBatches(features, preset, seed=0, device=torch.device("cpu"))
    targets, kept = torch.from_numpy(labels), torch.ones(len(labels), dtype=torch.bool)
    kept[left_out] = False
    correct, step = [], 0
    for epoch in range(preset.epochs):
        for batch, index in source.batches(epoch):
            time = step / source.steps_per_epoch if preset.decay_each_step else epoch
            if preset.decay == "cosine":
                factor = (1 + np.cos(np.pi * time / preset.epochs)) / 2
            else:
                factor = 0.1 ** sum(epoch >= milestone for milestone in preset.milestones)
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            used = kept[index]
            optimizer.zero_grad()
            functional.cross_entropy(head(batch[used]), targets[index][used]).backward()
            optimizer.step()
            step += 1
        correct.append(int((head(tests).argmax(1).numpy() == truth).sum()))
    return head, correct


SETTINGS = {
    "step": {"decay": "step", "epochs": 10, "batch": 32},
    "cosine with decay": {"decay": "cosine", "epochs": 6, "batch": 50, "weight_decay": 1e-2},
    "each step": {"decay": "cosine", "epochs": 3, "batch": 64, "steps_per_epoch": 7, "decay_each_step": True},
    "dropped": {"decay": "step", "epochs": 5, "batch": 64, "drop_last": True},
    "lars": {"solver": "lars", "decay": "cosine", "epochs": 5, "batch": 203},
}


def _held_out_answers(data: Arrays, head: nn.Linear, held: np.ndarray) -> int:
    return int((head(data[0][held]).argmax(1).numpy() == data[1][held]).sum())


@pytest.mark.parametrize("name", SETTINGS)
def test_several_rates_equal_one_by_one(name: str) -> None:
    """Classifiers without the held-out images choose; the chosen rate is trained on all images."""
    data, rates = blobs(), (0.01, 0.3, 2.0)
    preset = dataclasses.replace(LINEAR_PRESETS["moco"], rates=rates, holdout=0.2, **SETTINGS[name])  # type: ignore[arg-type]
    assert preset.procedure == 2
    training = train_linear(*data, preset=preset)
    held = split_off(data[1], 0.2, 0)[1]
    assert training.held_out == len(held) > 20
    assert training.holdout_correct is not None
    assert training.diverged == ()
    for position, rate in enumerate(rates):
        searched, correct = one_by_one(data, preset, rate, held)
        # Sums in another order may turn an image that lies on a border.
        np.testing.assert_allclose(training.test_correct[:, position], correct, atol=1)
        assert abs(int(training.holdout_correct[-1, position]) - _held_out_answers(data, searched, held)) <= 1
    whole, correct = one_by_one(data, preset, rates[training.last_rate], held[:0])
    assert (training.last.predictions == whole(data[2]).argmax(1).numpy()).mean() > 0.98
    assert training.last_rate == training.holdout_correct[-1].argmax()
    assert training.selected is not None
    assert training.chosen is not None
    epoch, place = training.selected
    assert abs(training.chosen.correct - one_by_one(data, preset, rates[place], held[:0])[1][epoch]) <= 1


@pytest.mark.parametrize("name", ["step", "cosine with decay", "lars"])
def test_one_rate_and_its_twin_equal_one_by_one(name: str) -> None:
    data = blobs()
    preset = dataclasses.replace(LINEAR_PRESETS["moco"], rates=(0.3,), holdout=0.2, **SETTINGS[name])  # type: ignore[arg-type]
    assert preset.procedure == 1
    training = train_linear(*data, preset=preset)
    held = split_off(data[1], 0.2, 0)[1]
    head, correct = one_by_one(data, preset, 0.3, held[:0])
    np.testing.assert_allclose(training.test_correct[:, 0], correct, atol=1)
    assert (training.last.predictions == head(data[2]).argmax(1).numpy()).mean() > 0.98
    assert training.holdout_correct is not None
    twin = one_by_one(data, preset, 0.3, held)[0]
    assert abs(int(training.holdout_correct[-1, 0]) - _held_out_answers(data, twin, held)) <= 1
    assert training.selected is not None
    assert training.chosen is not None
    assert training.chosen.correct == training.test_correct[training.selected]


def test_a_batch_of_held_out_images_alone_is_a_step_without_gradient() -> None:
    """Three images of ten are held out, batches have one: those of held-out images only let the momentum roll on."""
    data = blobs(classes=2, train=10)
    preset = dataclasses.replace(LINEAR_PRESETS["moco"], rates=(0.1, 1.0), holdout=0.3, epochs=4, batch=1)
    training = train_linear(*data, preset=preset)
    assert np.isfinite(training.losses).all()
    held = split_off(data[1], 0.3, 0)[1]
    kept = torch.ones(10, dtype=torch.bool)
    kept[held] = False
    head = nn.Linear(12, 2)
    head.weight.data.copy_(Heads(1, 2, 12, seed=0, device=torch.device("cpu")).weight)
    head.bias.data.zero_()
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0, momentum=0.9)
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 ** sum(epoch >= milestone for milestone in preset.milestones)
        for batch, index in CachedBatches(data[0], preset, seed=0, device=torch.device("cpu")).batches(epoch):
            optimizer.zero_grad(set_to_none=False)
            loss = functional.cross_entropy(head(batch), torch.from_numpy(data[1])[index])
            (loss * float(kept[index])).backward()
            optimizer.step()
    assert abs(int(training.test_correct[-1, 1]) - int((head(data[2]).argmax(1).numpy() == data[3]).sum())) <= 1


def test_gradients_equal_autograd_and_leave_masked_images_out() -> None:
    features, labels, _, _ = blobs(train=40)
    heads = Heads(2, 5, 12, seed=1, device=torch.device("cpu"))
    heads.weight += torch.randn(heads.weight.shape, generator=torch.Generator().manual_seed(0))
    used = torch.ones(40, 2)
    used[:7, 1] = 0
    losses = heads.backward(features, torch.from_numpy(labels), used)
    for head, rows in enumerate((slice(0, 40), slice(7, 40))):
        weight = heads.weight[head * 5 : head * 5 + 5].clone().requires_grad_()
        bias = heads.bias[head * 5 : head * 5 + 5].clone().requires_grad_()
        loss = functional.cross_entropy(features[rows] @ weight.T + bias, torch.from_numpy(labels)[rows])
        loss.backward()
        torch.testing.assert_close(losses[head], loss.detach())
        torch.testing.assert_close(heads.weight_gradient[head * 5 : head * 5 + 5], weight.grad)
        torch.testing.assert_close(heads.bias_gradient[head * 5 : head * 5 + 5], bias.grad)


def test_what_is_selected_does_not_depend_on_the_test_images() -> None:
    features, labels, tests, truth = blobs()
    preset = LINEAR_PRESETS["moco"].change(lr=[0.01, 0.1, 1.0], epochs=8, batch=32, holdout=0.25)
    training = train_linear(features, labels, tests, truth, preset=preset)
    other = train_linear(features, labels, tests.flip(0), (truth + 1) % 5, preset=preset)
    assert training.selected == other.selected
    assert training.holdout_correct is not None
    assert other.holdout_correct is not None
    np.testing.assert_array_equal(training.holdout_correct, other.holdout_correct)
    assert training.selected is not None
    assert training.chosen is not None
    epoch, rate = training.selected
    assert training.holdout_correct[epoch, rate] == training.holdout_correct.max()
    alone = [one_by_one((features, labels, tests, truth), preset, preset.rates[place], labels[:0])[1] for place in range(3)]
    assert abs(training.chosen.correct - alone[rate][epoch]) <= 1
    assert abs(training.last.correct - alone[training.last_rate][-1]) <= 1
    assert training.test_correct[training.best_on_test] == training.test_correct.max()
    again = train_linear(features, labels, tests, truth, preset=preset)
    np.testing.assert_array_equal(training.losses, again.losses)
    reseeded = train_linear(features, labels, tests, truth, preset=preset, seed=1)
    assert not np.array_equal(training.losses, reseeded.losses)


def test_batches_go_through_all_images_in_each_pass() -> None:
    features = torch.arange(23.0)[:, None]
    preset = dataclasses.replace(LINEAR_PRESETS["moco"], batch=5)
    device = torch.device("cpu")
    passes = [[index.tolist() for _, index in CachedBatches(features, preset, seed=3, device=device).batches(epoch)] for epoch in (0, 1)]
    for batches in passes:
        assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
        assert sorted(chain(*batches)) == list(range(23))
    assert passes[0] != passes[1]
    endless = CachedBatches(features, dataclasses.replace(preset, steps_per_epoch=7), seed=3, device=device)
    seen = list(chain(*(index.tolist() for epoch in (0, 1) for _, index in endless.batches(epoch))))
    assert seen[:46] == [*chain(*passes[0]), *chain(*passes[1])]
    dropped = CachedBatches(features, dataclasses.replace(preset, drop_last=True), seed=3, device=device)
    assert [len(index) for _, index in dropped.batches(0)] == [5, 5, 5, 5]


@pytest.mark.parametrize("classes", [2, 3, 9])
@pytest.mark.parametrize("c", [0.01, 1.0, 30.0])
def test_logistic_regression_equals_scikit_learn(classes: int, c: float) -> None:
    features, labels, tests, _ = blobs(classes, seed=classes)
    exact = features.double()
    peer = Peer(C=c, tol=1e-12, max_iter=5000, solver="newton-cg").fit(exact.numpy(), labels)
    fit = fit_logistic_regression(exact, labels, c=c, tolerance=1e-10)
    assert fit.converged
    assert fit.relative_gradient <= 1e-10
    # With several classes a vector added to all of them changes no probability; the penalty fixes it for the weights alone.
    np.testing.assert_allclose(fit.weight, peer.coef_, atol=2e-8)
    shifts = (fit.bias.mean(), peer.intercept_.mean()) if classes > 2 else (0, 0)
    np.testing.assert_allclose(fit.bias - shifts[0], peer.intercept_ - shifts[1], atol=2e-8)
    np.testing.assert_array_equal(fit.outputs(tests).argmax(1).numpy(), peer.predict(tests.double().numpy()))
    elsewhere = fit_logistic_regression(features, labels, c=c / 3)
    from_there = fit_logistic_regression(features, labels, c=c, tolerance=1e-10, start=elsewhere)
    assert from_there.iterations > 0
    np.testing.assert_allclose(from_there.weight, fit.weight, atol=2e-7)
    usual = fit_logistic_regression(exact, labels, c=c)
    assert np.linalg.norm(usual.weight - fit.weight) <= 1e-5 * np.linalg.norm(fit.weight)
    # The same where features are not kept converted, and probabilities not kept between products.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logistic, "_VALUES_AT_ONCE", 7 * features.shape[1])
        patch.setattr(logistic, "_PROBABILITIES_KEPT", 0)
        in_parts = fit_logistic_regression(features, labels, c=c, tolerance=1e-10)
    np.testing.assert_allclose(in_parts.weight, fit.weight, atol=2e-7)


@pytest.mark.parametrize("spoilt", [False, True])
def test_steps_by_float32_end_where_those_by_float64_do(spoilt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a step's check in float64 says that rounding has spoilt it, which is made to happen at the first."""
    features, labels, _, _ = blobs(3, seed=0)
    asked: list[bool] = []
    of_loss = logistic._Loss.hessian_times

    def seen(self: logistic._Loss, direction: torch.Tensor, single: bool = False) -> torch.Tensor:
        asked.append(single)
        return of_loss(self, direction, single)

    monkeypatch.setattr(logistic._Loss, "hessian_times", seen)
    double = fit_logistic_regression(features.double(), labels, c=0.1, tolerance=1e-9)
    assert not any(asked)
    asked.clear()
    if spoilt:
        monkeypatch.setattr(logistic, "_SPOILT", 0.0)
    single = fit_logistic_regression(features, labels, c=0.1, tolerance=1e-9)
    assert asked[0]
    assert asked[-2] != spoilt  # the last one is the check of the last step, or belongs to a step by float64
    assert single.converged
    assert double.converged
    np.testing.assert_allclose(single.weight, double.weight, atol=1e-7)
    asked.clear()
    assert fit_logistic_regression(features, labels, c=1e9, tolerance=1e-2).converged
    assert not any(asked)  # too weak a penalty


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_every_strength_of_the_penalty_converges_with_few_labels(scale: float) -> None:
    """scikit-learn's digits, ten labels a class, shifted far from zero: all 45 values of C, each from the solution before."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    few = stratified_subset(labels, 5.5)
    features = (pixels[few] / 16 + 3) * scale
    fit = None
    for c in LINEAR_PRESETS["logreg"].rates:
        fit = fit_logistic_regression(features, labels[few], c=c / scale**2, start=fit)
        assert fit.converged
        assert fit.iterations > 0
    alone = fit_logistic_regression(features, labels[few], c=fit.c)  # type: ignore[union-attr]
    assert np.linalg.norm(alone.weight - fit.weight) <= 1e-3 * np.linalg.norm(alone.weight)  # type: ignore[union-attr]


def test_features_that_say_nothing_have_a_fit() -> None:
    labels = np.array([0, 1, 1, 2] * 5)
    fit = fit_logistic_regression(np.full((20, 3), 5.0), labels)
    assert fit.converged
    np.testing.assert_allclose(fit.weight, 0, atol=1e-9)
    shares = np.exp(fit.bias) / np.exp(fit.bias).sum()
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=1e-4)
    whole = fit_logistic_regression(np.arange(40).reshape(20, 2), labels)  # int64
    assert whole.converged


def test_a_fit_that_was_stopped_says_so() -> None:
    features, labels, _, _ = blobs(3, seed=0)
    assert not fit_logistic_regression(features, labels, c=1e3, max_iterations=2).converged


def _as_features(rows: np.ndarray, split: str) -> Features:
    return Features(torch.from_numpy(rows), {}, "digits", split)


@pytest.mark.parametrize("folds", [0, 4])
def test_c_is_chosen_by_right_answers_then_log_loss_then_penalty(folds: int) -> None:
    """Against scikit-learn's converged fits, on its digits with few labels, where many C give equally many right answers."""
    from sklearn.datasets import load_digits
    from sklearn.metrics import log_loss

    pixels, labels = load_digits(return_X_y=True)
    few, rest = stratified_subset(labels, 4, seed=0), np.arange(1000, 1700)
    train, truth = pixels[few] / 16, labels[few]
    preset = LINEAR_PRESETS["logreg"].change(c=[10.0**power for power in range(-4, 5)], holdout=0.3)
    answers = sweep_logistic(
        preset, _as_features(train, "train"), truth, _as_features(pixels[rest] / 16, "test"), labels[rest], 10, Runtime(), folds=folds
    )
    parts = folds_of(truth, folds) if folds else [split_off(truth, 0.3)[1]]
    right, losses = np.zeros(9, int), np.zeros(9)
    for held_out in parts:
        kept = np.setdiff1d(np.arange(len(truth)), held_out)
        for place, c in enumerate(preset.rates):
            peer = Peer(C=c, tol=1e-10, max_iter=5000, solver="newton-cg").fit(train[kept], truth[kept])
            right[place] += int((peer.predict(train[held_out]) == truth[held_out]).sum())
            losses[place] += log_loss(truth[held_out], peer.predict_proba(train[held_out]), labels=range(10)) * len(held_out)
    sweep = answers.details["sweep"]
    assert sweep["held_out_correct"] == right.tolist()
    np.testing.assert_allclose(np.array(sweep["held_out_log_loss"]) * sum(map(len, parts)), losses, rtol=1e-4)
    assert sum(right == right.max()) > 1  # there is a tie to break
    tied = np.flatnonzero(right == right.max())
    best = preset.rates[tied[losses[tied].argmin()]]
    assert answers.details["chosen"]["selected"]["c"] == best
    final = Peer(C=best, tol=1e-10, max_iter=5000, solver="newton-cg").fit(train, truth)
    np.testing.assert_array_equal(answers.by_name["selected"].predictions, final.predict(pixels[rest] / 16))
    assert sweep["not_converged"] == []
    assert all(count > 0 for count in sweep["iterations"])
    assert ("top1_best_on_test" in answers.counts) == (folds == 0)


def test_of_equals_the_stronger_penalty_is_chosen() -> None:
    """Two classes far apart, and held-out images that every C gets right; where the log-losses agree too, C is the smallest."""
    sweep = _Sweep([1e-3, 1e-2, 1e-1, 1.0], 0)
    sweep.right[:], sweep.loss[:] = [4, 5, 5, 5], [0.1, 0.30000001, 0.3, 0.4]
    assert sweep.best() == 1
    sweep.loss[2] = 0.29
    assert sweep.best() == 2


def test_c_at_which_a_fit_did_not_converge_is_named() -> None:
    sweep = _Sweep([0.1, 1.0, 10.0], 0)
    sweep.converged[2] = False
    stopped = LogisticRegression(np.zeros((3, 2)), np.zeros(3), 10.0, 200, False, 0.3)
    assert sweep.describe()["not_converged"] == [10.0]
    assert sweep.doubts(stopped) == [
        "logistic regression did not converge at 1 of 3 values of C (10)",
        "logistic regression did not converge at the chosen C, 10; the number is of where it stopped",
    ]


def test_presets_have_the_published_values() -> None:
    facts = {name: (p.solver, p.rates[0], p.batch, p.epochs, p.decay, p.milestones, p.weight_decay) for name, p in LINEAR_PRESETS.items()}
    assert facts["moco"] == ("sgd", 30, 256, 100, "step", [60, 80], 0)
    assert facts["hcsc"] == facts["pcl"] == ("sgd", 5, 256, 100, "step", [60, 80], 0)
    assert facts["ccrop-cifar"] == ("sgd", 10, 512, 100, "step", [60, 80], 0)
    assert facts["swav"] == ("sgd", 0.3, 256, 100, "cosine", [], 1e-6)
    assert facts["simsiam"] == ("lars", 1.6, 4096, 90, "cosine", [], 0)
    assert facts["dino"] == ("sgd", 0.001, 1024, 100, "cosine", [], 0)
    dinov2 = LINEAR_PRESETS["dinov2"]
    assert (len(dinov2.rates), dinov2.epochs * (dinov2.steps_per_epoch or 0), dinov2.headline) == (13, 12500, "selected")
    grid = LINEAR_PRESETS["logreg"].rates
    assert (len(grid), round(grid[0], 9), round(grid[-1])) == (45, 1e-6, 100000)
    assert all(preset.momentum == 0.9 for preset in LINEAR_PRESETS.values())
    assert {name: preset.name_at(224) for name, preset in LINEAR_PRESETS.items()}["moco"] == "moco-cached"
    assert LINEAR_PRESETS["moco"].change(mode="exact").name_at(32) == "moco@32"
    assert LINEAR_PRESETS["logreg"].name_at(224) == "logreg"


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("moco", {"lr": [0.1, 0.1]}, "--lr takes different numbers, each above 0, not 0.1,0.1"),
        ("moco", {"lr": [-1.0]}, "--lr must be above 0, not -1.0"),
        ("moco", {"lr": [float("nan")]}, "--lr must be above 0, not nan"),
        ("logreg", {"c": [float("nan")]}, "--c must be above 0, not nan"),
        ("moco", {"c": [1.0]}, "has no --c"),
        ("logreg", {"lr": [1.0]}, "has no --lr"),
        ("logreg", {"epochs": 3}, "has no --epochs"),
        ("moco", {"epochs": 0}, "--epochs must be at least 1"),
        ("moco", {"mode": "fast"}, "--mode is cached or exact"),
        ("moco", {"holdout": 1.0}, "--holdout must be at least 0 and below 1, not 1.0"),
        ("dinov2", {"holdout": 0.0}, "nothing can choose among several rates"),
    ],
)
def test_changes_that_make_no_sense_are_refused(preset: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LINEAR_PRESETS[preset].change(**changes)  # type: ignore[arg-type]


def test_bad_arrays_are_refused() -> None:
    features, labels, tests, truth = blobs(train=60)
    spoiled = tests.clone()
    spoiled[[3, 9], 0] = torch.nan
    with pytest.raises(UserError, match="2 of 120 test feature vectors hold NaN or infinity, first in row 3"):
        train_linear(features, labels, spoiled, truth)
    with pytest.raises(UserError, match="test images have labels that no training image has, first label 7"):
        train_linear(features, labels, tests, np.where(truth == 2, 7, truth))
    with pytest.raises(ValueError, match="whole numbers from 0 on"):
        train_linear(features, labels - 1, tests, truth)
    with pytest.raises(UserError, match="so few labelled images"):
        train_linear(features[:5], np.arange(5), tests, truth)
    with pytest.raises(UserError, match="every classifier diverged"):
        train_linear(features, labels, tests, truth, preset=LINEAR_PRESETS["moco"].change(lr=[1e38], epochs=3))


@pytest.mark.parametrize("mode", ["cached", "exact"])
def test_a_model_is_evaluated_and_left_as_it_was(mode: str, tmp_path: Path) -> None:
    data = open_data("shapes:size=16,train=180,test=60")
    model = open_model("random:test_resnet", image_size=16)
    for number, buffer in enumerate(model.module.buffers()):
        if buffer.is_floating_point():
            buffer.add_(0.01 * number)
    before = tensors_sha256(model.module.state_dict())
    preset = LINEAR_PRESETS["hcsc"].change(mode=mode, epochs=3, batch=64, lr=[0.5, 5.0])
    result = run_linear(model, data, preset=preset, runtime=Runtime(seed=3))
    assert tensors_sha256(model.module.state_dict()) == before
    assert not model.module.training
    assert result.preset == ("hcsc@16" if mode == "exact" else "hcsc-cached@16")
    assert result.protocol["mode"] == mode
    assert ("crop_scale" in result.protocol) == (mode == "exact")
    assert result.protocol["changed"] == ["rates", "batch", "epochs"]
    assert result.headline.metric == "top1_last"
    assert result.seeds == {"evaluation": 3}
    for name, value in result.metrics.items():
        assert value == 100 * result.counts["correct"][name] / 60
    curves, chosen = result.details["curves"], result.details["chosen"]
    assert np.array(curves["test_correct"]).shape == np.array(curves["held_out_correct"]).shape == (3, 2)
    assert result.counts["correct"]["top1_best_on_test"] == np.max(curves["test_correct"])
    rate = curves["lr"].index(chosen["selected"]["lr"])
    if mode == "exact":
        assert curves["test_correct"][chosen["selected"]["epoch"]][rate] == result.counts["correct"]["top1_selected"]
    assert result.protocol.get("procedure", 1) == (1 if mode == "exact" else 2)
    assert ("selection" in result.protocol) == (mode == "cached")
    low, high = result.details["intervals"]["top1_last"]
    assert low < result.headline.value < high
    assert run_linear(model, data, preset=preset, runtime=Runtime(seed=3)).details == result.details
