"""The training loop, run for real on small images: exact resume, stopping, refusals, what a run folder holds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from run_files import losses

import zoo
from evaluation.training.log import read_log
from pretrain.loop import Outcome, train
from pretrain.recipes import load_recipe, resume_recipe
from pretrain.runs.run_folder import check_out
from zoo.backbones import create_backbone
from zoo.errors import UserError
from zoo.models.runs import checkpoints, is_run, latest_checkpoint, read_checkpoint, read_recipe

TINY = """
data: shapes:train=40,test=30,size=16
backbone: test_resnet
method: {name: moco, queue: 32, dim: 16, momentum: 0.9}
views: {size: 16, blur: 0.3, blur_sigma: [0.1, 1.0]}
batch: 8
epochs: 2
optimizer: {lr: 0.05}
threads: 1
device: cpu
trackers: []
knn: {every_epochs: 0}
checkpoint: {every_epochs: 1}
"""
STEPS = 10  # 2 epochs of 40 // 8


def start(recipe_file: Path, run: Path, *overrides: str) -> Outcome:
    return train(load_recipe(str(recipe_file), overrides), run)


def go_on(run: Path, *overrides: str) -> Outcome:
    return train(resume_recipe(read_recipe(run), overrides), run, resume=True)


def assert_same(value: Any, other: Any) -> None:
    """Bit-equality through nested containers."""
    if isinstance(value, torch.Tensor):
        assert torch.equal(value, other)
    elif isinstance(value, dict):
        assert value.keys() == other.keys()
        for key in value:
            assert_same(value[key], other[key])
    elif isinstance(value, Sequence) and not isinstance(value, str):
        assert len(value) == len(other)
        for a, b in zip(value, other, strict=True):
            assert_same(a, b)
    else:
        assert value == other


def assert_same_run(run: Path, other: Path) -> None:
    assert losses(run) == losses(other)
    assert_same(read_checkpoint(latest_checkpoint(run)), read_checkpoint(latest_checkpoint(other)))


def stop_after(run: Path, step: int, recipe_file: Path, *overrides: str) -> None:
    """A run whose process is told to stop once it has done ``step`` steps (the signal comes from a thread that watches the log)."""
    import threading

    def watch() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if (run / "log.jsonl").exists() and len((run / "log.jsonl").read_text().splitlines()) >= step:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    outcome = start(recipe_file, run, *overrides)
    watcher.join()
    assert outcome.stopped == "SIGTERM"
    assert outcome.step < STEPS


def test_a_run_folder_holds_recipe_log_checkpoint_and_environment(tmp_path: Path, recipe_file: Path) -> None:
    run = tmp_path / "run"
    assert start(recipe_file, run, "knn.every_epochs=1", "trackers=[tensorboard]") == Outcome(STEPS, STEPS, None)
    assert is_run(run)
    rows = read_log(run / "log.jsonl")
    assert len(rows) == STEPS
    assert {"step", "epoch", "lr", "loss", "loss/contrastive"} <= rows[0].keys()
    assert [row["step"] for row in rows if "knn_top1" in row] == [4, 9]
    assert rows[0]["lr"] == pytest.approx(0.05)
    environment = json.loads((run / "environment.json").read_text())
    assert torch.__version__.startswith(environment["versions"]["torch"])
    assert read_recipe(run)["method"]["name"] == "moco"
    assert list((run / "tensorboard").rglob("events.out.tfevents.*"))
    checkpoint = read_checkpoint(latest_checkpoint(run))
    assert (checkpoint["step"], checkpoint["epoch"], checkpoint["arch"]) == (STEPS, 2, "test_resnet")
    # The trained backbone is what `zoo.load` gives.
    weight = zoo.load(str(run)).state_dict()["layer4.0.conv1.weight"]
    assert torch.equal(weight, checkpoint["model"]["encoder_q.backbone.layer4.0.conv1.weight"])


def test_the_loss_depends_on_the_seed_and_on_nothing_else(tmp_path: Path, recipe_file: Path) -> None:
    start(recipe_file, tmp_path / "a", "epochs=1")
    torch.manual_seed(1234)  # the caller's generators do not matter
    np.random.seed(1)  # noqa: NPY002
    start(recipe_file, tmp_path / "b", "epochs=1")
    start(recipe_file, tmp_path / "c", "epochs=1", "seed=1")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


@pytest.mark.parametrize("method", ["moco", "simclr"])
def test_a_run_stopped_in_mid_epoch_and_resumed_is_the_run_never_stopped(tmp_path: Path, recipe_file: Path, method: str) -> None:
    # adamw and stochastic depth, so that optimizer moments and torch's own generator matter too
    overrides = (
        ["method={name: simclr, dim: 16}", "optimizer.name=adamw", "optimizer.lr=0.001"]
        if method == "simclr"
        else ["schedule.warmup_epochs=1"]
    )
    start(recipe_file, tmp_path / "whole", *overrides)
    stop_after(tmp_path / "broken", 3, recipe_file, *overrides)
    stopped_at = read_checkpoint(latest_checkpoint(tmp_path / "broken"))["step"]
    assert 3 <= stopped_at < STEPS
    torch.set_num_threads(2)  # the recorded count is restored, whatever it is now
    assert go_on(tmp_path / "broken") == Outcome(STEPS, STEPS, None)
    assert torch.get_num_threads() == 2
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_transformer_with_stochastic_depth_resumes_exactly(tmp_path: Path, recipe_file: Path) -> None:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    @timm.models.register_model
    def vit_for_resume_test(pretrained: bool = False, img_size: int = 16, **kwargs: Any) -> VisionTransformer:
        return VisionTransformer(
            img_size, patch_size=8, embed_dim=16, depth=2, num_heads=2, drop_path_rate=0.5, proj_drop_rate=0.2, num_classes=0
        )

    overrides = [
        "backbone=vit_for_resume_test",
        "optimizer.name=adamw",
        "optimizer.lr=0.001",
        "checkpoint.every_steps=4",
        "checkpoint.keep=9",
    ]
    start(recipe_file, tmp_path / "whole", *overrides)
    start(recipe_file, tmp_path / "broken", *overrides)
    for path in checkpoints(tmp_path / "broken")[1:]:
        path.unlink()  # as if it had been killed after step 4
    go_on(tmp_path / "broken")
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def write_folder(root: Path, count: int = 30) -> None:
    """Photographs of various sizes in class folders: what goes through loader workers."""
    rng = np.random.default_rng(0)
    for i in range(count):
        folder = root / "train" / f"class{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (100 + i, 140 - i, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((140 - i, 100 + i)).save(folder / f"{i}.jpg")


def test_another_number_of_loader_workers_changes_nothing(tmp_path: Path, recipe_file: Path) -> None:
    write_folder(tmp_path / "images", 20)
    overrides = [f"data=folder:{tmp_path / 'images'}", "batch=4", "epochs=1"]
    start(recipe_file, tmp_path / "none", *overrides, "workers=0")
    start(recipe_file, tmp_path / "two", *overrides, "workers=2", "checkpoint.every_steps=2", "checkpoint.keep=9")
    assert losses(tmp_path / "none") == losses(tmp_path / "two")
    for path in checkpoints(tmp_path / "two")[1:]:
        path.unlink()
    go_on(tmp_path / "two", "workers=1")
    assert_same_run(tmp_path / "none", tmp_path / "two")


def test_bad_images_are_listed_and_left_out(tmp_path: Path, recipe_file: Path) -> None:
    write_folder(tmp_path / "images", 20)
    bad = tmp_path / "images" / "train" / "class1" / "torn.jpg"
    bad.write_bytes((tmp_path / "images" / "train" / "class1" / "1.jpg").read_bytes()[:600])
    overrides = [f"data=folder:{tmp_path / 'images'}", "batch=4", "epochs=1", "workers=0", "checkpoint.every_steps=2", "checkpoint.keep=9"]
    start(recipe_file, tmp_path / "run", *overrides)
    assert (tmp_path / "run" / "bad_images.txt").read_text().splitlines() == [str(bad)]
    assert len(losses(tmp_path / "run")) == 5
    before = losses(tmp_path / "run")
    for path in checkpoints(tmp_path / "run")[1:]:
        path.unlink()
    go_on(tmp_path / "run")
    assert losses(tmp_path / "run") == before


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pretrain", *words]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_sigkill_at_any_moment_and_resume_is_exact(tmp_path: Path, recipe_file: Path) -> None:
    """Killed three times, with a checkpoint being written nearly always (one at each step); resumed to the end."""
    start(recipe_file, tmp_path / "whole", "epochs=6")
    run = tmp_path / "killed"
    words = [str(recipe_file), "--out", str(run), "epochs=6", "checkpoint.every_steps=1", "checkpoint.keep=3"]
    rows = 0
    for attempt in range(3):
        process = subprocess.Popen(command(*words), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            if (run / "log.jsonl").exists() and len((run / "log.jsonl").read_text().splitlines()) >= rows + 4:
                time.sleep(0.013 * attempt)
                process.kill()
                break
            time.sleep(0.001)
        process.wait()
        assert process.returncode == -signal.SIGKILL, process.stderr.read().decode()  # type: ignore[union-attr]
        rows = read_checkpoint(latest_checkpoint(run))["step"]
        words = ["--resume", str(run)]
    go_on(run)
    assert_same_run(tmp_path / "whole", run)
    assert not list((run / "checkpoints").glob("*.partial"))


def test_sigterm_saves_and_leaves_with_status_3(tmp_path: Path, recipe_file: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(str(recipe_file), "--out", str(run), "epochs=500"),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (run / "log.jsonl").exists() or len((run / "log.jsonl").read_text().splitlines()) < 3:
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "stopped by SIGTERM" in output
    assert f"pretrain --resume {run}" in output
    assert len(losses(run)) == read_checkpoint(latest_checkpoint(run))["step"]


def test_max_time_stops_and_resume_finishes(tmp_path: Path, recipe_file: Path) -> None:
    outcome = start(recipe_file, tmp_path / "run", "max_time=0s")
    assert outcome.step == 1
    assert "max_time" in str(outcome.stopped)
    assert go_on(tmp_path / "run", "max_time=1h") == Outcome(STEPS, STEPS, None)


def test_resuming_a_finished_run_does_nothing(tmp_path: Path, recipe_file: Path) -> None:
    start(recipe_file, tmp_path / "run", "epochs=1")
    before = latest_checkpoint(tmp_path / "run").stat().st_mtime_ns
    assert go_on(tmp_path / "run") == Outcome(5, 5, None)
    assert latest_checkpoint(tmp_path / "run").stat().st_mtime_ns == before
    assert len(losses(tmp_path / "run")) == 5


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_last_good_checkpoint(tmp_path: Path, recipe_file: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError) as caught:
        start(recipe_file, run, "optimizer.lr=1e30", "schedule.name=constant", "checkpoint.every_steps=1")
    text = str(caught.value)
    assert "the loss became nan at step" in text or "the loss became inf at step" in text
    assert "learning rate 1e+30" in text
    assert str(latest_checkpoint(run)) in text
    last = read_checkpoint(latest_checkpoint(run))
    assert f"at step {last['step']} " in text  # every step before was saved
    assert all(np.isfinite(losses(run)))


@pytest.mark.parametrize(
    ("every", "what"),
    [(1, r"the kNN check failed \(30 of 30 .*\) at step 0 \(epoch 0\)"), (2, r"the loss became nan at step 1 \(epoch 1\)")],
)
def test_a_broken_training_names_step_rate_and_checkpoint_where_a_check_is_due_too(
    every: int, what: str, tmp_path: Path, recipe_file: Path
) -> None:
    """Every step is an epoch here. The first one breaks the weights: a check after it sees that, one after the second comes too late."""
    words = ["optimizer.lr=1e30", "schedule.name=constant", "max_images=8", "batch=8", "epochs=9", f"knn.every_epochs={every}"]
    with pytest.raises(UserError) as caught:
        start(recipe_file, tmp_path / "run", *words, "checkpoint.every_steps=1")
    good = "none yet" if every == 1 else str(latest_checkpoint(tmp_path / "run"))
    assert re.match(rf"{what} with learning rate 1e\+30; the run was stopped, its last good checkpoint is {good};", str(caught.value))
    assert len(read_log(tmp_path / "run" / "log.jsonl")) == every - 1


def test_a_half_made_run_folder_is_overwritten_and_anything_else_is_not(tmp_path: Path) -> None:
    """A run that was killed before its recipe was written."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("environment.json", ".lock", ".recipe.yaml.abc.partial"):
        (run / name).touch()
        check_out(run, overwrite=True)
        with pytest.raises(UserError, match="exists already"):
            check_out(run, overwrite=False)
    for mine in (run / "notes.txt", run / "checkpoints" / "mine.pt"):
        mine.touch()
        with pytest.raises(UserError, match="is not a run folder, so --overwrite does not remove it"):
            check_out(run, overwrite=True)
        mine.unlink()
    check_out(run, overwrite=True)


