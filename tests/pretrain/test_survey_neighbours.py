"""CsMl in the loop: searches, the log, resumed runs, one survey for all tables, and that without its parts it is MoCo v2."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_files import losses, tables_at

from evaluation.parallel import ALONE
from evaluation.training.log import read_log
from evaluation.views.tables import BOXES, NEIGHBOURS
from pretrain.loop import train
from pretrain.methods import CsMl, RunFacts
from pretrain.methods.csml import CsMlSettings
from pretrain.recipes import load_recipe, resume_recipe
from pretrain.settings import BoxLook, BoxSettings
from pretrain.survey import BoxMaker, NeighbourMaker, Survey
from pretrain.survey.boxes import extract_boxes, heat_maps, of_whole_images
from pretrain.survey.encoder_pass import Outputs, run_pass
from pretrain.survey.neighbours import neighbour_statistics
from zoo.backbones import create_backbone
from zoo.data import FileImages, open_data
from zoo.errors import UserError
from zoo.models.runs import checkpoints, latest_checkpoint, read_checkpoint, read_recipe
from zoo.models.transforms import EvalTransform

DATA = "shapes:train=40,test=30"
TINY = f"""
data: {DATA}
backbone: resnet10_small
method: {{name: csml, queue: 32, dim: 16, momentum: 0.9, refresh_epochs: 2, cross_epochs: 1, level4: patch}}
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
ALL_TABLES = [
    "method.prototypes=true",
    "method.instance_selection=true",
    "method.levels=[9,6,4]",
    "method.warmup_epochs=1",
    "views.crop=contrastive_crop",
    "boxes.warmup_epochs=1",
    "boxes.every_epochs=2",
    "boxes.threshold=0.4",
]


def make_method(**settings: object) -> CsMl:
    chosen = {"dim": 16, "queue": 32, "refresh_epochs": 2, "cross_epochs": 1, **settings}
    facts = RunFacts(images=40, batch=8, seed=0, steps=15)
    return CsMl(lambda: create_backbone("resnet10_small", image_size=16), replace(CsMlSettings(), **chosen), facts)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- the table


def seen_of(features: torch.Tensor, start: int = 0) -> Outputs:
    rows = slice(start, start + len(features))
    return Outputs(rows, torch.empty(0), features, torch.empty(0), torch.empty(0))


