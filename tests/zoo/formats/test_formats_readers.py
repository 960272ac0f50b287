"""Every layout that is read: the right tensors come out of a file of it, and the account is whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from fake_checkpoints import ARCH, FAKES, VIT_ARCH, Fake, behind, lightning, linear, moco, other, training
from torch import nn

from zoo.backbones import create_backbone
from zoo.errors import UserError
from zoo.formats.engine import read_backbone
from zoo.formats.readers import READERS, get_reader, reader_names
from zoo.model_folder.folder import load_zoo_model
from zoo.model_folder.importing import import_checkpoint
from zoo.models.selection import Hints, read_selection


@pytest.fixture(scope="module")
def right(make_backbone):
    return make_backbone(ARCH, image_size=32).state_dict()


@pytest.fixture(scope="module")
def right_vit(make_backbone):
    return make_backbone(VIT_ARCH, image_size=160).state_dict()


@pytest.fixture
def read(tmp_path):
    """Save a content and read the backbone in it."""

    def save_and_read(content, legacy=False, **options):
        path = tmp_path / "checkpoint.pth"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        return read_backbone(path, **options)

    return save_and_read


def equal(backbone: nn.Module, state) -> bool:
    found = backbone.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("fake", FAKES.values(), ids=FAKES.keys())
def test_the_right_tensors_come_out(fake: Fake, legacy, right, right_vit, read):
    state = right_vit if fake.vit else right
    # A test network of timm's has a width that no published ViT has, so it is named.
    named = {"arch": VIT_ARCH} if fake.vit else {}
    content = fake.build(state)
    reading = read(content, legacy=legacy, **named, **fake.options)
    assert (reading.reader.name, reading.encoder) == (fake.reader, fake.encoder)
    assert reading.also == fake.also
    wanted = other(state, -1.0) if fake.encoder in ("key", "student") else state
    if fake.encoder in ("key", "student"):
        wanted = other(other(state, -1.0))
    assert equal(reading.backbone, wanted)
    assert not reading.backbone.training
    account = reading.accounting
    assert len(account.matched) == len(state)
    assert account.filled == ()
    assert account.unknown == ()


def test_every_reader_is_tried_by_some_fake():
    tried = {fake.reader for fake in FAKES.values()} | {name for fake in FAKES.values() for name in fake.also}
    # Checkpoints of our own runs are written by the fixture of the runs; solo-learn's networks are read below; the general one is for files
    # of no layout (test_formats_engine.py); the others are of other names than timm's, or of what packages of others write.
    # test_dialects.py, test_peers.py
    elsewhere = {"transformers", "torchvision_features", "convnext", "ijepa", "msn", "stable_pretraining"}
    assert set(reader_names()) - tried == {"ours", "solo_learn", "general"} | elsewhere


def test_the_account_covers_every_tensor_of_the_state_dict(right, read):
    content = FAKES["hcsc"].build(right)
    account = read(content).accounting
    counted = len(account.matched) + len(account.dropped) + len(account.others) + len(account.unknown)
    assert counted == len(content["state_dict"])
    assert sorted(account.dropped) == ["fc.0.bias", "fc.0.weight", "fc.2.bias", "fc.2.weight"]
    assert {name.partition(".")[0] for name in account.others} == {"encoder_k", "queue", "queue_ptr", "queue_index"}
    lines = account.lines()
    assert lines[0] == f"matched {len(right)}, missing 0, unexpected 0"
    assert "dropped, heads of this network: 4 (fc 4)" in lines


def test_what_a_layout_does_not_know_is_named(right, read):
    content = training({**moco(right), "module.something.weight": torch.ones(2)})
    assert read(content).accounting.unknown == ("something.weight",)


def test_without_counters_they_are_zero_and_said(right, read):
    state = {name: tensor for name, tensor in right.items() if not name.endswith("num_batches_tracked")}
    reading = read(state)
    assert len(reading.accounting.filled) == len(right) - len(state)
    assert all(int(tensor) == 0 for name, tensor in reading.backbone.state_dict().items() if name.endswith("num_batches_tracked"))
    assert all(torch.equal(reading.backbone.state_dict()[name], tensor) for name, tensor in state.items())


def test_half_precision_is_cast_and_said(right, read):
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in right.items()}
    reading = read(half)
    assert len(reading.accounting.cast) == sum(tensor.is_floating_point() for tensor in right.values())
    assert equal(reading.backbone, {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in half.items()})


def test_hcsc_as_the_published_files_are_expected_to_be(tmp_path):
    """647 entries of a ResNet-50 (the list of keys of its code), through import to a zoo model."""
    query, key = torchvision.models.resnet50(num_classes=128), torchvision.models.resnet50(num_classes=128)
    for network in (query, key):
        network.fc = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 128))
        network.bn1.running_mean.fill_(0.25)
    state = {
        "queue": torch.randn(128, 16384),
        "queue_ptr": torch.zeros(1, dtype=torch.long),
        "queue_index": torch.zeros(16384, dtype=torch.long),
        **behind("encoder_q.", query.state_dict()),
        **behind("encoder_k.", key.state_dict()),
    }
    assert len(state) == 647
    path = tmp_path / "hcsc_200eps.pth"
    torch.save({"epoch": 200, "arch": "resnet50", "state_dict": behind("module.", state)}, path)
    done = import_checkpoint(path, tmp_path / "model")
    assert (done.reading.reader.name, done.reading.architecture.name, done.reading.encoder) == ("hcsc", "resnet50", "query")
    account = done.reading.accounting
    assert (len(account.matched), len(account.dropped), len(account.others)) == (318, 4, 325)
    backbone, manifest = load_zoo_model(tmp_path / "model")
    assert (manifest.method, manifest.epochs, manifest.encoder, manifest.parameters) == ("hcsc", 200, "query", 23508032)
    query.fc = nn.Identity()
    assert equal(backbone, query.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), query.eval()(images))


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_torchvisions_own_networks(arch, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torchvision.models.get_model(arch, weights=None)
    theirs.bn1.running_mean.fill_(0.1)
    path = tmp_path / "theirs.pth"
    torch.save(theirs.state_dict(), path)
    reading = read_backbone(path)
    assert (reading.reader.name, reading.architecture.name) == ("torchvision", arch)
    theirs.fc = nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(reading.backbone(images), theirs.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_vits_size_and_images_are_told_from_shapes(tmp_path, make_backbone):
    state = make_backbone("vit_tiny_patch16_224", image_size=64).state_dict()
    torch.save(behind("module.", behind("backbone.", state)), tmp_path / "vit.pth")
    reading = read_backbone(tmp_path / "vit.pth", format="dino")
    assert (reading.architecture.name, reading.architecture.image_size) == ("vit_tiny_patch16_224", 64)
    assert equal(reading.backbone, state)


def test_solo_learn(tmp_path, make_backbone, right):
    state = make_backbone("resnet18", image_size=64).state_dict()

    def content(backbone):
        return lightning(
            {
                **behind("backbone.", backbone),
                **behind("momentum_backbone.", other(backbone)),
                **linear("projector.", 0, 2),
                **linear("momentum_projector.", 0, 2),
                **linear("classifier."),
                "queue": torch.randn(2, 4, 8),
            }
        )

    torch.save(content(state), tmp_path / "large.ckpt")
    reading = read_backbone(tmp_path / "large.ckpt")
    assert (reading.reader.name, reading.encoder) == ("solo_learn", "online")
    assert equal(reading.backbone, state)


@pytest.mark.parametrize("by_hand", [False, True])
def test_solo_learns_small_stem_is_padded_by_two(tmp_path, by_hand):
    """As its base class makes it of torchvision's network, whichever reader takes it."""
    theirs = torchvision.models.resnet18(weights=None)
    theirs.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=2, bias=False)
    theirs.maxpool, theirs.fc = nn.Identity(), nn.Identity()
    theirs.bn1.running_mean.fill_(0.1)
    content = lightning({**behind("backbone.", theirs.state_dict()), **linear("projector.", 0, 2), **linear("classifier.")})
    torch.save(content, tmp_path / "small.ckpt")
    selection = read_selection("state_dict", "backbone.") if by_hand else None
    reading = read_backbone(tmp_path / "small.ckpt", selection=selection)
    assert (reading.reader.name, reading.function.arguments) == ("general" if by_hand else "solo_learn", {"stem_padding": 2})
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = theirs.eval()(images)
        torch.testing.assert_close(reading.backbone(images), wanted, rtol=1e-4, atol=1e-5)
        usual = read_backbone(tmp_path / "small.ckpt", hints=Hints(stem_padding=1)).backbone(images)
    assert float((usual - wanted).abs().max()) > 0.01 * float(wanted.abs().max())


