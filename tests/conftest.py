"""Fixtures that several rooms need."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch and faiss read it, here and in the processes that tests start: on problems this small threads wait for each other, and two
# processes of tests (`make test`) have a core each. Another number can be set, such as OMP_NUM_THREADS=4.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from detection_layouts import as_coco, as_voc
from torch import Tensor, nn

from zoo.backbones import create_backbone
from zoo.models.runs import CHECKPOINT_FOLDER, CHECKPOINT_FORMAT, checkpoint_name
from zoo.results import DataFacts, Headline, ModelFacts, Result, SplitFacts

MakeRun = Callable[..., Path]
MakeResult = Callable[..., Result]
MakeBackbone = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def _threads_given_back() -> Iterator[None]:
    """A test that sets torch's number of threads sets it for itself alone."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for torch and faiss, as processes of a group have here: other numbers round sums otherwise, from processor to processor.

    For small problems it is the faster one, too.
    """
    # A machine with a GPU may lack faiss, and the tests of the GPU do without.
    faiss = importlib.import_module("faiss") if importlib.util.find_spec("faiss") else None
    before, before_of_faiss = torch.get_num_threads(), faiss.omp_get_max_threads() if faiss else 1
    torch.set_num_threads(1)
    if faiss:
        faiss.omp_set_num_threads(1)
    yield
    torch.set_num_threads(before)
    if faiss:
        faiss.omp_set_num_threads(before_of_faiss)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as in a pipe, whatever the test runner's processes say of their terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands under test keep features, and facts of images, in folders of this session, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKBONE_LOOP_CACHE", str(tmp_path_factory.mktemp("features")))
        patch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def _make_backbone(arch: str = "test_resnet", *, image_size: int = 32, seed: int = 0) -> nn.Module:
    """A backbone whose every tensor, batch-norm statistics included, has values of its own: no initial value can pass for a kept one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create_backbone(arch, image_size=image_size)
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = network.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(seed + 7)
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        else:
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


@pytest.fixture(scope="session")
def make_backbone() -> MakeBackbone:
    """Build a backbone in eval mode with random weights and statistics that depend on the seed."""
    return _make_backbone


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder as pre-training leaves it: two encoders with random weights and statistics, a queue, one checkpoint per step."""

    def make(
        name: str = "run",
        *,
        arch: str = "test_resnet",
        image_size: int = 32,
        steps: tuple[int, ...] = (10,),
        recipe_arch: str | None = None,
    ) -> Path:
        run = tmp_path / name
        (run / "checkpoints").mkdir(parents=True)
        (run / "recipe.yaml").write_text(
            f"backbone: {recipe_arch or arch}\ndata: cifar10:/somebody/data\nepochs: 4\nviews:\n  size: {image_size}\n"
            "init: /somebody/models/start\nlr: 0.03\nmethod:\n  name: moco\n  temperature: 0.2\n"
        )
        (run / "environment.json").write_text('{"commit": "abc1234", "versions": {"torch": "2.9"}, "host": "somebody.example"}')
        for step in steps:
            model = {"queue": torch.randn(4, 8)}
            for seed, prefix in enumerate(("encoder_q.", "encoder_k.")):
                backbone = _make_backbone(arch, image_size=image_size, seed=step + seed)
                model.update({prefix + key: tensor for key, tensor in backbone.state_dict().items()})
            checkpoint = {
                "format": CHECKPOINT_FORMAT,
                "step": step,
                "epoch": step // 5,
                "arch": arch,
                "image_size": image_size,
                "mean": [0.5, 0.4, 0.3],
                "std": [0.2, 0.25, 0.3],
                "data": "cifar10:/somebody/data",
                "model": model,
                "encoders": {"query": "encoder_q.", "key": "encoder_k."},
                "optimizer": {"state": {}, "param_groups": []},
            }
            torch.save(checkpoint, run / CHECKPOINT_FOLDER / checkpoint_name(step))
        return run

    return make


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """Build a kNN result of the weights with the hash given, with the paths of the machine it was measured on."""

    def make(tensors_sha256: str, *, value: float = 57.25, seed: int = 0, preset: str = "dino@32", changed: tuple[str, ...] = ()) -> Result:
        bank, test = SplitFacts("train", 3000, 0, "a" * 64), SplitFacts("test", 1000, 2, "b" * 64)
        return Result(
            task="knn",
            preset=preset,
            protocol={"k": [10, 20], "temperature": 0.07, "changed": list(changed)},
            headline=Headline("top1_k20", value),
            metrics={"top1_k10": value - 1, "top1_k20": value},
            counts={"correct_k20": 572},
            model=ModelFacts("run", "test_resnet", "run", tensors_sha256, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), spec="/somebody/runs/run"),
            data=DataFacts("cifar10:/somebody/data", "cifar10", "class", 10, {"train": bank, "test": test}),
            seeds={"sample": seed},
            versions={"torch": "2.9"},
            device="cpu",
            dtype="float32",
            processes=1,
            seconds={"features": 1.5},
            date="2026-11-21T10:00:00+00:00",
        )

    return make


@pytest.fixture(scope="session")
def voc_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`shapes` in VOC's layout: 8 training and 4 test pictures."""
    return as_voc(tmp_path_factory.mktemp("voc") / "shapes")


@pytest.fixture(scope="session")
def coco_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`shapes` in COCO's layout, with polygons: 8 training and 4 test pictures."""
    return as_coco(tmp_path_factory.mktemp("coco") / "shapes")
