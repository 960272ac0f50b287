"""What detectron2's checkpointer lets pass with a line in a log, ours refuses. The cases are those that detectron2 was seen to accept."""

from __future__ import annotations

import os
import pickle
from functools import cache

import pytest
import torch

from transfer.formats.detectron2_file import to_arrays, write
from transfer.formats.detectron2_names import detectron2_to_torchvision
from transfer.presence import has_detectron2, install_line
from zoo.errors import UserError
from zoo.hashing import tensors_sha256
from zoo.models.model import Model

if not has_detectron2():
    pytest.skip(f"detectron2 is not installed: {install_line()}", allow_module_level=True)

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

from transfer.detection.engine.checkpointer import LAST, StrictCheckpointer
from transfer.detection.engine.settings import load_config


@cache
def detector(config, norm):
    keys = ["MODEL.DEVICE", "cpu", "MODEL.RESNETS.NORM", norm, "MODEL.FPN.NORM", "BN", "MODEL.ROI_BOX_HEAD.FC_DIM", "8"]
    return build_model(load_config(config, keys))


@pytest.fixture(scope="module")
def source(make_backbone):
    @cache
    def make(arch):
        module = make_backbone(arch, image_size=64, seed=3)
        return Model(module, "source", "run", arch, None, tensors_sha256(module.state_dict()))

    return make


def write_file(path, arrays, **changes):
    content = {"model": arrays, "__author__": "test", "matching_heuristics": True, **changes}
    path.write_bytes(pickle.dumps({key: value for key, value in content.items() if value is not None}))
    return str(path)


@pytest.mark.parametrize(
    ("config", "arch", "norm"),
    [
        ("small_r18_fpn", "resnet18", "BN"),
        ("small_r18_fpn", "resnet18", "FrozenBN"),
        ("voc0712_r50_c4_24k", "resnet50", "BN"),
        ("voc0712_r50_c4_24k", "resnet50", "FrozenBN"),
    ],
)
def test_a_good_file_fills_every_tensor(tmp_path, source, config, arch, norm):
    model = detector(config, norm)
    write(source(arch), tmp_path / "good.pkl")
    StrictCheckpointer(model).load(str(tmp_path / "good.pkl"))
    state, ours = model.state_dict(), source(arch).module.state_dict()
    filled = 0
    for name, tensor in state.items():
        place = name.removeprefix("backbone.").removeprefix("bottom_up.").removeprefix("roi_heads.")
        counterpart = detectron2_to_torchvision(place)
        if counterpart in ours and not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, ours[counterpart]), name
            filled += 1
    assert filled == {"resnet18": 100, "resnet50": 265}[arch]


def change(arrays, *, drop="", rename=("", ""), add=None):
    return {name.replace(*rename): values for name, values in arrays.items() if not drop or drop not in name} | (add or {})