def test_a_checkpoint_of_our_own_that_lies_outside_its_run(make_run, tmp_path):
    run = make_run(arch="resnet10_small")
    path = (run / "checkpoints" / "step_00000010.pt").rename(tmp_path / "alone.pt")
    content = torch.load(path, weights_only=True)
    for encoder, prefix in (("query", "encoder_q."), ("key", "encoder_k.")):
        reading = read_backbone(path, encoder=encoder)
        assert (reading.reader.name, reading.encoder, reading.epochs) == ("ours", encoder, 2)
        wanted = {name.removeprefix(prefix): tensor for name, tensor in content["model"].items() if name.startswith(prefix)}
        assert equal(reading.backbone, wanted)


def test_names_are_unique_and_unknown_ones_have_neighbours():
    assert len(set(reader_names())) == len(READERS)
    assert get_reader("hcsc").name == "hcsc"
    with pytest.raises(UserError, match="there is no format 'moco_v4'; did you mean 'moco_v3"):
        get_reader("moco_v4")


def test_a_bare_backbone_of_another_timm_architecture_is_read_by_name(tmp_path):
    network = create_backbone("test_efficientnet")
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.fill_(0.5)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"the architecture cannot be told .*--arch"):
        read_backbone(tmp_path / "net.pth")
    assert equal(read_backbone(tmp_path / "net.pth", arch="test_efficientnet").backbone, network.state_dict())


def test_every_format_is_in_the_docs():
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    assert [name for name in reader_names() if f"`{name}`" not in text] == []
