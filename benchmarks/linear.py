"""Linear classifiers on cached features: eight learning rates side by side beside one, and logistic regression beside scikit-learn.

    python benchmarks/linear.py [--images 50000] [--width 512] [--classes 100] [--epochs 1] [--repeats 3] [--device cpu]
        [--no-logistic | --only-logistic]

Times of one run are comparable with each other alone; what is compared takes turns, and ratios are medians of pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from evaluation.tasks.linear.logistic import LogisticRegression as LogisticFit
from evaluation.tasks.linear.logistic import fit_logistic_regression
from evaluation.tasks.linear.presets import LINEAR_PRESETS
from evaluation.tasks.linear.training import train_linear

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of processors on a CPU, which others may use too; by wall clock on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def in_turns(works: dict[str, Callable[[], object]], repeats: int, device: torch.device) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work, device))
    return times


def show(times: dict[str, list[float]], base: str) -> None:
    for name, found in times.items():
        ratio = np.median(np.array(found) / np.array(times[base]))
        print(f"{name:45s} {np.median(found):8.3f} s   {ratio:5.2f} x {base}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-logistic", action="store_true")
    parser.add_argument("--only-logistic", action="store_true")
    given = parser.parse_args()
    device = torch.device(given.device)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((given.classes, given.width)).astype(np.float32)
    labels, truth = rng.integers(0, given.classes, given.images), rng.integers(0, given.classes, given.images // 10)
    features, tests = (centres[of] + 4 * rng.standard_normal((len(of), given.width)).astype(np.float32) for of in (labels, truth))
    bank, queries = torch.from_numpy(features).to(device), torch.from_numpy(tests).to(device)
    print(f"{given.images} x {given.width}, {given.classes} classes, batch {given.batch}, {device}, {torch.get_num_threads()} threads\n")

    def train(rates: tuple[float, ...], holdout: float) -> Callable[[], object]:
        preset = LINEAR_PRESETS["moco"].change(epochs=given.epochs, batch=given.batch, holdout=holdout, lr=rates[:1])
        preset = preset.change(lr=rates, holdout=0.1) if len(rates) > 1 else preset
        return lambda: train_linear(bank, labels, queries, truth, preset=preset, num_classes=given.classes)

    def plain() -> None:
        """One classifier as one writes it in torch: no hold-out, the test images counted after each epoch."""
        head = torch.nn.Linear(given.width, given.classes).to(device)
        optimizer = torch.optim.SGD(head.parameters(), lr=RATES[4], momentum=0.9)
        targets, goal = torch.from_numpy(labels).to(device), torch.from_numpy(truth).to(device)
        for _ in range(given.epochs):
            for index in torch.randperm(given.images).split(given.batch):
                there = index.to(device)
                loss = torch.nn.functional.cross_entropy(head(bank[there]), targets[there])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                int((head(queries).argmax(1) == goal).sum())

    works = {
        "one rate": train(RATES[4:5], 0.1),
        "eight rates": train(RATES, 0.1),
        "one rate, nothing held out (one classifier)": train(RATES[4:5], 0.0),
        "plain torch, one classifier": plain,
    }
    if not given.only_logistic:
        for name in ("one rate", "plain torch, one classifier"):
            works[name]()  # threads and memory are there
        times = in_turns(works, given.repeats, device)
        show(times, "one rate")
        own, plain_times = (np.array(times[name]) for name in tuple(works)[2:])
        print(f"one rate, nothing held out: {np.median(own / plain_times):.2f} x plain torch")
    if given.no_logistic:
        return
    from sklearn.linear_model import LogisticRegression

    print()
    # scikit-learn's tolerance is of the gradient's largest entry, ours of its norm beside the data term's: the default of each, and
    # scikit-learn's at which it comes as near to the minimum as ours does.
    peers = {"scikit-learn's default": LogisticRegression(C=0.001, max_iter=1000)}
    peers["scikit-learn, tol=1e-7"] = LogisticRegression(C=0.001, max_iter=1000, tol=1e-7)
    found: dict[str, LogisticFit] = {}

    def ours() -> None:
        found["ours"] = fit_logistic_regression(bank, labels, c=0.001, num_classes=given.classes)

    works = {"logistic regression": ours}
    for name, peer in peers.items():
        works[name] = lambda peer=peer: peer.fit(features.astype(np.float64), labels)  # type: ignore[misc]
    show(in_turns(works, given.repeats, device), "logistic regression")
    mine = found["ours"].outputs(queries).argmax(1).numpy()
    fit, right = found["ours"], 100 * (mine == truth).mean()
    print(f"ours: {fit.iterations} Newton steps, relative gradient {fit.relative_gradient:.1e}, right {right:.2f} %")
    for name, peer in peers.items():
        hers = peer.predict(tests.astype(np.float64))
        apart = np.linalg.norm(fit.weight - peer.coef_) / np.linalg.norm(peer.coef_)
        same = 100 * (mine == hers).mean()
        print(f"{name}: {peer.n_iter_[0]} iterations, weights {apart:.1e} of their length from ours, same answers {same:.2f} %")


if __name__ == "__main__":
    main()
