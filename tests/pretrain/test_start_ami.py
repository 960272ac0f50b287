"""A warm-up that ends when clusters last: ``method.start_ami``."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from method_cases import make_method, tables, views_of
from run_files import losses, tables_at
from sklearn.metrics import adjusted_mutual_info_score

from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.methods.base import Place
from pretrain.recipes import load_recipe, resume_recipe
from pretrain.survey.explain import warnings_of
from pretrain.survey.prototypes import PREFIX, STEERING
from zoo.errors import UserError
from zoo.models.runs import read_recipe

SETTINGS = [
    "data=shapes:train=192,test=24", "backbone=resnet10_small", "batch=32", "views.size=16", "views.blur=0", "epochs=4", "threads=1",
    "method.queue=64", "method.levels=[12,6,3]", "bn_splits=2", "knn.every_epochs=0", "device=cpu", "trackers=[]", "checkpoint.keep=9",
    "checkpoint.every_epochs=1",
]  # fmt: skip


def trained(run: Path, *settings: str) -> Path:
    train(load_recipe("hcsc_shapes", [*SETTINGS, *settings]), run)
    return run


def agreements(run: Path, epochs: int) -> list[float]:
    """AMI of the finest clusters of successive surveys, from the tables in the checkpoints at the epochs' ends."""
    tables = [tables_at(run, 6 * epoch) for epoch in range(1, epochs + 1)]
    finest = [table[f"{PREFIX}assignments.0"].numpy() for table in tables if f"{PREFIX}assignments.0" in table]
    return [float(adjusted_mutual_info_score(*pair)) for pair in pairwise(finest)]


def test_until_clusters_last_a_run_is_without_prototypes(tmp_path: Path) -> None:
    never = trained(tmp_path / "never", "method.start_ami=1.0")
    plain = trained(tmp_path / "plain", "method.instance_selection=false", "method.prototypes=false")
    assert losses(never) == losses(plain)
    # Surveys are made all the same, from the end of the first epoch on, and what they found is told.
    rows = [row for row in read_log(never / "log.jsonl") if "survey_seconds" in row]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["prototypes/steer"] for row in rows] == [0.0, 0.0, 0.0]
    assert [row["prototypes/0/ami_before"] for row in rows[1:]] == pytest.approx(agreements(never, 4), rel=1e-6)


def test_prototypes_steer_from_the_survey_on_that_agrees_with_the_one_before(tmp_path: Path) -> None:
    never = trained(tmp_path / "never", "method.start_ami=1.0")
    second, third = agreements(never, 4)
    # A bound that the second pair reaches, and the first pair too where it is the larger.
    run = trained(tmp_path / "run", f"method.start_ami={third}")
    first = 2 if second >= third else 3
    steers = [row["prototypes/steer"] for row in read_log(run / "log.jsonl") if "survey_seconds" in row]
    assert steers == [float(epoch >= first) for epoch in (1, 2, 3)]
    assert losses(run)[: 6 * first] == losses(never)[: 6 * first]
    assert losses(run)[6 * first] != losses(never)[6 * first]
    assert [name for name in read_log(run / "log.jsonl")[6 * first] if name == "loss/prototype"]


def test_a_run_that_is_gone_on_with_waits_as_it_did(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", "method.start_ami=0.0", "checkpoint.every_steps=3")
    for step in (9, 12, 15):
        broken = shutil.copytree(whole, tmp_path / f"broken_{step}")
        for path in (broken / "checkpoints").glob("step_*.pt"):
            if int(path.stem.partition("_")[2]) > step:
                path.unlink()
        train(resume_recipe(read_recipe(broken), []), broken, resume=True)
        assert losses(broken) == losses(whole)
    assert tables_at(whole, 9)[STEERING].tolist() == [0]
    assert tables_at(whole, 15)[STEERING].tolist() == [1]


def test_once_they_steer_they_go_on() -> None:
    method: Any = make_method("hcsc waiting")
    found = {name: table for name, table in tables().items() if name.startswith(PREFIX)}
    views, index, place = views_of(method, "hcsc waiting"), torch.arange(8), Place(3)
    assert set(method(views, index, place)) == {"contrastive"}
    method._new_keys.clear()
    method.receive({**found, STEERING: np.zeros(1, np.uint8)})
    assert set(method(views, index, place)) == {"contrastive"}
    method._new_keys.clear()
    method.receive({**found, STEERING: np.ones(1, np.uint8)})
    assert set(method(views, index, place)) == {"contrastive", "prototype"}


def test_no_warning_of_prototypes_that_wait() -> None:
    numbers = {"prototypes/0/ami_class": 0.01, "prototypes/0/rejected_class": 0.1, "prototypes/0/chance_class": 0.1}
    assert dict(warnings_of(numbers))
    assert not dict(warnings_of({**numbers, "prototypes/steer": 0.0}))


def test_what_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method.start_ami must be .*1.* not 1.5"):
        load_recipe("hcsc_shapes", [*SETTINGS, "method.start_ami=1.5"])