CASES = {
    "a prefix left": (
        lambda a: {f"module.{name}": values for name, values in a.items()},
        {},
        r"100 missing .*100 without a place \(module",
    ),
    "torchvision's names": (lambda a: {detectron2_to_torchvision(name): values for name, values in a.items()}, {}, "missing"),
    "norm called bn": (lambda a: change(a, rename=(".norm.", ".bn.")), {}, "missing"),
    "res5 lost": (lambda a: change(a, drop="res5"), {}, r"\d+ missing \(backbone\.bottom_up\.res5\.0"),
    "shortcuts unmapped": (lambda a: change(a, rename=("shortcut", "downsample")), {}, r"missing \(.*shortcut.*without a place \(res3"),
    "statistics dropped": (lambda a: change(a, drop="running_"), {}, r"40 missing \(.*running_mean"),
    "one wrong shape": (lambda a: a | {"res4.0.conv1.weight": a["res4.0.conv1.weight"][:5]}, {}, "not loaded .*res4.0.conv1.weight"),
    "one tensor lost": (
        lambda a: change(a, drop="res3.1.conv2.norm.bias"),
        {},
        r"1 missing \(backbone\.bottom_up\.res3\.1\.conv2\.norm\.bias\)",
    ),
    "something left over": (lambda a: change(a, add={"fc.weight": a["stem.conv1.norm.bias"]}), {}, r"1 without a place \(fc\.weight\)"),
    "nothing at all": (lambda a: {}, {}, "100 missing"),
    "no mark of heuristics": (lambda a: a, {"matching_heuristics": None}, "the checkpoint is not of this model: .* missing"),
}


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
@pytest.mark.parametrize("case", CASES)
def test_what_detectron2_accepts_is_refused(tmp_path, source, case, norm):
    edit, changes, sentence = CASES[case]
    model = detector("small_r18_fpn", norm)
    arrays = to_arrays(dict(source("resnet18").module.state_dict()), "resnet18")
    path = write_file(tmp_path / "bad.pkl", edit(arrays), **changes)
    if arrays and case != "nothing at all":
        DetectionCheckpointer(model).load(path)  # raises nothing
    with pytest.raises(UserError, match=sentence) as refusal:
        StrictCheckpointer(model).load(path)
    assert "\n" not in str(refusal.value)


def test_a_checkpoint_of_another_detector_is_refused(tmp_path):
    StrictCheckpointer(detector("small_r18_fpn", "BN"), str(tmp_path)).save("model_0000001", iteration=1)
    assert (tmp_path / LAST).read_text() == "model_0000001.pth"
    StrictCheckpointer(detector("small_r18_fpn", "BN")).load(str(tmp_path / "model_0000001.pth"))
    other = load_config("small_r18_fpn", ["MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", "3", "MODEL.ROI_BOX_HEAD.FC_DIM", "8"])
    with pytest.raises(
        UserError, match=r"not of this model: .* missing \(.*\); .*of another shape \(roi_heads\.box_predictor|of another shape"
    ):
        StrictCheckpointer(build_model(other)).load(str(tmp_path / "model_0000001.pth"))


def test_only_the_newest_checkpoints_are_kept_and_none_is_half_written(tmp_path, monkeypatch):
    model = torch.nn.Linear(2, 2)
    checkpointer = StrictCheckpointer(model, str(tmp_path), keep=2)
    for step in range(4):
        checkpointer.save(f"model_{step:07d}", iteration=step)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, "model_0000002.pth", "model_0000003.pth"]

    def full(data, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"could not be written \(.*No space left on device\); the last good one is .*model_0000003\.pth"):
        checkpointer.save("model_0000004", iteration=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, "model_0000002.pth", "model_0000003.pth"]


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_whatever_the_clock_says(tmp_path):
    model = torch.nn.Linear(2, 2)
    checkpointer = StrictCheckpointer(model, str(tmp_path), keep=3)
    assert (checkpointer.has_checkpoint(), checkpointer.get_checkpoint_file()) == (False, "")
    for step in range(3):
        torch.nn.init.constant_(model.weight, float(step))
        checkpointer.save(f"model_{step:07d}", iteration=step)
        os.utime(tmp_path / f"model_{step:07d}.pth", (1000 - step, 1000 - step))
    newest = tmp_path / "model_0000002.pth"
    assert (checkpointer.get_checkpoint_file(), checkpointer.note) == (str(newest), None)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    # As a process leaves it that was killed between a checkpoint and the file that names it.
    (tmp_path / LAST).unlink()
    again = StrictCheckpointer(torch.nn.Linear(2, 2), str(tmp_path))
    found = again.resume_or_load("", resume=True)
    assert found["iteration"] == 1
    assert torch.equal(again.model.weight, torch.full((2, 2), 1.0))
    assert again.note is not None
    assert again.note.startswith(f"warning: {newest} is not as it was written")
    assert again.note.endswith(f"going on from the one before it, {tmp_path / 'model_0000001.pth'}")
    for path in tmp_path.glob("model_*.pth"):
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"model_0000002\.pth"):
        again.get_checkpoint_file()
