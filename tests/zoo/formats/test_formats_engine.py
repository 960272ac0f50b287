"""What the engine refuses, and what it says then: never a wrong model."""

from __future__ import annotations

import re
import shlex

import pytest
import timm
import torch
from data_files import shared_data
from fake_checkpoints import ARCH, FAKES, behind, linear, moco, other, training
from layout_checkpoints import sincos

from zoo.errors import UserError
from zoo.formats.engine import read_backbone
from zoo.models.selection import Hints, read_selection


@pytest.fixture(scope="module")
def right(make_backbone):
    return make_backbone(ARCH, image_size=32).state_dict()


@pytest.fixture
def refusal(tmp_path):
    """Save a content; the sentence by which reading it is refused."""

    def save_and_read(content, **options):
        path = tmp_path / "checkpoint.pth"
        torch.save(content, path)
        with pytest.raises(UserError) as error:
            read_backbone(path, **options)
        text = str(error.value)
        assert str(path) in text
        assert "\n" not in text
        return text

    return save_and_read


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


def test_missing_tensors_are_named_with_the_nearest_prefix(right, refusal):
    content = training(without(moco(right), "module.encoder_q.layer1.0.conv1.weight", "module.encoder_q.bn1.weight"))
    text = refusal(content)
    assert (
        f"2 of its {len(right)} tensors are missing in 'state_dict' under 'module.encoder_q.' (bn1.weight, layer1.0.conv1.weight)" in text
    )
    assert f"the nearest prefix is 'module.encoder_k.' in 'state_dict', with {len(right)} of the names" in text


def test_some_counters_missing_is_a_broken_file(right, refusal):
    text = refusal(without(right, "bn1.num_batches_tracked"))
    assert "1 of its 78 tensors are missing in the file's own dictionary" in text
    assert "(bn1.num_batches_tracked)" in text


def test_a_tensor_too_many_is_named(right, refusal):
    assert "1 not part of it (layer1.0.extra.weight)" in refusal({**right, "layer1.0.extra.weight": torch.ones(3)})


def test_another_shape_is_named(right, refusal):
    text = refusal({**right, "layer2.0.bn1.weight": torch.ones(3)})
    assert "1 of another shape (layer2.0.bn1.weight (3,) for (64,))" in text


def test_a_transposed_tensor_is_named(right, refusal):
    assert "1 of another shape (layer2.0.conv1.weight" in refusal(
        {**right, "layer2.0.conv1.weight": right["layer2.0.conv1.weight"].transpose(0, 1)}
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers_are_named(right, refusal, dtype):
    assert "1 of another type (conv1.weight" in refusal({**right, "conv1.weight": right["conv1.weight"].to(dtype)})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("conv1.weight", float("nan"), "'conv1.weight' has values that are not finite"),
        ("conv1.weight", float("inf"), "'conv1.weight' has values that are not finite"),
        ("bn1.running_var", -0.5, "'bn1.running_var' has negative variances"),
    ],
)
def test_values_that_no_network_has(right, refusal, name, value, sentence):
    broken = right[name].clone()
    broken.view(-1)[1] = value
    assert sentence in refusal({**right, name: broken})


def test_float64_beyond_float32(right, refusal):
    broken = right["conv1.weight"].double()
    broken.view(-1)[0] = 1e300
    assert "'conv1.weight' has values beyond float32" in refusal({**right, "conv1.weight": broken})


def test_a_tensor_that_claims_more_than_it_holds_is_never_copied(right, refusal):
    claims = torch.zeros(1).expand(1 << 40)
    told = refusal({**right, "layer1.0.bn1.weight": claims})
    assert "stand for 4,398,051,477,736; no file of weights needs that, so nothing of it was allocated" in told


def test_a_network_that_has_never_seen_an_image(right, refusal):
    fresh = {
        name: torch.zeros_like(tensor) if "running_mean" in name else torch.ones_like(tensor) if "running_var" in name else tensor
        for name, tensor in right.items()
    }
    assert "a network that has never seen an image" in refusal(fresh)


def test_the_key_encoder_alone_is_not_taken_for_the_query(right, refusal):
    state = without(moco(right), *(name for name in moco(right) if "encoder_q" in name))
    assert "has no query network; it has key: choose with --encoder" in refusal(training(state))


def test_an_encoder_that_the_layout_does_not_have(right, refusal):
    assert "has no 'teacher' network: MoCo v1 or v2 pre-training checkpoint has query, key" in refusal(
        training(moco(right)), encoder="teacher"
    )


def test_two_networks_of_equal_standing_are_asked_about(right, refusal):
    content = {"state_dict": right, "state_dict_ema": other(right)}
    assert "holds several networks; choose with --encoder raw or --encoder ema" in refusal(content)