def test_the_table_equals_brute_force_and_never_names_the_image_itself() -> None:
    """1,000 vectors of various lengths, some of them twice: the cosine decides, in float64."""
    features = torch.randn(1000, 24, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 1001)[:, None]
    features[500:520] = features[:20]
    maker = NeighbourMaker(5, 3, device=torch.device("cpu"), labels={"class": np.arange(1000) % 7})
    maker.start(1000)
    for start in range(0, 1000, 256):
        maker.update(seen_of(features[start : start + 256], start))
    tables, numbers, text = maker.finish(ALONE)
    table = tables[NEIGHBOURS]
    unit = features.double().numpy() / np.linalg.norm(features.double().numpy(), axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    best = -np.sort(-cosine, axis=1)[:, :5]
    assert table.dtype == np.int64
    assert (table != np.arange(1000)[:, None]).all()
    np.testing.assert_allclose(np.take_along_axis(cosine, table, 1), best, atol=1e-6)
    assert all(len(set(row)) == 5 for row in table.tolist())
    assert table[:20, 0].tolist() == list(range(500, 520))
    assert table[500:520, 0].tolist() == list(range(20))
    same = np.mean([[truth % 7 == row % 7 for truth in found] for row, found in enumerate(table)])
    assert numbers["neighbours/purity_class"] == pytest.approx(same)
    assert numbers["neighbours/similarity"] == pytest.approx(np.take_along_axis(cosine, table, 1).mean(), rel=1e-5)
    assert text.startswith("5 neighbours of each image, mean cosine 0.")
    assert f"of the same 'class' {100 * same:.1f} %" in text
    assert [epoch for epoch in range(10) if maker.due(epoch)] == [0, 3, 6, 9]


def test_statistics_by_hand() -> None:
    table = np.array([[1, 2], [0, 2], [1, 0], [1, 0]])
    numbers = neighbour_statistics(table, np.array([[1.0, 0.5]] * 4, dtype=np.float32), {"a": np.array([0, 0, 1, 1]), "b": np.zeros(4)})
    assert numbers == {"neighbours/similarity": 0.75, "neighbours/named": 0.75, "neighbours/purity_a": 2 / 8, "neighbours/purity_b": 1.0}


def test_features_that_are_not_finite_are_refused() -> None:
    maker = NeighbourMaker(2, 1, device=torch.device("cpu"), labels={})
    maker.start(4)
    maker.update(seen_of(torch.tensor([[1.0], [2.0], [float("nan")], [3.0]])))
    with pytest.raises(UserError, match="features are not finite, so no neighbours can be found"):
        maker.finish(ALONE)


# ---------------------------------------------------------------------- the loop


@pytest.mark.usefixtures("one_thread")  # as the run
def test_neighbours_are_those_of_the_key_encoder_at_that_moment(run: Path) -> None:
    """The first before the first step, then every second epoch; by the pooled features of the average, in eval mode."""
    data, method = open_data(DATA), make_method(level4="patch")
    method.load_state_dict(read_checkpoint(run / "checkpoints" / "step_00000010.pt")["model"])
    images = data.role("pretrain")
    survey = Survey(
        images, method.makers(images), size=16, native=data.image_size, mean=data.mean, std=data.std, device=torch.device("cpu")
    )
    assert [survey.due(epoch) for epoch in range(5)] == [True, False, True, False, True]
    table = survey(2, method.named_encoder).tables[NEIGHBOURS]
    assert np.array_equal(table, tables_at(run, 15)[NEIGHBOURS].numpy())
    assert torch.equal(tables_at(run, 2)[NEIGHBOURS], tables_at(run, 10)[NEIGHBOURS])
    assert not torch.equal(tables_at(run, 10)[NEIGHBOURS], tables_at(run, 15)[NEIGHBOURS])
    # By hand, from pixels on.
    method.eval()
    cut = EvalTransform(18, 16, "bilinear", mean=data.mean, std=data.std)
    assert images.pixels is not None
    with torch.no_grad():
        features = method.encoder_k.backbone(cut.from_pixels(images.pixels))
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    expected = (unit @ unit.T).fill_diagonal_(-torch.inf).topk(5).indices
    assert np.array_equal(np.sort(table, axis=1), np.sort(expected.numpy(), axis=1))


def test_the_log_has_the_purity_of_every_label_level(run: Path) -> None:
    rows = read_log(run / "log.jsonl")
    names = {"neighbours/similarity", "neighbours/named", *(f"neighbours/purity_{name}" for name in ("superclass", "class", "variant"))}
    assert [names <= row.keys() for row in rows] == [step in (0, 10) for step in range(15)]
    truth = open_data(DATA).role("pretrain").levels["class"].labels
    table = tables_at(run, 15)[NEIGHBOURS].numpy()
    assert rows[10]["neighbours/purity_class"] == pytest.approx((truth[table] == truth[:, None]).mean())
    assert all({"loss/contrastive", "loss/neighbour", "loss/mixed", "loss/level4"} <= row.keys() for row in rows)


def test_without_its_parts_it_is_moco(tmp_path: Path, recipe_file: Path) -> None:
    recipe_file.with_name("moco.yaml").write_text(
        TINY.replace("csml", "moco").replace(", refresh_epochs: 2, cross_epochs: 1, level4: patch", "")
    )
    train(load_recipe(str(recipe_file.with_name("moco.yaml"))), tmp_path / "moco")
    # Unquoted, YAML reads the word off as false.
    train(load_recipe(str(recipe_file), ["method.neighbours=false", "method.level4=off"]), tmp_path / "off")
    assert losses(tmp_path / "off") == losses(tmp_path / "moco")
    states = [read_checkpoint(latest_checkpoint(tmp_path / name)) for name in ("off", "moco")]
    assert states[0]["tables"] == {}
    assert states[0]["model"].keys() == states[1]["model"].keys()
    assert all(torch.equal(states[0]["model"][name], value) for name, value in states[1]["model"].items())


def test_local_views_and_files_with_any_number_of_workers(tmp_path: Path, recipe_file: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(16):
        Image.fromarray(rng.integers(0, 256, (*rng.integers(18, 50, 2), 3), dtype=np.uint8)).save(folder / f"{number:02}.png")
    outcomes = []
    for workers in (0, 2):
        words = [f"data=folder:{folder}", f"workers={workers}", "method.local_views=true", "method.k=3", "method.queue=16"]
        train(load_recipe(str(recipe_file), words), tmp_path / f"run{workers}")
        outcomes.append(losses(tmp_path / f"run{workers}"))
        assert all("loss/local_contrastive" in row for row in read_log(tmp_path / f"run{workers}" / "log.jsonl"))
    assert outcomes[0] == outcomes[1]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, recipe_file: Path) -> Path:
    """With prototypes, selected negatives and boxes."""
    folder = tmp_path_factory.mktemp("runs") / "everything"
    train(load_recipe(str(recipe_file), ALL_TABLES), folder)
    return folder


@pytest.mark.parametrize(("which", "step"), [("run", 4), ("run", 10), ("everything", 12)])
def test_a_resumed_run_goes_on_with_its_neighbours_and_both_queues(
    tmp_path: Path, which: str, step: int, request: pytest.FixtureRequest
) -> None:
    whole, broken = request.getfixturevalue(which), tmp_path / "broken"
    shutil.copytree(whole, broken)
    for path in checkpoints(broken):
        if int(path.stem.split("_")[1]) > step:
            path.unlink()
    train(resume_recipe(read_recipe(broken), []), broken, resume=True)
    assert losses(broken) == losses(whole)
    states = [read_checkpoint(latest_checkpoint(path)) for path in (broken, whole)]
    assert {"queue.keys", "level_queue.keys", "level_queue.position"} < states[1]["model"].keys()
    for part in ("model", "tables"):
        assert states[0][part].keys() == states[1][part].keys()
        assert all(torch.equal(states[0][part][name], value) for name, value in states[1][part].items())


def test_all_tables_are_in_the_log_and_the_checkpoint(everything: Path) -> None:
    rows = read_log(everything / "log.jsonl")
    found = [{name for name in ("neighbours/similarity", "prototypes/0/dropped", "boxes/area") if name in row} for row in rows]
    # Neighbours at epochs 0 and 2, prototypes at 1 and 2, boxes at 2.
    assert [len(names) for names in found] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 3, 0, 0, 0, 0]
    assert all(("loss/prototype" in row) == (row["step"] >= STEPS_PER_EPOCH) for row in rows)
    tables = read_checkpoint(latest_checkpoint(everything))["tables"]
    assert {NEIGHBOURS, BOXES, "prototypes.centroids.0"} < tables.keys()


