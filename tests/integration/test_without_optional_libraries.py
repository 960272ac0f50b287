"""What runs where faiss, detectron2, omegaconf and msgspec are not installed, as on a bare GPU machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Whoever imports one of these, or asks for it, finds that it is not installed.
BLOCK = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""
ALWAYS = ["faiss", "detectron2", "fvcore", "pycocotools", "yacs", "hydra", "msgspec", "matplotlib", "tensorboard", "wandb", "onnx", "umap"]

PARTS = """
import json, torch
from evaluation.clustering import hierarchical_kmeans, kmeans
from evaluation.extraction.features import extract_features
from evaluation.tasks.knn.votes import evaluate_knn
from evaluation.tasks.linear.logistic import fit_logistic_regression
from evaluation.tasks.linear.training import train_linear
from pretrain.methods import METHODS, RunFacts
from pretrain.methods.base import Place
from pretrain.survey import BoxMaker, NeighbourMaker, PrototypeMaker, Survey
from zoo.backbones import create_backbone

found = {}
torch.manual_seed(0)
views, index = [torch.randn(8, 3, 32, 32) for _ in range(4)], torch.arange(8)
facts = RunFacts(images=64, batch=8, seed=0, steps=80)
values = {"moco": {"queue": 32}, "hcsc": {"queue": 32, "levels": [6, 3]}, "csml": {"queue": 32, "refresh_epochs": 1, "cross_epochs": 1}}
for name, kind in METHODS.items():
    method = kind(lambda: create_backbone("test_resnet", image_size=32), kind.Settings(**values.get(name, {})), facts).train()
    method.start_step(0)
    settings = kind.Settings(**values.get(name, {}))
    losses = method(views[: len(kind.views(settings, 32))], index, Place(0))
    loss = torch.stack(list(losses.values())).sum()
    loss.backward()
    method.finish_step()
    found[name] = float(loss)
labels = torch.arange(300) % 3
points = torch.eye(3)[labels] * 5 + torch.randn(300, 3)
found["knn"] = evaluate_knn(points[:200], labels[:200], points[200:], labels[200:], k=[5]).scores[5].top1
found["k-means"] = kmeans(points, 3, seed=0).objective
found["levels"] = list(hierarchical_kmeans(points, [6, 3]).levels)
found["linear"] = train_linear(points[:200], labels[:200], points[200:], labels[200:], preset="moco", seed=0).last.correct
found["logistic"] = bool(fit_logistic_regression(points, labels).converged)
print(json.dumps(found))
"""

RUN = """
import json, sys
from pathlib import Path
from pretrain.loop import train
from pretrain.recipes import load_recipe
from zoo.model_spec import open_model

settings = ["data=shapes:train=64,test=20,size=16", "backbone=test_resnet", "batch=16", "epochs=1", "views.size=16", "method.queue=16",
            "method.levels=[6,3]", "method.warmup_epochs=0", "trackers=[]", "knn.every_epochs=1", "device=cpu", "threads=1", "workers=0",
            "bn_splits=1"]
outcome = train(load_recipe("hcsc_shapes", settings), Path(sys.argv[1]))
print(json.dumps({"steps": outcome.step, "arch": open_model(sys.argv[1]).arch}))
"""


def run(code: str, absent: list[str], *arguments: str) -> dict[str, object]:
    program = f"ABSENT = {absent!r}\n{BLOCK}\n{code}"
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_what_is_blocked_is_not_found() -> None:
    with pytest.raises(AssertionError, match="No module named 'omegaconf'"):
        run("import omegaconf", ["omegaconf"])


def test_steps_knn_kmeans_and_classifiers_need_none_of_them() -> None:
    found = run(PARTS, [*ALWAYS, "omegaconf", "antlr4"])
    assert {"moco", "hcsc", "csml", "simclr", "byol", "simsiam"} < found.keys()
    assert found["knn"] > 95  # type: ignore[operator]
    assert 600 < found["k-means"] < 1200  # type: ignore[operator]  # 300 points, three dimensions of unit variance
    assert found["levels"] == [6, 3]
    assert found["linear"] > 95  # type: ignore[operator]
    assert found["logistic"] is True


def test_a_run_needs_recipes_library_alone(tmp_path: Path) -> None:
    assert run(RUN, ALWAYS, str(tmp_path / "run")) == {"steps": 4, "arch": "test_resnet"}
