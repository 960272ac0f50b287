"""The survey in the loop: when it happens, what it sees, who follows its boxes, and what a resumed run makes of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_files import losses

from evaluation.training.log import read_log
from pretrain.cli import main
from pretrain.loop import train
from pretrain.methods import MoCo, RunFacts
from pretrain.methods.moco import MoCoSettings
from pretrain.pictures.boxes import boxes_of_run
from pretrain.recipes import load_recipe, resume_recipe
from pretrain.settings import BoxSettings
from pretrain.sizes import survey_interval
from pretrain.survey import BoxMaker, EncoderPass, Outputs, Survey
from pretrain.survey.boxes import locate
from zoo.backbones import create_backbone
from zoo.data import ArrayImages, FileImages, open_data
from zoo.errors import UserError
from zoo.model_spec import open_model
from zoo.models.runs import checkpoints, latest_checkpoint, read_checkpoint, read_recipe

TINY = """
data: shapes:train=40,test=30
backbone: resnet10_small
method: {name: moco, queue: 32, dim: 16, momentum: 0.9}
views: {size: 32, blur: 0.0, crop: contrastive_crop, alpha: 0.6}
boxes: {warmup_epochs: 1, every_epochs: 1, threshold: 0.3}
batch: 8
epochs: 3
optimizer: {lr: 0.05}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
checkpoint: {every_epochs: 1, every_steps: 2, keep: 99}
"""
STEPS_PER_EPOCH = 5


@pytest.mark.parametrize(
    ("epochs", "warmup", "every", "expected"),
    [
        (500, None, None, [100, 200, 300, 400]),
        (100, None, None, [20, 40, 60, 80]),
        (500, 500, 100, []),
        (10, 0, 11, []),
        (10, 0, 1, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (10, 3, 4, [4, 8]),
    ],
)
def test_surveys_happen_in_the_published_epochs(epochs: int, warmup: int | None, every: int | None, expected: list[int]) -> None:
    interval = survey_interval(epochs)
    maker = BoxMaker(BoxSettings(interval if warmup is None else warmup, interval if every is None else every), 32)
    assert [epoch for epoch in range(epochs) if maker.due(epoch)] == expected


@pytest.mark.usefixtures("one_thread")  # as the run
def test_the_table_is_what_the_weights_of_that_moment_see(run: Path) -> None:
    """Boxes are made at the start of an epoch by the trained encoder: those of the last survey, by the last but one epoch's weights."""
    data = open_data("shapes:train=40,test=30")
    state = read_checkpoint(run / "checkpoints" / "step_00000010.pt")
    network = create_backbone("resnet10_small", image_size=32)
    prefix = state["encoders"]["query"]
    network.load_state_dict({key.removeprefix(prefix): value for key, value in state["model"].items() if key.startswith(prefix)})
    boxes, _ = locate(network, data.role("pretrain"), side=32, mean=data.mean, std=data.std, threshold=0.3)
    table = read_checkpoint(latest_checkpoint(run))["tables"]["boxes"]
    assert np.array_equal(table.numpy(), boxes)
    before = read_checkpoint(run / "checkpoints" / "step_00000010.pt")["tables"]["boxes"]
    assert not torch.equal(before, table)
    rows = [row for row in read_log(run / "log.jsonl") if "boxes/area" in row]
    assert [row["step"] for row in rows] == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]
    assert rows[1]["boxes/area"] == pytest.approx((boxes[:, 2:] - boxes[:, :2]).prod(1).mean(), rel=1e-6)
    assert rows[1]["boxes/unlocated"] == 0.0
    assert 0.0 < rows[1]["boxes/iou_truth"] < 1.0
    assert rows[1]["survey_seconds"] > 0.0
    assert read_checkpoint(run / "checkpoints" / "step_00000005.pt")["tables"] == {}


def test_boxes_are_followed_from_the_end_of_the_warmup_on(tmp_path: Path, recipe_file: Path, run: Path) -> None:
    plain = tmp_path / "plain"
    train(load_recipe(str(recipe_file), ["views.crop=random_resized_crop"]), plain)
    assert losses(plain)[:STEPS_PER_EPOCH] == losses(run)[:STEPS_PER_EPOCH]
    assert losses(plain)[STEPS_PER_EPOCH] != losses(run)[STEPS_PER_EPOCH]
    assert not any("boxes/area" in row for row in read_log(plain / "log.jsonl"))
    # Until the first survey the box is the initial one for all images; a central one is what SimCCrop has.
    initial, central = tmp_path / "initial", tmp_path / "central"
    box = "[0.25,0.25,0.75,0.75]"
    train(load_recipe(str(recipe_file), ["boxes.warmup_epochs=0", "boxes.every_epochs=99", f"boxes.initial={box}", "epochs=1"]), initial)
    train(load_recipe(str(recipe_file), ["views.crop=simccrop", f"views.central_box={box}", "epochs=1"]), central)
    assert losses(initial) == losses(central)
    assert losses(initial) != losses(run)[:STEPS_PER_EPOCH]