def test_gradient_accumulation_runs_the_same_number_of_steps(tmp_path: Path, recipe_file: Path) -> None:
    """A network without batch norm gives the same run in one forward pass a step and in four."""
    overrides = ["backbone=test_vit", "optimizer.lr=0.001", "epochs=1"]
    start(recipe_file, tmp_path / "whole", *overrides)
    start(recipe_file, tmp_path / "parts", *overrides, "micro_batch=2")
    assert np.allclose(losses(tmp_path / "whole"), losses(tmp_path / "parts"), atol=2e-4)


def test_bfloat16_is_close_to_float32_and_keeps_float32_weights(tmp_path: Path, recipe_file: Path) -> None:
    # At 16 px a strided convolution sees a map of one pixel, whose gradient in bfloat16 is wrong on some CPUs (docs/pretraining.md).
    larger = ["epochs=1", "data=shapes:train=40,test=30,size=32", "views.size=32"]
    start(recipe_file, tmp_path / "full", *larger)
    start(recipe_file, tmp_path / "half", *larger, "precision=bf16")
    assert losses(tmp_path / "full") != losses(tmp_path / "half")
    assert np.allclose(losses(tmp_path / "full"), losses(tmp_path / "half"), rtol=0.05)
    weights = read_checkpoint(latest_checkpoint(tmp_path / "half"))["model"]
    assert weights["encoder_q.backbone.conv1.0.weight"].dtype == torch.float32


