"""HCSC in the loop: its surveys, what they find, the log, resumed runs, and that without its parts it is MoCo v2."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from run_files import losses, tables_at
from sklearn.metrics import adjusted_mutual_info_score

from evaluation.clustering import Hierarchy, hierarchical_kmeans
from evaluation.training.log import read_log
from pretrain.loop import train
from pretrain.methods import HCSC, RunFacts
from pretrain.methods.hcsc import HCSCSettings
from pretrain.methods.selection import dropped_share
from pretrain.recipes import load_recipe, resume_recipe
from pretrain.survey import Survey, hierarchy_of
from zoo.backbones import create_backbone
from zoo.data import open_data
from zoo.errors import UserError
from zoo.models.runs import checkpoints, latest_checkpoint, read_checkpoint, read_recipe

DATA = "shapes:train=40,test=30"
TINY = f"""
data: {DATA}
backbone: resnet10_small
method: {{name: hcsc, queue: 32, dim: 16, momentum: 0.9, levels: [9, 6, 4], warmup_epochs: 1}}
views: {{size: 16, blur: 0.0}}
batch: 8
epochs: 3
optimizer: {{lr: 0.05}}
threads: 1
device: cpu
trackers: []
knn: {{every_epochs: 0}}
checkpoint: {{every_epochs: 1, every_steps: 2, keep: 99}}
"""
STEPS_PER_EPOCH = 5


@pytest.fixture(scope="module")
def moco(tmp_path_factory: pytest.TempPathFactory, recipe_file: Path) -> list[float]:
    """Losses of MoCo v2 by the same recipe."""
    folder = tmp_path_factory.mktemp("runs") / "moco"
    recipe_file.with_name("moco.yaml").write_text(TINY.replace("hcsc", "moco").replace(", levels: [9, 6, 4], warmup_epochs: 1", ""))
    train(load_recipe(str(recipe_file.with_name("moco.yaml"))), folder)
    return losses(folder)


def test_without_its_parts_and_in_the_warmup_it_is_moco(tmp_path: Path, recipe_file: Path, run: Path, moco: list[float]) -> None:
    assert losses(run)[:STEPS_PER_EPOCH] == moco[:STEPS_PER_EPOCH]
    assert losses(run)[STEPS_PER_EPOCH] != moco[STEPS_PER_EPOCH]
    off = [f"method.{name}=false" for name in ("instance_selection", "prototype_selection", "prototypes")]
    train(load_recipe(str(recipe_file), off), tmp_path / "off")
    assert losses(tmp_path / "off") == moco
    state = read_checkpoint(latest_checkpoint(tmp_path / "off"))
    assert state["tables"] == {}
    assert not any("survey_seconds" in row for row in read_log(tmp_path / "off" / "log.jsonl"))
    train(load_recipe(str(recipe_file), ["method.warmup_epochs=3"]), tmp_path / "warm")
    assert losses(tmp_path / "warm") == moco


@pytest.mark.usefixtures("one_thread")  # as the run
def test_prototypes_are_those_of_the_key_encoder_at_that_moment(run: Path) -> None:
    data = open_data(DATA)
    method = HCSC(
        lambda: create_backbone("resnet10_small", image_size=16),
        HCSCSettings(dim=16, queue=32, levels=[9, 6, 4], warmup_epochs=1),
        RunFacts(images=40, batch=8, seed=0, steps=15),
    )
    method.load_state_dict(read_checkpoint(run / "checkpoints" / "step_00000010.pt")["model"])
    images = data.role("pretrain")
    survey = Survey(
        images, method.makers(images), size=16, native=data.image_size, mean=data.mean, std=data.std, device=torch.device("cpu")
    )
    assert [survey.due(epoch) for epoch in range(4)] == [False, True, True, True]
    findings = survey(2, method.named_encoder)
    last = tables_at(run, 15)
    assert findings.tables.keys() == last.keys()
    assert all(np.array_equal(findings.tables[name], table.numpy()) for name, table in last.items())
    assert tables_at(run, 4) == {}
    assert not torch.equal(tables_at(run, 10)["prototypes.centroids.0"], last["prototypes.centroids.0"])

    # And what that survey sees is clustered: nothing comes between.
    embeddings = []
    for maker in method.makers(images):
        update = maker.update
        maker.update = lambda outputs, update=update: (embeddings.append(outputs.embedding), update(outputs))[1]  # type: ignore[method-assign]
        Survey(images, [maker], size=16, native=data.image_size, mean=data.mean, std=data.std, device=torch.device("cpu"))(
            2, method.named_encoder
        )
    expected = hierarchical_kmeans(torch.cat(embeddings), (9, 6, 4), 0.2, seed=0)
    found = hierarchy_of(findings.tables)
    assert isinstance(found, Hierarchy)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name

    # The log's row after it, of the key encoder and the queue at that moment.
    row = read_log(run / "log.jsonl")[10]
    for level, assignment in enumerate(expected.assignments):
        sizes = np.bincount(assignment.numpy(), minlength=(9, 6, 4)[level])
        prefix = f"prototypes/{level}"
        assert (row[f"{prefix}/images_min"], row[f"{prefix}/images_max"]) == (sizes.min(), sizes.max())
        assert row[f"{prefix}/images_median"] == np.median(sizes)
        for name, truth in images.levels.items():
            assert row[f"{prefix}/ami_{name}"] == pytest.approx(adjusted_mutual_info_score(truth.labels, assignment.numpy()))
            best = sum(np.bincount(truth.labels[assignment.numpy() == cluster]).max() for cluster in np.unique(assignment.numpy()))
            assert row[f"{prefix}/purity_{name}"] == pytest.approx(best / 40)
        dropped = dropped_share(method.queue.keys, expected.centroids[level], expected.densities[level], assignment)
        assert row[f"{prefix}/dropped"] == pytest.approx(dropped)
    assert {"loss/contrastive", "loss/prototype"} <= row.keys()
    assert len(images.levels) == 3
    assert [r["step"] for r in read_log(run / "log.jsonl") if "prototypes/0/dropped" in r] == [5, 10]


@pytest.mark.parametrize("step", [4, 8, 10])
def test_a_resumed_run_goes_on_with_its_prototypes(tmp_path: Path, run: Path, step: int) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    for path in checkpoints(broken):
        if int(path.stem.split("_")[1]) > step:
            path.unlink()
    train(resume_recipe(read_recipe(broken), []), broken, resume=True)
    assert losses(broken) == losses(run)
    state, expected = read_checkpoint(latest_checkpoint(broken)), read_checkpoint(latest_checkpoint(run))
    assert all(torch.equal(state["model"][key], value) for key, value in expected["model"].items())
    assert all(torch.equal(state["tables"][key], value) for key, value in expected["tables"].items())


def test_multi_crop_and_boxes_from_the_same_survey(tmp_path: Path, recipe_file: Path) -> None:
    """Prototypes and boxes are made side by side; views follow boxes alone, the losses have all four names."""
    words = ["method.local_views=true", "views.crop=contrastive_crop", "boxes.warmup_epochs=1", "boxes.every_epochs=1", "epochs=2"]
    train(load_recipe(str(recipe_file), words), tmp_path / "both")
    rows = read_log(tmp_path / "both" / "log.jsonl")
    assert {"boxes/area", "prototypes/2/dropped"} <= rows[5].keys()
    assert {name for name in rows[4] if name.startswith("loss/")} == {"loss/contrastive", "loss/local_contrastive"}
    assert {name for name in rows[5] if name.startswith("loss/")} == {
        "loss/contrastive",
        "loss/local_contrastive",
        "loss/prototype",
        "loss/local_prototype",
    }
    assert {name.split(".")[0] for name in tables_at(tmp_path / "both", 10)} == {"boxes", "prototypes"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method.levels=[60,40,20]"], r"method.levels: there are 40 images for 60 clusters; .* such as levels 40, 26, 13"),
        (["method.queue=20"], r"method.queue=20 is not a multiple of batch=8; use for example method.queue=16"),
        (
            ["backbone=vit_tiny_patch16_224", "views.size=224", "method.local_views=true"],
            r"'vit_tiny_patch16_224' does not take images of 96 px .*\(96, 128, 160, 192, 224 px",
        ),
        (
            ["backbone=test_vit", "views.size=64", "method.local_views=true"],
            r"27, 37, 46, 55, 64 px\) need a backbone that takes any, such as resnet50: .* views.size=64 \(method.local_views=false\)",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path, recipe_file: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(load_recipe(str(recipe_file), words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_with_other_levels(run: Path) -> None:
    with pytest.raises(UserError, match=r"'method.levels' cannot be changed when a run is resumed"):
        resume_recipe(read_recipe(run), ["method.levels=[8,4,2]"])