def test_two_layouts_that_would_read_different_tensors_are_listed(right, refusal):
    text = refusal({"state_dict": right, "model": other(right)})
    assert "fits several formats, which would read different tensors; choose with --format" in text
    assert "torchvision: 'state_dict'" in text
    assert "barlow_twins: 'model'" in text


def test_aliases_that_differ_are_a_contradiction(right, refusal):
    content = FAKES["densecl, training"].build(right)
    content["state_dict"]["encoder_q.0.conv1.weight"] = right["conv1.weight"] + 1
    assert "'backbone.conv1.weight' and 'encoder_q.0.conv1.weight' are two names of one tensor" in refusal(content)


def test_a_file_that_is_not_of_the_format_asked_for(right, refusal):
    text = refusal(FAKES["simsiam"].build(right), format="hcsc")
    assert "is not HCSC pre-training checkpoint: it has no tensors in 'state_dict' under 'encoder_q.'" in text
    assert "'state_dict': dict of" in text


@pytest.fixture
def read(tmp_path):
    """Save a content and read the backbone in it."""

    def save_and_read(content, **options):
        torch.save(content, tmp_path / "checkpoint.pth")
        return read_backbone(tmp_path / "checkpoint.pth", **options)

    return save_and_read


def equal(backbone, state):
    found = backbone.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    "content",
    [
        lambda right: {"net": behind("my.trunk.", right), "epoch": 3},
        lambda right: training(behind("module.encoder_q.", {**right, **linear("fc.", 0, 2)})),
        lambda right: {"state": {"model": {**behind("module.net.", right), **linear("module.projector.", 0)}}},
        lambda right: {"state_dict": behind("model.", right), "n_averaged": torch.ones((), dtype=torch.long)},
    ],
    ids=["of a fork", "of MoCo without its queue", "deep", "behind model."],
)
def test_a_file_of_no_known_layout_with_one_network_is_read_with_a_note(content, right, read):
    reading = read(content(right))
    assert reading.reader.name == "general"
    assert "no known layout" in reading.reader.note
    assert reading.method is None
    assert equal(reading.backbone, right)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda right: behind("encoder_momentum.", right), "behind 'encoder_momentum.' in 'state_dict' may follow the trained one"),
        (lambda right: behind("module.encoder_k.", right), "behind 'module.encoder_k.' in 'state_dict' may follow the trained one"),
        (lambda right: {**behind("one.", right), **behind("two.", other(right))}, "it holds several networks: choose with"),
        (
            lambda right: {**behind("one.", right), **behind("two.", without(other(right), "conv1.weight"))},
            "beside the network behind 'one.' there are tensors of another one (77 of its names behind 'two.' in 'state_dict')",
        ),
        (lambda right: {**behind("one.", without(right, "bn1.weight"))}, "names of a backbone stand behind 'one.' in 'state_dict'"),
    ],
    ids=["momentum", "key", "two", "two, one broken", "broken"],
)
def test_a_network_of_no_known_layout_is_not_guessed(content, sentence, right, refusal):
    """`startswith("encoder")` would take it."""
    text = refusal(training(content(right)))
    assert "of no known format" in text
    assert sentence in text


def _options(command):
    """What a command in a message says, as options of :func:`read_backbone`."""
    words = shlex.split(command)
    assert words[:2] == ["zoo", "import"]
    assert words[3:5] == ["--out", "DIR"]
    given = dict(zip(words[5::2], words[6::2], strict=True))
    selection = read_selection(given.pop("--key", None), given.pop("--prefix", None))
    return words[2], {option.removeprefix("--"): value for option, value in given.items()} | {"selection": selection}


@pytest.mark.parametrize(
    "content",
    [
        lambda right: training(behind("module.encoder_momentum.", right)),
        lambda right: {"a.b": {"c": behind("one.", right)}, "d": behind("one.", other(right))},
        lambda right: training(behind("module.", {**behind("encoder_k.", right), "queue": torch.ones(4, 8)})),
        lambda right: {"state_dict": right, "state_dict_ema": other(right)},
        lambda right: {"state_dict": right, "model": other(right)},
    ],
    ids=["momentum", "two places", "key alone", "raw and ema", "two formats"],
)
def test_the_command_that_a_refusal_prints_reads_the_file(content, right, refusal):
    text = refusal(content(right))
    command = re.search(r"zoo import .*?(?= or zoo import|$)", text)[0]
    path, options = _options(command)
    assert equal(read_backbone(path, **options).backbone, right)