@pytest.mark.parametrize("step", [4, 5, 6, 10, 12])
def test_a_resumed_run_keeps_its_boxes_and_has_no_second_warmup(tmp_path: Path, run: Path, step: int) -> None:
    """Issue 14 of the published code: after resuming, warm-up was counted anew and crops fell back to random ones."""
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    for path in checkpoints(broken):
        if int(path.stem.split("_")[1]) > step:
            path.unlink()
    train(resume_recipe(read_recipe(broken), []), broken, resume=True)
    assert losses(broken) == losses(run)
    state, expected = read_checkpoint(latest_checkpoint(broken)), read_checkpoint(latest_checkpoint(run))
    assert torch.equal(state["tables"]["boxes"], expected["tables"]["boxes"])
    assert all(torch.equal(state["model"][key], value) for key, value in expected["model"].items())


def test_files_and_living_workers_see_each_new_table(tmp_path: Path, recipe_file: Path) -> None:
    """Images decoded by workers that stay alive between epochs: the losses are those without workers, and boxes change them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 40, 50, 3), dtype=np.uint8)
    pixels[:, 10:25, 20:40] //= 8
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    (folder / "07b.png").write_bytes(b"not an image")
    overrides = [f"data=folder:{folder}", "views.size=16", "epochs=3", "boxes.warmup_epochs=1"]
    outcomes = {}
    for workers in (0, 2):
        target = tmp_path / f"run{workers}"
        train(load_recipe(str(recipe_file), [*overrides, f"workers={workers}"]), target)
        outcomes[workers] = losses(target)
    assert outcomes[0] == outcomes[2]
    train(load_recipe(str(recipe_file), [*overrides, "workers=2", "boxes.every_epochs=2"]), tmp_path / "rarer")
    # The sheet leaves out what the run left out.
    sheet = boxes_of_run(tmp_path / "run0", 16)
    table = read_checkpoint(latest_checkpoint(tmp_path / "run0"))["tables"]["boxes"]
    assert np.array_equal(sheet.boxes, table.numpy())
    assert len(sheet.images) == 16
    # With surveys every second epoch the second epoch still has the full box: another crop, another loss.
    assert losses(tmp_path / "rarer")[:2] == outcomes[2][:2]
    assert losses(tmp_path / "rarer")[2:4] != outcomes[2][2:4]


class _Recorder:
    """A table maker that keeps what it is shown."""

    def __init__(self, look: EncoderPass, first: int) -> None:
        self.encoder_pass, self.first, self.seen = look, first, []

    def due(self, epoch: int) -> bool:
        return epoch >= self.first

    def start(self, count: int) -> None:
        self.count, self.seen = count, []

    def update(self, outputs: Outputs) -> None:
        self.seen.append(outputs)

    def finish(self, processes: object) -> tuple[dict[str, np.ndarray], dict[str, float], str]:
        return {f"rows{self.first}": torch.cat([outputs.embedding for outputs in self.seen]).numpy()}, {"count": self.count}, "seen"


def test_one_pass_serves_all_tables_and_equal_looks_share_a_forward(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 48, 36, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    images = open_data(f"folder:{tmp_path}").role("pretrain")
    assert isinstance(images, FileImages)
    reads: list[int] = []
    decode = images.decode
    images.decode = lambda index: (reads.append(index), decode(index))[1]  # type: ignore[method-assign]
    torch.manual_seed(0)
    method = MoCo(
        lambda: create_backbone("resnet10_small", image_size=32), MoCoSettings(dim=8, queue=4), RunFacts(images=5, batch=2, seed=0, steps=1)
    )
    with torch.no_grad():
        for parameter in method.encoder_k.parameters():
            parameter.mul_(1.5)
    method.train()
    forwards: list[tuple[str, bool]] = []
    for name in ("q", "k"):
        backbone = getattr(method, f"encoder_{name}").backbone
        backbone.layer1.register_forward_hook(lambda module, *_, name=name: forwards.append((name, module.training)))
    looks = [EncoderPass("key", "centre"), EncoderPass("query", "whole"), EncoderPass("key", "centre")]
    makers = [_Recorder(one, first) for first, one in enumerate(looks)]
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    survey = Survey(images, makers, size=32, native=None, mean=mean, std=std, device=torch.device("cpu"), workers=0)
    assert survey.due(0)
    findings = survey(2, method.named_encoder)
    assert sorted(reads) == [0, 1, 2, 3, 4]
    assert sorted(forwards) == [("k", False), ("q", False)]
    assert method.encoder_q.backbone.layer1.training
    assert findings.texts == ["seen"] * 3
    # By hand: the whole image squeezed to a square, and the centre of the image with a short side of 37 (= 32 * 256 / 224).
    method.eval()
    squeezed = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) for image in pixels]
    centred = [np.asarray(Image.fromarray(image).resize((37, 49), Image.Resampling.BILINEAR).crop((2, 8, 34, 40))) for image in pixels]
    for encoder, inputs, table in (
        (method.encoder_q, squeezed, "rows1"),
        (method.encoder_k, centred, "rows0"),
        (method.encoder_k, centred, "rows2"),
    ):
        normalised = (np.stack(inputs).astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
        with torch.no_grad():
            expected = encoder(torch.from_numpy(normalised).permute(0, 3, 1, 2))
        assert np.allclose(findings.tables[table], expected.numpy(), atol=1e-5), table
    # Only what is due is made.
    assert list(survey(0, method.named_encoder).tables) == ["rows0"]


def test_a_network_whose_maps_are_too_coarse_is_refused_before_anything_is_written(tmp_path: Path, recipe_file: Path) -> None:
    with pytest.raises(UserError, match=r"last feature map at 32 px is 1x1"):
        train(load_recipe(str(recipe_file), ["backbone=resnet10t"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("boxes.threshold=1.5", "boxes.threshold must be at least 0 and below 1, not 1.5"),
        ("boxes.quantile=-0.1", "boxes.quantile must be at least 0 and below 1"),
        ("boxes.every_epochs=0", "boxes.every_epochs must be at least 1, not 0"),
        ("boxes.warmup_epochs=-1", "boxes.warmup_epochs must be at least 0, not -1"),
        ("boxes.initial=[0.5,0.5,0.4,1.0]", r"boxes.initial must be \[top, left, bottom, right\] in shares of the image"),
    ],
)
def test_settings_without_meaning_are_refused(tmp_path: Path, recipe_file: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(load_recipe(str(recipe_file), [override]), tmp_path / "run")


def test_a_transformer_with_a_quantile(tmp_path: Path, recipe_file: Path) -> None:
    run = tmp_path / "run"
    train(load_recipe(str(recipe_file), ["backbone=test_vit", "views.size=64", "data=shapes:train=16,test=4,size=64", "epochs=2"]), run)
    fixed = read_checkpoint(latest_checkpoint(run))["tables"]["boxes"]
    train(
        load_recipe(
            str(recipe_file),
            ["backbone=test_vit", "views.size=64", "data=shapes:train=16,test=4,size=64", "epochs=2", "boxes.quantile=0.9"],
        ),
        tmp_path / "quantile",
    )
    chosen = read_checkpoint(latest_checkpoint(tmp_path / "quantile"))["tables"]["boxes"]
    assert (chosen[:, 2:] - chosen[:, :2]).prod(1).mean() < (fixed[:, 2:] - fixed[:, :2]).prod(1).mean()


def test_pretrain_boxes_draws_a_sheet(
    tmp_path: Path, recipe_file: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["pretrain", "boxes", *words])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    status, out, _ = call(str(run), "--out", str(tmp_path / "boxes.png"), "--count", "7")
    assert status == 0
    assert "boxes of the last survey" in out
    with Image.open(tmp_path / "boxes.png") as picture:
        assert picture.width > 1000
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (np.abs(colours.astype(int) - [255, 210, 31]).max(axis=1) < 12).sum() > 500  # the frames are there
    plain = tmp_path / "plain"
    train(load_recipe(str(recipe_file), ["views.crop=random_resized_crop", "epochs=1"]), plain)
    status, out, _ = call(str(plain), "--out", str(tmp_path / "plain.png"))
    assert "the run makes no boxes; these are by its last weights" in out
    assert call(str(tmp_path))[0] == 2
    assert "is not a run folder" in call(str(tmp_path))[2]
    assert "name one run folder" in call()[2]


def test_locate_on_a_run_equals_the_survey_of_any_data(run: Path) -> None:
    """`locate` is the same for images of other data, such as a test split: nothing of it is bound to the training set."""
    model = open_model(str(run))
    data = open_data("shapes:train=40,test=30")
    images = data.role("test")
    assert isinstance(images, ArrayImages)
    whole, _ = locate(model.module, images, side=32, mean=data.mean, std=data.std)
    part, _ = locate(model.module, images.subset(np.arange(5, 9)), side=32, mean=data.mean, std=data.std)
    assert np.abs(whole[5:9] - part).max() <= 1 / 32 + 1e-6
