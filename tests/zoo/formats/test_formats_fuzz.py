"""Random files: a model comes out only where every tensor is the file's own, else a sentence, and never another exception.

ZOO_FUZZ_EXAMPLES=5000 tries that many new examples for each property; without it, the same few in every run.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_checkpoints import ARCH, FAKES, other
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.backbones import create_backbone
from zoo.errors import UserError
from zoo.formats.engine import backbone_in, read_backbone
from zoo.formats.readers import reader_names
from zoo.reading.checkpoint_file import Checkpoint, open_checkpoint

PATH = Path("fuzzed.pth")
EXAMPLES = os.environ.get("ZOO_FUZZ_EXAMPLES")


def examples(count: int) -> settings:
    """The settings of a property that is tried with ``count`` examples in an ordinary run."""
    return settings(
        max_examples=int(EXAMPLES or count), deadline=None, derandomize=EXAMPLES is None, suppress_health_check=list(HealthCheck)
    )


KEYS = st.sampled_from(
    [
        *(
            "state_dict",
            "model",
            "teacher",
            "student",
            "moco_state",
            "classy_state_dict",
            "base_model",
            "trunk",
            "meta",
            "format",
            "encoders",
        ),
        *("module.encoder_q.conv1.weight", "encoder_q.0.conv1.weight", "backbone.conv1.weight", "conv1.weight", "layer1.0.conv1.weight"),
        *("layer1.0.conv3.weight", "layer4.0.conv1.weight", "fc.weight", "queue", "queue_index", "cls_token", "pos_embed"),
        *("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "module.", "", ".", "projection_head.0.weight", "prototypes.weight"),
        *("predictor.0.weight", "encoder.conv1.weight", "base_encoder.conv1.weight", "backbone.0.weight", "backbone.7.0.conv1.weight"),
        *("_feature_blocks.conv1.weight", "pytorch-lightning_version", "Memory_Bank", "linear.weight", "bn1.running_mean"),
    ]
)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.float64, torch.int64, torch.bool, torch.complex64, torch.bfloat16])
TENSORS = st.builds(
    lambda shape, dtype: torch.zeros(shape, dtype=dtype), st.lists(st.sampled_from([0, 1, 2, 3, 7, 64]), max_size=4), DTYPES
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.floats(allow_nan=True), st.text(max_size=4), st.binary(max_size=4))
CONTENTS = st.recursive(
    st.one_of(TENSORS, SCALARS),
    lambda inner: st.one_of(
        st.dictionaries(KEYS, inner, max_size=6),
        st.dictionaries(st.one_of(KEYS, st.integers(0, 3)), inner, max_size=4),
        st.lists(inner, max_size=3),
    ),
    max_leaves=24,
)


@functools.cache
def right() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = create_backbone(ARCH, image_size=32).state_dict()
    return {
        name: tensor + 3 if name.endswith("num_batches_tracked") else tensor + 0.1 * torch.rand(tensor.shape)
        for name, tensor in state.items()
    }


def attempt(content: Any, **options: Any):
    """The reading, or None where it was refused with one sentence."""
    try:
        return backbone_in(Checkpoint(PATH, content, "zip"), **options)
    except UserError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert len(sentence) < 4000
    return None


@examples(60)
@given(content=CONTENTS, format=st.sampled_from(["auto", *reader_names()]), arch=st.sampled_from([None, None, "resnet18", "test_vit"]))
def test_random_nested_content_is_refused(content, format, arch):
    assert attempt(content, format=format, arch=arch) is None


# Each change of a state dict: (dictionary, one of its names, a number) -> nothing.
def _delete(state, name, _number):
    del state[name]


def _rename(state, name, number):
    state[f"{name[:number]}x{name[number:]}"] = state.pop(name)


def _transpose(state, name, _number):
    state[name] = state[name].transpose(0, -1) if state[name].ndim else state[name].reshape(1)


def _retype(state, name, number):
    kinds = [torch.float16, torch.float64, torch.int32, torch.bool, torch.complex64, torch.bfloat16, torch.int64, torch.uint8]
    state[name] = state[name].to(kinds[number % len(kinds)])


def _spoil(state, name, number):
    tensor = state[name].clone()
    if tensor.is_floating_point() and tensor.numel():
        tensor.view(-1)[number % tensor.numel()] = [float("nan"), float("inf"), -float("inf")][number % 3]
    state[name] = tensor


def _flatten(state, name, _number):
    state[name] = state[name].reshape(-1)


def _expand(state, name, _number):
    state[name] = torch.zeros((), dtype=state[name].dtype).expand(state[name].shape)


def _empty(state, name, _number):
    state[name] = state[name].reshape(-1)[:0]


def _replace(state, name, number):
    state[name] = [None, 3, "text", [1.0], {"a": torch.ones(1)}][number % 5]


def _add(state, name, number):
    state[["extra.weight", "layer1.7.conv1.weight", "module.x", name + ".y", "layer9.0.conv1.weight"][number % 5]] = torch.ones(2)


def _add_inside(state, name, number):
    """Beside a tensor of the network, one more that is not of it."""
    state[name.rpartition(".")[0] + f".more{number}"] = torch.ones(1)


CHANGES = [_delete, _rename, _transpose, _retype, _spoil, _flatten, _expand, _empty, _replace, _add, _add_inside]
LAYOUTS = [name for name, fake in FAKES.items() if not fake.vit and fake.encoder not in ("key", "student")]


def _state_dict(content: Any) -> dict[str, Any]:
    """The dictionary in a fake that holds most tensors."""
    best = content
    todo = [content]
    while todo:
        one = todo.pop()
        if sum(isinstance(value, torch.Tensor) for value in one.values()) > sum(isinstance(value, torch.Tensor) for value in best.values()):
            best = one
        todo += [value for value in one.values() if isinstance(value, dict)]
    return best


@examples(60)
@given(
    layout=st.sampled_from(LAYOUTS),
    changes=st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 10**6), st.integers(0, 40)), min_size=1, max_size=3),
    explicit=st.booleans(),
)
def test_a_changed_file_gives_its_own_tensors_or_a_sentence(layout, changes, explicit):
    """What is taken for a tensor of the network must be the very tensor that stands where the layout has it."""
    fake = FAKES[layout]
    content = fake.build(dict(right()))
    state = _state_dict(content)
    # Where each right tensor stands (some layouts have it twice): the objects themselves are looked for, not their names.
    names_of = {id(tensor): name for name, tensor in right().items()}
    homes: dict[str, list[str]] = {name: [] for name in right()}
    for place, tensor in state.items():
        if id(tensor) in names_of:
            homes[names_of[id(tensor)]].append(place)
    assert all(homes.values())
    for change, position, number in changes:
        names = sorted(name for name, value in state.items() if isinstance(value, torch.Tensor))
        if names:
            change(state, names[position % len(names)], number)
    reading = attempt(content, format=fake.reader if explicit else fake.options.get("format", "auto"))
    if reading is None:
        return
    found = reading.backbone.state_dict()
    counters = [name for name in right() if name.endswith("num_batches_tracked")]
    for name, tensor in found.items():
        there = [state[place] for place in homes[name] if place in state]
        if not there and name in counters:
            assert not any(place in state for counter in counters for place in homes[counter])
            continue
        assert any(isinstance(one, torch.Tensor) and torch.equal(tensor, one.to(tensor.dtype)) for one in there), name


@pytest.mark.parametrize("layout", ["hcsc", "simsiam", "torchvision"])
def test_the_fuzzing_starts_from_files_that_are_read(layout):
    reading = attempt(FAKES[layout].build(dict(right())))
    assert reading is not None
    assert all(torch.equal(tensor, right()[name]) for name, tensor in reading.backbone.state_dict().items())


def test_wrong_networks_are_not_mistaken_for_right_ones():
    """The key encoder's tensors fit too; only names tell."""
    content = FAKES["moco v2"].build(other(right()))
    reading = attempt(content)
    assert all(torch.equal(tensor, other(right())[name]) for name, tensor in reading.backbone.state_dict().items())


