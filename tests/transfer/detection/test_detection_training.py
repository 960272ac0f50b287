"""Real trainings of detectron2, a few iterations each: results, resuming, what a user sees."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from detection_layouts import as_coco
from left_running import everything_ends
from typer.testing import CliRunner

from evaluation.tasks.runtime import Runtime
from evaluation.training.log import read_log
from transfer.cli import app
from transfer.detection.verify import verify
from transfer.presence import has_detectron2, install_line
from zoo.console import EXIT_STOPPED
from zoo.errors import UserError
from zoo.results import load_result

if not has_detectron2():
    pytest.skip(f"detectron2 is not installed: {install_line()}", allow_module_level=True)

from transfer.detection import detect

# Small enough for a test: few regions, pictures of 64 px, no loader processes.
TINY = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": "(56,64)",
    "INPUT.MIN_SIZE_TEST": 64,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 50,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 16,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 8,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.002,
    "SOLVER.WARMUP_ITERS": 0,
    "TEST.PRECISE_BN.NUM_ITER": 1,
}
FPN = TINY | {
    "SOLVER.MAX_ITER": 4,
    "SOLVER.STEPS": "(3,)",
    "TEST.EVAL_PERIOD": 2,
    "MODEL.ANCHOR_GENERATOR.SIZES": "[[8],[16],[32],[64],[128]]",
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
}


def words(values):
    return [str(word) for pair in values.items() for word in pair]


@pytest.fixture(scope="module")
def whole(coco_shapes, tmp_path_factory):
    """A Mask R-CNN with a ResNet-50-FPN, trained without a break; with what was said. Loader processes load, and end with it."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("runs") / "whole"
    options = words(FPN | {"DATALOADER.NUM_WORKERS": 1})
    with everything_ends(workers=3):  # of the training, and of two evaluations
        result = detect.start("coco_r50_fpn_1x", "random:resnet50:5", f"coco:{coco_shapes}", out, options, say=said.append).result
    return out, result, said