@pytest.mark.parametrize(("shared", "looks"), [(True, [("k", 2)]), (False, [("k", 2), ("q", 2)])])
def test_one_survey_makes_all_tables_and_decodes_each_image_once(tmp_path: Path, shared: bool, looks: list[tuple[str, int]]) -> None:
    """300 images in two batches: a forward pass for each look and batch; with ``boxes.look=shared`` there is one look."""
    rng = np.random.default_rng(0)
    for number in range(300):
        Image.fromarray(rng.integers(0, 256, (20, 26, 3), dtype=np.uint8)).save(tmp_path / f"{number:03}.png")
    images = open_data(f"folder:{tmp_path}").role("pretrain")
    assert isinstance(images, FileImages)
    reads: list[int] = []
    decode = images.decode
    images.decode = lambda index: (reads.append(index), decode(index))[1]  # type: ignore[method-assign]
    facts = RunFacts(images=300, batch=8, seed=0, steps=15)
    settings = CsMlSettings(
        dim=8, queue=8, refresh_epochs=1, cross_epochs=0, warmup_epochs=0, prototypes=True, levels=[9, 6], instance_selection=True
    )
    method = CsMl(lambda: create_backbone("resnet10_small", image_size=16), settings, facts)
    forwards: list[str] = []
    for name in ("q", "k"):
        backbone = getattr(method, f"encoder_{name}").backbone
        backbone.layer1.register_forward_hook(lambda *_, name=name: forwards.append(name))
    boxes = BoxSettings(1, 1, threshold=0.5, look=BoxLook.shared if shared else BoxLook.whole)
    makers = [*method.makers(images), BoxMaker(boxes, 16)]
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    survey = Survey(images, makers, size=16, native=None, mean=mean, std=std, device=torch.device("cpu"), workers=0)
    tables = survey(1, method.named_encoder).tables
    assert {NEIGHBOURS, BOXES, "prototypes.centroids.0"} < tables.keys()
    assert sorted(reads) == list(range(300))
    assert sorted((name, forwards.count(name)) for name in set(forwards)) == looks