def test_batchnorm_groups_and_lars(tmp_path: Path, recipe_file: Path) -> None:
    """Groups change the run (other statistics), and keys are shuffled over them; both resume exactly."""
    overrides = ["bn_splits=2", "optimizer.name=lars", "optimizer.decay_all=false", "schedule.name=step", "schedule.milestones=[1]"]
    start(recipe_file, tmp_path / "plain", *overrides[1:])
    start(recipe_file, tmp_path / "groups", *overrides, "checkpoint.every_steps=3", "checkpoint.keep=9")
    assert losses(tmp_path / "plain") != losses(tmp_path / "groups")
    rates = [row["lr"] for row in read_log(tmp_path / "groups" / "log.jsonl")]
    assert rates == pytest.approx([0.05] * 5 + [0.005] * 5)
    before = losses(tmp_path / "groups")
    for path in checkpoints(tmp_path / "groups")[1:]:
        path.unlink()
    go_on(tmp_path / "groups")
    assert losses(tmp_path / "groups") == before


def test_init_goes_on_from_another_models_backbone(tmp_path: Path, recipe_file: Path) -> None:
    start(recipe_file, tmp_path / "first", "epochs=1")
    start(recipe_file, tmp_path / "second", f"init={tmp_path / 'first'}", "optimizer.lr=0.0", "optimizer.weight_decay=0.0", "epochs=1")
    first, second = (zoo.load(str(tmp_path / name)).state_dict() for name in ("first", "second"))
    assert torch.equal(first["layer1.0.conv1.weight"], second["layer1.0.conv1.weight"])
    with pytest.raises(UserError, match="the recipe's backbone is resnet18; set backbone=test_resnet"):
        start(recipe_file, tmp_path / "third", f"init={tmp_path / 'first'}", "backbone=resnet18")
    assert not (tmp_path / "third").exists()


