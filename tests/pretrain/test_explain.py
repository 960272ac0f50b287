"""What a run says of itself at its surveys: hand-computed cases, and a run whose log has it all."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from method_cases import make_method, views_of
from sklearn.metrics import adjusted_mutual_info_score

from evaluation.clustering import hierarchical_kmeans
from evaluation.training.log import read_log
from pretrain.gradients import gradient_numbers
from pretrain.loop import train
from pretrain.methods.base import Place
from pretrain.recipes import load_recipe
from pretrain.survey.explain import cluster_changes, warnings_of
from pretrain.survey.prototypes import PREFIX
from pretrain.survey.rejection import rejection_numbers, rejection_precision


def hierarchy(seed: int, count: int = 200) -> dict[str, np.ndarray]:
    points = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    found = hierarchical_kmeans(torch.nn.functional.normalize(points, dim=1), (12, 5), seed=0)
    return {PREFIX + name: tensor.numpy() for name, tensor in found.state_dict().items()}


def test_precision_of_rejection_by_hand() -> None:
    kept = torch.tensor([[0.5, 1.0, 0.2], [1.0, 0.9, 0.4]])
    same = torch.tensor([[True, False, False], [False, True, True]])
    # Rejected: .5, (.001 is the caller's bound), .8 and 0, .1, .6; of the own class .5 + .1 + .6.
    precision, chance = rejection_precision(kept, same)
    assert precision == pytest.approx(1.2 / 2.0)
    assert chance == pytest.approx(0.5)


def test_a_query_is_no_negative_of_its_own() -> None:
    labels = {"class": np.array([0, 0, 1, 1])}
    queries, negatives = torch.tensor([0]), torch.arange(4)
    numbers = rejection_numbers([torch.tensor([[0.0, 0.5, 0.5, 1.0]])], queries, negatives, labels)
    assert numbers == {"prototypes/0/rejected_class": pytest.approx(0.5), "prototypes/0/chance_class": pytest.approx(0.25)}


def test_changes_of_clusters_are_scikit_learns_ami() -> None:
    before, after = hierarchy(0), hierarchy(1)
    found = cluster_changes(before, after)
    finest, parents = f"{PREFIX}assignments.0", f"{PREFIX}parents.0"
    coarse = [of[parents][of[finest]] for of in (before, after)]
    assert found == {
        "prototypes/0/ami_before": pytest.approx(adjusted_mutual_info_score(before[finest], after[finest])),
        "prototypes/1/ami_before": pytest.approx(adjusted_mutual_info_score(*coarse)),
    }
    assert cluster_changes(before, before) == {f"prototypes/{level}/ami_before": pytest.approx(1.0) for level in range(2)}
    assert cluster_changes({}, after) == {}


def test_warnings_are_about_prototypes_at_chance_and_boxes_that_are_none() -> None:
    numbers = {"prototypes/0/ami_class": 0.04, "prototypes/0/rejected_class": 0.12, "prototypes/0/chance_class": 0.1, "boxes/full": 0.97}
    said = dict(warnings_of(numbers, 2))
    assert set(said) == {"prototypes", "boxes"}
    assert "AMI with 'class' is 0.040, and 12.0 % of the rejected" in said["prototypes"]
    assert "negatives are of the query's own 'class', of all 10.0 %" in said["prototypes"]
    assert "method.warmup_epochs (now 2)" in said["prototypes"]
    assert "97 % of the boxes are the whole image" in said["boxes"]
    assert dict(warnings_of({**numbers, "prototypes/0/ami_class": 0.3, "boxes/full": 0.5})) == {}
    assert set(dict(warnings_of({**numbers, "prototypes/0/rejected_class": 0.4}))) == {"boxes"}


def test_gradients_are_autograds_and_leave_the_method_as_it_was() -> None:
    method = make_method("hcsc")
    views = views_of(method, "hcsc")
    index, place = torch.arange(8), Place(3)
    before = copy.deepcopy(method.state_dict())
    state = torch.get_rng_state()
    numbers = gradient_numbers(method, views, index, place, nullcontext())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    again = copy.deepcopy(method).train()
    losses = again(views, index, place)
    rows = {}
    for name, loss in losses.items():
        again.zero_grad()
        loss.backward(retain_graph=True)
        trained = [parameter for parameter in again.parameters() if parameter.requires_grad]
        rows[name] = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in trained])
    for name, row in rows.items():
        assert numbers[f"gradients/{name}"] == pytest.approx(float(row.norm()), rel=1e-4)
    names = list(rows)
    assert len(names) == 2
    cosine = torch.nn.functional.cosine_similarity(rows[names[0]], rows[names[1]], dim=0)
    assert numbers[f"gradients/{names[0]}.{names[1]}"] == pytest.approx(float(cosine), abs=1e-4)


def test_a_run_logs_it_all_and_warns_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [
        "data=shapes:train=192,test=24", "backbone=resnet10_small", "batch=32", "views.size=16", "views.blur=0", "epochs=4", "threads=1",
        "method.queue=64", "method.levels=[12,6,3]", "method.warmup_epochs=1", "bn_splits=2", "knn.every_epochs=0", "device=cpu",
        "trackers=[]",
    ]  # fmt: skip
    train(load_recipe("hcsc_shapes", settings), tmp_path / "run")
    rows = [row for row in read_log(tmp_path / "run" / "log.jsonl") if "survey_seconds" in row]
    assert len(rows) == 3
    assert "prototypes/0/ami_before" not in rows[0]
    for row in rows[1:]:
        assert -0.1 <= row["prototypes/0/ami_before"] <= 1
    for row in rows:
        assert 0 <= row["prototypes/0/rejected_class"] <= 1
        assert 0.05 < row["prototypes/0/chance_class"] < 0.3
        assert [name for name in row if name.startswith("gradients/")]
    said = capsys.readouterr()
    assert (said.out + said.err).count("the prototypes steer at chance") <= 1


@pytest.mark.parametrize(("splits", "warned"), [(1, True), (2, False)])
def test_batch_norm_that_can_leak_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str], splits: int, warned: bool) -> None:
    settings = [
        "data=shapes:train=64,test=24", "backbone=resnet10_small", "batch=16", "views.size=16", "views.blur=0", "epochs=1", "threads=1",
        "method.queue=32", f"bn_splits={splits}", "knn.every_epochs=0", "device=cpu", "trackers=[]",
    ]  # fmt: skip
    train(load_recipe("moco_shapes", settings), tmp_path / "run")
    said = capsys.readouterr()
    assert ("batch norm can leak" in said.out + said.err) == warned