def test_by_hand(right, read, refusal):
    content = {"state": {"model": {**behind("student.net.", right), **behind("teacher.net.", other(right))}, "model_ema": other(right)}}
    by_hand = read_selection("state.model", "student.net.")
    reading = read(content, selection=by_hand)
    assert (reading.reader.name, reading.selection) == ("general", by_hand)
    assert equal(reading.backbone, right)
    assert len(reading.accounting.others) == len(right)
    assert "no dictionary of tensors at 'state.modell'; it has: 'state.model', 'state.model_ema'" in refusal(
        content, selection=read_selection("state.modell")
    )
    assert "no tensor whose name begins with 'pupil.'; names in it begin with student., teacher." in refusal(
        content, selection=read_selection("state.model", "pupil.")
    )
    assert "instead of --format moco: leave one out" in _message(content, read, selection=by_hand, format="moco")


def _message(content, read, **options):
    with pytest.raises(UserError) as error:
        read(content, **options)
    return str(error.value)


def test_by_hand_renamed_and_dropped(right, read):
    strange = {name.replace("layer", "stage_").replace("bn1", "norm_one"): tensor for name, tensor in right.items()}
    content = {"weights": {**behind("module.", strange), "module.stage_1.extra": torch.ones(2)}}
    selection = read_selection(None, "module.", [r"stage_(\d)=layer\1", "norm_one=bn1"], [r"\.extra$"])
    reading = read(content, selection=selection)
    assert equal(reading.backbone, right)
    assert reading.accounting.dropped == ("stage_1.extra",)
    selection = read_selection(None, "", ["norm_one.*=bn1.weight"])
    assert "would both be 'bn1.weight'; change --rename or --drop one" in _message({"w": strange}, read, selection=selection)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((None, None, ["a"]), "--rename takes 'PATTERN=REPLACEMENT', and 'a' is not that"),
        ((None, None, ["(=b"]), r"--rename takes a regular expression, and '\(=b' is none"),
        ((None, None, [r"a=\3"]), r"--rename takes a regular expression, and 'a=\\3' is none"),
        ((None, None, None, ["["]), r"--drop takes a regular expression, and '\[' is none"),
    ],
)
def test_by_hand_with_a_mistake(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        read_selection(*arguments)


def test_what_the_file_itself_says_that_it_is(tmp_path, make_backbone, read):
    """Names and shapes are those of a ResNet-18, and the pooling of the blurred one has no tensors."""
    state = make_backbone("resnetblur18", image_size=64).state_dict()
    assert read({"state_dict": state, "arch": "resnetblur18"}).architecture.name == "resnetblur18"
    assert read({"state_dict": state, "arch": "resnet18"}).architecture.name == "resnet18"
    assert read({"state_dict": state, "arch": "resnet50"}).architecture.name == "resnet18"
    assert read({"state_dict": state, "arch": "a network of mine"}).architecture.name == "resnet18"
    assert read({"state_dict": state, "arch": "resnetblur18"}, arch="resnet18").architecture.name == "resnet18"


def test_what_others_call_a_head_is_kept_where_the_network_has_it(make_backbone, read):
    state = make_backbone("convnext_tiny", image_size=64).state_dict()
    assert "head.norm.weight" in state
    reading = read({"state_dict": {**state, **linear("head.fc.")}})
    assert (reading.reader.name, reading.architecture.name) == ("timm", "convnext_tiny")
    assert equal(reading.backbone, state)
    assert reading.accounting.dropped == ("head.fc.weight", "head.fc.bias")


def test_hirl_aliases_of_every_method(right, refusal):
    for alias in ("encoder.", "encoder_q.", "teacher.backbone.", "model.encoder.", "model.teacher.backbone."):
        front = "model." if alias.startswith("model.") else ""
        state = {**behind(f"{front}backbone.", right), **behind(alias, {**right, "conv1.weight": right["conv1.weight"] + 1})}
        assert f"'{front}backbone.conv1.weight' and '{alias}conv1.weight' are two names of one tensor" in refusal({"model": state})


def test_the_mark_of_openmmlab_outranks_general_layouts(right, refusal, read):
    """Without its names of the key encoder a classifier's fit HIRL's layout, and others DenseCL's."""
    meta = {"mmengine_version": "0.10.7", "cfg": "model = dict()"}
    reading = read({"meta": meta, "state_dict": {**behind("backbone.", right), **linear("head.fc.")}})
    assert (reading.reader.name, reading.also) == ("mmselfsup", ())
    assert read({"state_dict": {**behind("backbone.", right), **linear("head.fc.")}}).reader.name == "hirl"
    bottlenecks = {**right, "layer1.0.conv3.weight": torch.ones(128, 32, 1, 1)}
    caffe = {"mmengine_version": "0.10.7", "cfg": "backbone=dict(depth=50, style='caffe', type='ResNet')"}
    assert "style 'caffe'" in refusal({"meta": caffe, "state_dict": behind("backbone.", bottlenecks)}, arch="resnet10_small")


def test_moco_v3s_small_vit_is_not_read_as_timms(tmp_path, make_backbone):
    state = make_backbone("vit_small_patch16_224", image_size=32).state_dict()
    torch.save(training(behind("module.base_encoder.", state)), tmp_path / "vit.pth")
    with pytest.raises(UserError, match=r"12 heads where timm's has 6: .*say which with --heads 12 or --heads 6"):
        read_backbone(tmp_path / "vit.pth")
    assert read_backbone(tmp_path / "vit.pth", hints=Hints(heads=6)).backbone.blocks[0].attn.num_heads == 6
    reading = read_backbone(tmp_path / "vit.pth", hints=Hints(heads=12))
    assert (reading.backbone.blocks[0].attn.num_heads, reading.function.arguments) == (12, {"num_heads": 12})


@pytest.mark.parametrize("sixteen_bits", [False, True])
def test_moco_v3s_positions_speak_for_it_wherever_they_are(make_backbone, read, refusal, sixteen_bits):
    """A converted file (DeiT's `model`) has no other mark. MAE's positions are the same numbers with columns first: no mark."""
    state = make_backbone("vit_tiny_patch16_224", image_size=64).state_dict()
    fixed = sincos(tuple(state["pos_embed"].shape))
    fixed = fixed.half() if sixteen_bits else fixed
    assert "has the fixed sine-cosine positions of MoCo v3, whose networks of this width have 12 heads" in refusal(
        {"model": {**state, "pos_embed": fixed}}
    )
    columns_first = torch.cat([fixed[:, :1], fixed[:, 1:].reshape(4, 4, -1).transpose(0, 1).reshape(1, 16, -1)], 1)
    for positions in (columns_first, fixed + 0.01, state["pos_embed"]):
        assert read({"model": {**state, "pos_embed": positions}}).backbone.blocks[0].attn.num_heads == 3
    lightning_file = {"state_dict": {**behind("backbone.", state), **linear("projector.", 0), **linear("classifier.")}}
    lightning_file |= {"pytorch-lightning_version": "2.1.0", "hyper_parameters": {"method": "mocov3"}}
    assert "in a checkpoint of solo-learn's MoCo v3" in refusal(lightning_file)
    content = FAKES["mmselfsup, vit"].build(state)
    assert "in a checkpoint of OpenMMLab's MoCo v3" in refusal(content)
    assert read(content, hints=Hints(heads=12)).function.arguments == {"num_heads": 12}


def test_a_normalised_mean_of_patches_is_kept(make_backbone, read):
    """MAE's fine-tuned networks: `fc_norm` in the place of `norm`."""
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, global_pool="avg")
    reading = read({"model": {**network.state_dict(), **linear("head.")}})
    assert reading.function.arguments == {"global_pool": "avg"}
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(reading.backbone(images), network.eval()(images))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "is no checkpoint of a known layout: it holds list"),
        (torch.ones(3), r"it holds tensor [3]"),
        ({}, "of no known format: it holds nothing; no tensor in it is named like a backbone's first"),
        ({"lightly_train": {"models": 1}, "state_dict": {}}, "export it with its part='model'"),
        ({"model": {"stem.conv1.weight": torch.ones(1)}, "__author__": "x"}, "is converted for detectron2"),
        ({"state_dict": {"module.linear.weight": torch.ones(2), "module.linear.bias": torch.ones(2)}}, "a linear classifier alone"),
        ({"type": "shard_list", "classy_meta": 1}, "one shard of a VISSL checkpoint"),
        (
            {"state_dict": {"model.backbone.0.weight": torch.ones(3), "model.backbone.3.0.shortcut.0.weight": torch.ones(1)}},
            "is of lightly's command line",
        ),
    ],
)
def test_what_is_known_to_be_unreadable_says_the_way_out(content, sentence, refusal):
    assert sentence in refusal(content)


def test_a_real_checkpoint_of_a_network_that_is_not_ours():
    path = shared_data() / "cifar10-resnet20" / "resnet20-12fca82f.th"
    with pytest.raises(
        UserError, match=r"a ResNet of 3-3-3 basic blocks whose conv1 is \[16, 3, 3, 3\] is no architecture of this toolkit"
    ):
        read_backbone(path)
    with pytest.raises(UserError, match=r"is not a whole resnet18_small: \d+ of its 120 tensors are missing"):
        read_backbone(path, arch="resnet18_small")


def test_names_out_of_a_file_cannot_act_on_the_terminal(right, refusal):
    text = refusal({**right, "layer1.0.\x1b[2Jextra\nerror: all is well": torch.ones(3)})
    assert r"layer1.0.\x1b[2Jextra\nerror: all is well" in text