def test_init_reads_a_checkpoint_file_of_others_by_hand(tmp_path: Path, recipe_file: Path) -> None:
    weights = create_backbone("resnet10_small").state_dict()
    for name, tensor in weights.items():
        if name.endswith("running_mean"):
            tensor += 0.1
    strange = {"student.net." + name.replace("layer", "stage"): tensor for name, tensor in weights.items()}
    torch.save({"state": {"model": strange}}, tmp_path / "mine.pth")
    still = ("backbone=resnet10_small", "optimizer.lr=0.0", "optimizer.weight_decay=0.0", "epochs=1")
    with pytest.raises(UserError, match="of no known format"):
        start(recipe_file, tmp_path / "run", f"init=file:{tmp_path / 'mine.pth'}", *still)
    by_hand = ("init_file.key=state.model", "init_file.prefix=student.net.", r"init_file.rename=['^stage(\d)=layer\1']")
    start(recipe_file, tmp_path / "run", f"init=file:{tmp_path / 'mine.pth'}", *by_hand, *still)
    found = zoo.load(str(tmp_path / "run")).state_dict()
    assert torch.equal(found["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"])
    assert read_recipe(tmp_path / "run")["init_file"]["prefix"] == "student.net."


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data=folder:/no/such/folder", "/no/such/folder"),
        ("data=nonsense", "nonsense"),
        ("backbone=resnet99", "resnet99"),
        ("batch=64", "64"),
        ("method.queue=20", "not a multiple of batch=8"),
        ("micro_batch=3", "does not divide"),
        ("bn_splits=3", "bn_splits=3 must divide"),
        ("optimizer.lr_per_256=0.1", "not both"),
        ("views.scale=[0.5,0.1]", "scale"),
        ("max_time=soon", "is not a duration"),
        ("init=/no/such/model", "/no/such/model"),
    ],
)
def test_refusals_are_one_sentence_and_leave_nothing(tmp_path: Path, recipe_file: Path, override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        start(recipe_file, tmp_path / "run", override)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_kept_unless_it_may_be_overwritten(tmp_path: Path, recipe_file: Path) -> None:
    start(recipe_file, tmp_path / "run", "epochs=1")
    with pytest.raises(UserError, match="pretrain --resume"):
        start(recipe_file, tmp_path / "run")
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="is not a run folder"):
        train(load_recipe(str(recipe_file)), other, overwrite=True)
    assert (other / "thesis.tex").exists()
    train(load_recipe(str(recipe_file), ["epochs=1", "seed=3"]), tmp_path / "run", overwrite=True)
    assert read_recipe(tmp_path / "run")["seed"] == 3