SMALL = {f"layer{number}.weight": torch.arange(40.0) + number for number in range(4)}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    for name, zipped in (("zip", True), ("legacy", False)):
        torch.save({"state_dict": SMALL, "epoch": 3, "args": [1.0, "x", None]}, folder / name, _use_new_zipfile_serialization=zipped)
    return {name: (folder / name).read_bytes() for name in ("zip", "legacy")}


@examples(150)
@given(
    kind=st.sampled_from(["zip", "legacy"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
    trust=st.booleans(),
)
def test_damaged_bytes_give_the_same_tensors_or_a_sentence(originals, tmp_path_factory, kind, flips, keep, trust):
    data = bytearray(originals[kind])
    for place, value in flips:
        data[int(place * len(data))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(data[: int(keep * len(data))])
    try:
        content = open_checkpoint(path, trust_pickle=trust).content
    except UserError as error:
        sentence = str(error)
        content = None
    if content is None:
        assert "\n" not in sentence
    elif kind == "zip" and isinstance(content, dict) and set(content) == {"state_dict", "epoch", "args"}:
        # Its checksums cover every tensor; the legacy container has none.
        assert all(torch.equal(content["state_dict"][name], tensor) for name, tensor in SMALL.items())


@examples(60)
@given(head=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x02"]), data=st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path_factory, head, data):
    path = tmp_path_factory.getbasetemp() / "random.pth"
    path.write_bytes(head + data)
    with pytest.raises(UserError):
        read_backbone(path)
