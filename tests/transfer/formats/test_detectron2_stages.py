"""The check of converted weights: a good file passes bit for bit, and each mistake that detectron2 lets pass is found."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache

import pytest
from typer.testing import CliRunner

from transfer import conversion
from transfer.cli import app
from transfer.formats.detectron2_config import config_values
from transfer.formats.detectron2_file import DETECTRON2, write
from transfer.formats.detectron2_stages import check_file, compare_stages, load_resnet
from transfer.presence import has_detectron2, install_line
from zoo.errors import UserError
from zoo.hashing import tensors_sha256
from zoo.models.model import Model

if not has_detectron2():
    pytest.skip(f"detectron2 is not installed: {install_line()}", allow_module_level=True)


@pytest.fixture(scope="module")
def source(make_backbone):
    """Models whose weights and statistics are far from any initial value, and whose pixel statistics are far from ImageNet's."""

    @cache
    def make(arch):
        module = make_backbone(arch, image_size=64, seed=10)
        hashed = tensors_sha256(module.state_dict())
        return Model(module, "run", "run", arch, None, hashed, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))

    return make


def edited(path, edit):
    """The file with its tensors changed."""
    content = pickle.loads(path.read_bytes())
    content["model"] = edit(content["model"])
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("arch", ["resnet50", "resnet18"])
def test_a_converted_backbone_is_bit_equal_stage_by_stage(tmp_path, source, arch):
    model = source(arch)
    write(model, tmp_path / "a.pkl")
    differences = compare_stages(model, load_resnet(tmp_path / "a.pkl", config_values(model)))
    assert [difference.stage for difference in differences] == ["stem", "res2", "res3", "res4", "res5"]
    assert all(difference.largest == 0.0 for difference in differences)
    assert all(0 < difference.from_pixels < 1e-5 for difference in differences)


def test_the_command_prints_the_table(tmp_path):
    out = str(tmp_path / "a.pkl")
    done = CliRunner().invoke(app, ["convert", "random:resnet18", "--to", "detectron2", "--verify", "--out", out])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[1] == "stage  same input  from pixels (relative L2)"
    assert [line.split()[:2] for line in lines[2:7]] == [[stage, "bit-equal"] for stage in ("stem", "res2", "res3", "res4", "res5")]


def lose_statistics(arrays):
    return {name: values for name, values in arrays.items() if "running_" not in name}


def lose_shortcut(arrays):
    return {name: values for name, values in arrays.items() if not name.startswith("res3.0.shortcut")}


def say_bn(arrays):
    return {name.replace(".norm.", ".bn."): values for name, values in arrays.items()}


def swap_channels(arrays):
    return {**arrays, "stem.conv1.weight": arrays["stem.conv1.weight"][:, ::-1].copy()}


@pytest.mark.parametrize(
    ("plant", "config", "sentence"),
    [
        (None, {"MODEL.RESNETS.STRIDE_IN_1X1": True}, r"from res3 on \(.* on one input\): .* stride in res3 .*STRIDE_IN_1X1 must be False"),
        (None, {"INPUT.FORMAT": "BGR"}, r"from stem on \(.* from pixels\): the weights agree, so channel order, .*FORMAT RGB"),
        (None, {"MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675]}, r"the weights agree, .* MODEL\.PIXEL_MEAN \[127\.5, 102\.0, 76\.5\]"),
        (None, {"MODEL.PIXEL_STD": [1.0, 1.0, 1.0]}, r"the weights agree, .* MODEL\.PIXEL_STD \[51\.0, 63\.75, 76\.5\]"),
        (lose_statistics, {}, "from stem on .*the stem's weights or statistics are not the model's"),
        (lose_shortcut, {}, "from res3 on .*weights, statistics, shortcut"),
        (say_bn, {}, "from stem on .*the stem's weights or statistics"),
        (swap_channels, {}, "from stem on .*the stem's weights or statistics"),
    ],
)
def test_planted_mistakes_are_found(tmp_path, source, plant, config, sentence):
    # Only bottlenecks have a 1x1 convolution that could stride.
    model = source("resnet50" if "MODEL.RESNETS.STRIDE_IN_1X1" in config else "resnet18")
    path = tmp_path / "a.pkl"
    write(model, path)
    if plant:
        edited(path, plant)
    with pytest.raises(UserError, match=sentence) as refusal:
        check_file(model, path, config)
    assert "\n" not in str(refusal.value)


def test_a_file_that_fails_the_check_is_not_kept(tmp_path, make_run, monkeypatch):
    def write_badly(model, path):
        write(model, path)
        edited(path, lose_statistics)

    monkeypatch.setitem(conversion.TARGETS, "detectron2", replace(DETECTRON2, write=write_badly))
    run = make_run(arch="resnet18", image_size=64)
    with pytest.raises(UserError, match="does not give the same activations"):
        conversion.convert(str(run), "detectron2", tmp_path / "a.pkl")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
