"""Two processes: they train as one does, and clusters, support vector machines and outputs are those of one, also for few images."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from noise_training import TARGETS, Source, course, groups, measure, network, train
from small_network import TRANSFORM, Network, in_memory, pictures
from torch import multiprocessing

from evaluation.parallel import Processes, stop_processes
from evaluation.tasks.cluster.evaluate import evaluate_clustering
from evaluation.tasks.runtime import Runtime
from evaluation.tasks.voc07.svm import SvmSettings, evaluate_low_shot, evaluate_svm, own_negatives
from evaluation.training.supervised import Place, train_supervised
from zoo.data.base import Level, MultiLabel
from zoo.errors import UserError

NAMES = tuple("abcde")


def marks(count: int) -> MultiLabel:
    values = np.full((count, len(NAMES)), -1, dtype=np.int8)
    values[np.arange(count), np.arange(count) % len(NAMES)] = 1
    return MultiLabel(values, NAMES)


def everything() -> dict[str, list[float]]:
    """Numbers of each kind, by this process alone or together with the others of its group."""
    found: dict[str, list[float]] = {}
    runtime = Runtime(batch_size=2, processes=Processes.current())
    for count in (1, 7, 8, 9):
        outputs = runtime.outputs(Network(), in_memory(pictures(count)), TRANSFORM)
        found[f"outputs of {count}"] = outputs.flatten().tolist()
        levels = {"class": Level(np.arange(count) % 3, ("x", "y", "z"))}
        clusters = evaluate_clustering(outputs, levels, clusters=[min(3, count)], processes=runtime.processes)[min(3, count)]
        scores = clusters.scores["class"]
        found[f"clusters of {count}"] = [*clusters.assignment.tolist(), scores.ami, scores.nmi, float(scores.matched or 0)]
    features = np.random.default_rng(0).normal(size=(60, 6)) + 2 * np.eye(5, 6)[np.arange(60) % 5]
    arrays = (features[:40], marks(40), features[40:], marks(20))
    machines = evaluate_svm(*arrays, SvmSettings((0.1, 1.0)), processes=runtime.processes)
    found["machines"] = [*machines.area.tolist(), *machines.eleven_point.tolist(), *machines.costs]
    few = evaluate_low_shot(*arrays, SvmSettings((0.1, 1.0)), shots=2, draw=own_negatives, draws=2, processes=runtime.processes)
    found["few"] = few.area.flatten().tolist()
    return found


def _threads() -> list[str]:
    """Names of this process's threads, torch's own included; none where the system does not tell."""
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").glob("*")]


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    port = Path(folder, "port").read_text()
    own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update(own)
    for norm in (False, True):
        model, place = network(norm=norm), Place(device="cpu", folder=Path(folder, f"{norm}"))
        history = train_supervised(model, Source(rank, 2), TARGETS, course(), groups(model), measure=measure, place=place)
        torch.save((model.state_dict(), history.epochs, history.batch_norm), f"{folder}/{norm}-{rank}.pt")
    torch.save(everything(), f"{folder}/everything-{rank}.pt")
    with_group = _threads()
    stop_processes()
    Path(folder, f"threads-{rank}.json").write_text(json.dumps([with_group, _threads()]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    multiprocessing.spawn(_work, (str(folder),), nprocs=2)
    return folder


def test_two_processes_train_as_one(folder: Path) -> None:
    alone = network(norm=False)
    history = train(alone)
    for rank in range(2):
        state, epochs, _ = torch.load(folder / f"False-{rank}.pt", weights_only=True)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(state[name], value)
        assert [epoch["loss"] for epoch in epochs] == pytest.approx([epoch["loss"] for epoch in history.epochs], rel=1e-4)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed in /proc, which only Linux has")
def test_no_thread_of_the_group_is_left_when_it_is_stopped(folder: Path) -> None:
    """One that runs into the interpreter's end may abort the process. Rank 0 serves the store as well."""
    for rank in range(2):
        with_group, after = json.loads((folder / f"threads-{rank}.json").read_text())
        assert {name for name in with_group if name.startswith(("gloo", "pt_"))} >= {"gloo_tcp_loop", "pt_gloo_runloop"}
        assert [name for name in after if name.startswith(("gloo", "pt_"))] == []
    assert "pt_tcpstore_uv" in json.loads((folder / "threads-0.json").read_text())[0]


def test_with_batch_norm_each_has_its_own_and_that_is_said(folder: Path) -> None:
    states = [torch.load(folder / f"True-{rank}.pt", weights_only=True) for rank in range(2)]
    assert [text for _, _, text in states] == ["per process"] * 2
    # The statistics that are tested with are the first one's in both.
    for name, value in states[0][0].items():
        assert torch.equal(states[1][0][name], value), name
    assert states[0][1] == states[1][1]


def test_a_training_of_two_processes_does_not_go_on_in_one(folder: Path) -> None:
    with pytest.raises(UserError, match="begun by 2 processes and cannot go on with 1"):
        train(network(), Place(device="cpu", folder=folder / "True"))


@pytest.mark.usefixtures("one_thread")
def test_two_processes_find_what_one_finds(folder: Path) -> None:
    alone = everything()
    for rank in range(2):
        together = torch.load(folder / f"everything-{rank}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        for name, numbers in alone.items():
            if name.startswith("clusters"):  # sums over processes may be rounded another way, clusters are the same
                np.testing.assert_allclose(together[name], numbers, rtol=1e-6)
            else:
                assert together[name] == numbers, name