def test_a_run_gives_a_result_with_boxes_masks_classes_and_the_curve(whole, coco_shapes):
    out, result, said = whole
    assert load_result(out / "result.json") == result
    assert (result.task, result.preset, result.headline.metric) == ("detection", "coco_r50_fpn_1x", "box_AP")
    assert {"box_AP", "box_AP50", "box_AP75", "mask_AP", "mask_AP50", "mask_AP75"} <= result.metrics.keys()
    assert all(0 <= value <= 100 for value in result.metrics.values())
    assert [row["step"] for row in result.details["curve"]] == [2, 4]
    assert result.details["curve"][-1] == {"step": 4, **result.metrics}
    assert set(result.details["per_class"]) == {"names", "test_objects", "box_AP", "mask_AP"}
    assert sum(result.details["per_class"]["test_objects"]) == result.counts["test_objects"] == 16
    assert (result.counts["train_images"], result.counts["test_images"]) == (8, 4)
    assert (result.protocol["detector"], result.protocol["metric"], result.protocol["norm"]) == ("Mask R-CNN", "COCO", "BN")
    from zoo.model_spec import open_model

    assert result.model.tensors_sha256 == open_model("random:resnet50:5").tensors_sha256
    assert result.model.spec == "random:resnet50:5"
    assert result.seeds == {"training": 0}
    assert result.versions["sal-detectron2" if "sal-detectron2" in result.versions else "detectron2"]
    rows = read_log(out / "log.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert all(row["total_loss"] > 0 for row in rows[:4])
    assert rows[1]["evaluation"]["step"] == 2
    assert (out / "detections.png").read_bytes()[:4] == b"\x89PNG"
    assert any("equal the model's, stem to res5" in line for line in said)
    assert any(line == "scaled linearly to the batch that fits here:" for line in said)
    assert any("SOLVER.IMS_PER_BATCH 16 -> 2" in line for line in said)
    assert any("SyncBN is BN in one process on the CPU" in line for line in said)


def test_a_run_that_is_stopped_twice_and_resumed_equals_the_unbroken_one(whole, coco_shapes, tmp_path):
    unbroken, wanted, _ = whole
    run = tmp_path / "run"
    stopped = detect.start(
        "coco_r50_fpn_1x", "random:resnet50:5", f"coco:{coco_shapes}", run, words(FPN), max_seconds=0, say=lambda line: None
    )
    assert (stopped.result, stopped.stopped) == (None, "max_time of 0 s")
    assert [row["step"] for row in read_log(run / "log.jsonl")] == [0]
    # A killed process leaves rows of steps that no checkpoint has.
    with open(run / "log.jsonl", "a") as file:
        file.write('{"step": 1, "total_loss": 99}\n')
    call = ("coco_r50_fpn_1x", "random:resnet50:5", f"coco:{coco_shapes}", run, words(FPN))
    with pytest.raises(UserError, match=r"seed is 1 in this command, and the run .* was begun with 0; leave it as it was to go on"):
        detect.start(*call, seed=1, go_on=True, say=lambda line: None)
    assert detect.start(*call, go_on=True, max_seconds=0, say=lambda line: None).result is None
    torch.manual_seed(77)
    said: list[str] = []
    result = detect.resume(run, say=said.append).result
    assert said[0] == "going on after 2 iterations"
    assert result.metrics == wanted.metrics
    assert result.details["curve"] == wanted.details["curve"]
    ours, theirs = (
        [{key: value for key, value in row.items() if key != "data_time"} for row in read_log(folder / "log.jsonl")]
        for folder in (run, unbroken)
    )
    assert ours == theirs
    states = [torch.load(folder / "model_final.pth", weights_only=True) for folder in (run, unbroken)]
    for name, tensor in states[1]["model"].items():
        assert torch.equal(states[0]["model"][name], tensor), name
    momentum = [state["trainer"]["_trainer"]["optimizer"]["state"] for state in states]
    assert all(torch.equal(momentum[0][key]["momentum_buffer"], momentum[1][key]["momentum_buffer"]) for key in momentum[1])
    again: list[str] = []
    assert detect.resume(run, say=again.append).result == result
    assert again == [f"{run} is finished already"]
    assert detect.start(*call, go_on=True, say=again.append).result == result


def test_a_claim_is_measured_again(whole, coco_shapes):
    _, claim, _ = whole
    again = verify(claim, model="random:resnet50:5", data=f"coco:{coco_shapes}", runtime=Runtime())
    assert again.metrics == claim.metrics
    assert (again.protocol, again.data.splits) == (claim.protocol, claim.data.splits)
    for changes, model, sentence in (
        ({}, "random:resnet50:6", r"the weights of 'random:resnet50:6' .* are not those that this was measured with"),
        ({"protocol": claim.protocol | {"config": "mine"}}, "random:resnet50:5", "its config 'mine' is not one of this toolkit's"),
    ):
        with pytest.raises(UserError, match=sentence):
            verify(replace(claim, **changes), model=model, data=f"coco:{coco_shapes}", runtime=Runtime())


def test_a_c4_detector_of_mocos_protocol_on_vocs_layout(voc_shapes, tmp_path, monkeypatch):
    from transfer.conversion import convert

    convert("random:resnet50:1", "detectron2", tmp_path / "start.pkl", verify=False)
    values = TINY | {"SOLVER.MAX_ITER": 2, "SOLVER.STEPS": "(1,)", "MODEL.ANCHOR_GENERATOR.SIZES": "[[16,32,64]]"}
    options = [
        "--model",
        f"detectron2:{tmp_path / 'start.pkl'}",
        "--data",
        f"voc:{voc_shapes}",
        "--out",
        str(tmp_path / "run"),
        "--seed",
        "3",
    ]
    done = CliRunner().invoke(app, ["detect", "voc0712_r50_c4_24k", *options, *words(values)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = load_result(tmp_path / "run" / "result.json")
    assert (result.protocol["head"], result.protocol["backbone"]) == ("Res5ROIHeadsExtraNorm", "ResNet-50-C4")
    assert result.protocol["metric"] == "VOC2012"
    assert set(result.metrics) == {"box_AP", "box_AP50", "box_AP75"}
    assert result.seeds == {"training": 3}
    assert "res5" in done.output
    assert "done: box AP" in done.output
    state = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    assert state["roi_heads.res5.norm.weight"].shape == (2048,)


def test_what_has_changed_since_is_refused_when_a_run_is_resumed(whole, coco_shapes, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    (run / "result.json").unlink()
    root = as_coco(tmp_path / "set")

    def resume(facts, overrides=()):
        content = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(content | facts))
        return detect.resume(run, overrides, say=lambda line: None)

    with pytest.raises(UserError, match=r"SOLVER\.BASE_LR cannot be changed when a run is resumed; only DATALOADER\.NUM_WORKERS"):
        resume({}, ["SOLVER.BASE_LR", "1"])
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][0] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"the train images or annotations of 'coco:.*' are not those that .* began with"):
        resume({"data": f"coco:{root}"})
    with pytest.raises(UserError, match=r"was trained for 2 classes \(a, b, \.\.\.\), and 'coco:.*' now has 9"):
        resume({"classes": ["a", "b"]})
    with pytest.raises(UserError, match="is not a detection run: it has no"):
        detect.resume(tmp_path, say=lambda line: None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name a config (`transfer detect --list` shows them), or a run to go on with"),
        (["small_r18_fpn"], "give --model MODEL"),
        (["small_r18_fpn", "--model", "random", "--data", "voc:x"], "give --out RUN"),
        (["--resume", "x", "--out", "y"], "leave out --model, --data, --out, --overwrite and --continue"),
        (["--resume", "x"], "x is not a detection run"),
        (
            ["small_r18_fpn", "--model", "random", "--data", "coco:x", "--out", "y", "--continue", "--overwrite"],
            "--continue keeps what is there and --overwrite replaces it",
        ),
        (["nonsense", "--model", "random", "--data", "voc:x", "--out", "no"], "there is no config 'nonsense'"),
        (
            ["small_r18_fpn", "--model", "random:vit_tiny_patch16_224", "--data", "voc:x", "--out", "no"],
            "vision transformers are not supported yet",
        ),
        (["small_r18_fpn", "--model", "random:resnet18_small", "--data", "voc:x", "--out", "no"], "has a 3x3 stem without pooling"),
        (
            ["small_r18_fpn", "--model", "random:resnet50", "--data", "voc:x", "--out", "no"],
            "is for a ResNet-18, and 'random:resnet50:0' is a",
        ),
        (["small_r18_fpn", "--model", "random", "--data", "voc:/none", "--out", "no"], "there is no folder /none"),
        (["small_r18_fpn", "--model", "random", "--data", "voc:x", "--out", "no", "--device", "cuda"], "torch finds no CUDA GPU here"),
        (
            ["small_r18_fpn", "--model", "random", "--data", "voc:x", "--out", "no", "--device", "cpu", "--gpus", "2"],
            "--gpus 2 was asked for",
        ),
        (
            ["small_r18_fpn", "--model", "random", "--data", "voc:x", "--out", "no", "--max-time", "soon"],
            "max_time 'soon' is not a duration",
        ),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(arguments, sentence, tmp_path, monkeypatch):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["detect", *arguments])
    assert isinstance(done.exception, UserError)
    assert sentence in str(done.exception)
    assert "\n" not in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_unless_it_is_a_run_and_asked(whole, tmp_path):
    from transfer.detection.run_folder import check_out

    with pytest.raises(UserError, match=r"exists already; give --continue to go on, or --overwrite to start again"):
        check_out(whole[0], overwrite=False)
    (tmp_path / "precious").write_text("x")
    with pytest.raises(UserError, match="is not a detection run, so --overwrite does not remove it"):
        check_out(tmp_path, overwrite=True)
    check_out(whole[0], overwrite=True)


def test_a_training_that_diverges_is_said(coco_shapes, tmp_path):
    values = FPN | {"SOLVER.BASE_LR": 1e30, "MODEL.MASK_ON": False, "TEST.EVAL_PERIOD": 0}
    with pytest.raises(UserError, match=r"the training diverged at iteration \d \(.*\); lower SOLVER\.BASE_LR"):
        detect.start("coco_r18_fpn_1x", "random", f"coco:{coco_shapes}", tmp_path / "run", words(values), say=lambda line: None)


def test_a_stopped_run_has_its_own_exit_status(coco_shapes, tmp_path):
    options = ["--model", "random", "--data", f"coco:{coco_shapes}", "--out", str(tmp_path / "run"), "--max-time", "0s"]
    done = CliRunner().invoke(app, ["detect", "coco_r18_fpn_1x", *options, *words(FPN | {"MODEL.MASK_ON": False})])
    assert done.exit_code == EXIT_STOPPED
    assert done.output.splitlines()[-1] == f"stopped by max_time of 0 s; go on with: transfer detect --resume {tmp_path / 'run'}"


@pytest.mark.cuda
def test_mixed_precision_on_a_gpu(coco_shapes, tmp_path):
    result = detect.start(
        "coco_r50_fpn_1x", "random", f"coco:{coco_shapes}", tmp_path / "run", [*words(FPN), "SOLVER.AMP.ENABLED", "True"], gpus=1
    ).result
    assert result.dtype == "mixed"


def test_loader_processes_end_where_a_training_fails(tmp_path):
    data = as_coco(tmp_path / "data")

    def say(line):
        if "stem to res5" in line:  # the next thing is the first batch
            for path in (data / "train").glob("*.png"):
                path.write_bytes(b"no image")

    options = words(FPN | {"DATALOADER.NUM_WORKERS": 1})
    with pytest.raises(UserError, match="cannot be trained on") as kept, everything_ends(workers=1):
        detect.start("coco_r50_fpn_1x", "random:resnet50:5", f"coco:{data}", tmp_path / "run", options, say=say)
    assert kept.traceback