# ---------------------------------------------------------------------- boxes by the shared look


def test_boxes_of_centre_crops_lie_in_the_whole_image() -> None:
    """By hand: 40 x 60 pixels, short side to 20, so 20 x 30; the central 16 x 16 begin at row 2, column 7."""
    cut = EvalTransform(20, 16, "bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert cut.place(40, 60) == ((20, 30), (2, 7))
    boxes = torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 1.0, 1.0]])
    found = of_whole_images(boxes, torch.tensor([[40, 60], [60, 40]]), cut)
    assert found[0].tolist() == pytest.approx([(2 + 4) / 20, (7 + 8) / 30, (2 + 12) / 20, (7 + 16) / 30])
    assert found[1].tolist() == pytest.approx([7 / 30, 2 / 20, 23 / 30, 18 / 20])
    # Where the crop is the whole image, nothing changes.
    whole = EvalTransform(16, 16, "bilinear", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert torch.equal(of_whole_images(boxes, torch.tensor([[16, 16], [16, 16]]), whole), boxes)


def test_the_shared_look_gives_the_key_encoders_boxes_of_the_centre() -> None:
    data, method = open_data("shapes:train=12,test=2,size=24"), make_method()
    images = data.role("pretrain")
    assert images.pixels is not None
    with torch.no_grad():
        for parameter in method.encoder_k.parameters():
            parameter.mul_(1.2)
    maker = BoxMaker(BoxSettings(1, 1, threshold=0.5, look=BoxLook.shared), 16, native=24)
    survey = Survey(images, [maker], size=16, native=24, mean=data.mean, std=data.std, device=torch.device("cpu"))
    findings = survey(1, method.named_encoder)
    cut = EvalTransform(18, 16, "bilinear", mean=data.mean, std=data.std)
    method.eval()
    maps = run_pass(method.encoder_k, cut.from_pixels(images.pixels)).maps
    boxes, located = extract_boxes(heat_maps(maps), 16, threshold=0.5)
    assert located.all()
    expected = (1 + 16 * boxes) / 18  # 24 pixels to 18, the crop begins at 1
    assert np.allclose(findings.tables[BOXES], expected.numpy(), atol=1e-6)
    assert findings.numbers["boxes/area"] < (17 / 18) ** 2
    # What was not located has the whole image, not the centre.
    maker.start(2)
    flat = Outputs(slice(0, 2), torch.ones(2, 3, 4, 4), torch.empty(0), torch.empty(0), torch.tensor([[24, 24]] * 2))
    maker.update(flat)
    assert maker.finish(ALONE)[0][BOXES].tolist() == [[0, 0, 1, 1]] * 2


def test_the_shared_look_needs_a_key_encoder(tmp_path: Path, recipe_file: Path) -> None:
    words = ["method={name: simclr}", "views.crop=contrastive_crop", "boxes.look=shared"]
    with pytest.raises(
        UserError, match=r"boxes.look=shared takes the key encoder's pass, and simclr has no key encoder; use boxes.look=whole"
    ):
        train(load_recipe(str(recipe_file), words), tmp_path / "run")


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method.k=40"], r"method.k=40 neighbours of each of 40 images: .* use for example method.k=5"),
        (["backbone=test_vit"], r"method.level4 needs a backbone .* 'test_vit' has none; take .*resnet50, or method.level4=off"),
        (["views.size=8"], r"method.level4=patch: the map has 2x2 cells, and patches need 4x4"),
        (["method.window=5"], r"method.window=5 does not fit into the map of 4x4 cells; use for example 2"),
        (
            ["method.local_views=true", "method.level4=off", "backbone=test_vit", "views.size=32", "data=shapes:train=40,test=4,size=32"],
            r"views of several sizes \(14, 18, 23, 27, 32 px\) need a backbone that takes any, such as resnet50",
        ),
        (["method.level4=sometimes"], r"expected one of \[off, global, patch\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path, recipe_file: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        train(load_recipe(str(recipe_file), words), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
