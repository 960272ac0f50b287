"""Opening checkpoint files: nothing in them runs, nothing is allocated that is not there, and every accident has a sentence of its own."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from layout_checkpoints import writers_classes
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from zoo.errors import UserError
from zoo.reading.checkpoint_file import open_checkpoint

STATE = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": nn.Parameter(torch.ones(3))}
CONTAINERS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


@pytest.fixture
def save(tmp_path):
    def write(content, legacy=False, name="checkpoint.pth", **options):
        path = tmp_path / name
        torch.save(content, path, _use_new_zipfile_serialization=not legacy, **options)
        return path

    return write


def check(content):
    assert content.keys() == STATE.keys()
    assert all(torch.equal(content[name], tensor) for name, tensor in STATE.items())


@CONTAINERS
def test_plain_tensors(save, legacy):
    checkpoint = open_checkpoint(save(STATE, legacy))
    assert (checkpoint.container, checkpoint.replaced) == ("legacy" if legacy else "zip", ())
    check(checkpoint.content)


def test_safetensors_by_any_name(tmp_path):
    save_file({name: tensor.detach() for name, tensor in STATE.items()}, tmp_path / "weights.bin")
    checkpoint = open_checkpoint(tmp_path / "weights.bin")
    assert checkpoint.container == "safetensors"
    check(checkpoint.content)


class Settings(dict):
    """Stands for the dictionaries with attributes that training scripts save."""


Settings.__module__, Settings.__qualname__ = "easydict", "EasyDict"


@pytest.fixture
def _easydict(monkeypatch):
    """A module of that name, so that pickle finds the class when it writes."""
    module = types.ModuleType("easydict")
    module.EasyDict = Settings
    monkeypatch.setitem(sys.modules, "easydict", module)


HARMLESS = {
    "argparse.Namespace": argparse.Namespace(lr=0.1, model=argparse.Namespace(depth=3)),
    "numpy scalar": np.float64(0.1),
    "numpy array": np.arange(6.0).reshape(2, 3),
    "omegaconf": OmegaConf.create({"optimizer": {"lr": [0.1, None]}, "name": "x", "deep": {"flag": True}}),
    "path": Path("/data/imagenet"),
    "defaultdict": collections.defaultdict(list, {"loss": [1.0, 2.0]}),
    "deque": collections.deque([1, 2, 3], maxlen=5),
    "datetime": datetime.datetime(2021, 5, 1, 12, 30),
    "simple namespace": types.SimpleNamespace(a=1),
    "easydict": Settings(lr=0.1, inner=Settings(a=1)),
    "ordered with attributes": collections.OrderedDict(a=1),
}


@pytest.mark.usefixtures("_easydict")
@CONTAINERS
@pytest.mark.parametrize("extra", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_training_scripts_leave_beside_the_weights_is_read_without_being_made(save, legacy, extra):
    """torch alone refuses each of these; here the tensors come out, and what was left out is named."""
    path = save({"state_dict": STATE, "extra": extra, "again": [extra, (extra,)]}, legacy)
    checkpoint = open_checkpoint(path)
    check(checkpoint.content["state_dict"])
    found = checkpoint.content["extra"]
    if not isinstance(extra, collections.OrderedDict):
        assert checkpoint.replaced
        assert type(found) is not type(extra)


@CONTAINERS
def test_files_of_numpy_1_name_its_modules_otherwise(save, legacy, tmp_path):
    path = save({"state_dict": STATE, "lr": np.float64(0.1)}, legacy)
    if not legacy:
        path = _rewritten(path, tmp_path / "numpy1.pth", lambda data: data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    else:
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    checkpoint = open_checkpoint(path)
    check(checkpoint.content["state_dict"])
    assert "numpy.core.multiarray.scalar" in checkpoint.replaced


def _rewritten(path, target, change, compression=zipfile.ZIP_STORED):
    """A zip checkpoint whose pickle was changed, or that was packed otherwise."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, change(data) if entry.filename.endswith("data.pkl") else data, compress_type=compression)
    return target


class Command:
    """Pickles to a call that makes a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touch(path):
    Path(path).write_text("ran")


@CONTAINERS
@pytest.mark.parametrize("trust", [False, True], ids=["", "trusted"])
def test_a_reducer_that_runs_a_command_does_not_run_it(save, legacy, trust, tmp_path):
    marker = tmp_path / "marker"
    path = save({"state_dict": STATE, "x": Command(os.system, f"touch {marker}")}, legacy)
    with pytest.raises(UserError, match=r"asks for posix\.system, to act on this machine; nothing of it was called"):
        open_checkpoint(path, trust_pickle=trust)
    assert not marker.exists()
    # The file does what it says for whoever reads it carelessly.
    torch.load(path, weights_only=False)
    assert marker.exists()


@CONTAINERS
@pytest.mark.parametrize("function", [eval, exec, getattr, touch], ids=["eval", "exec", "getattr", "own"])
def test_unknown_names_are_refused_by_name_and_never_called(save, legacy, function, tmp_path):
    marker = tmp_path / "marker"
    code = f"__import__('pathlib').Path({str(marker)!r}).write_text('ran')"
    arguments = {"eval": (code,), "exec": (code,), "getattr": (marker, "touch"), "touch": (str(marker),)}[function.__name__]
    path = save({"state_dict": STATE, "x": Command(function, *arguments)}, legacy)
    name = f"{function.__module__}.{function.__name__}"
    with pytest.raises(UserError, match=rf"asks for what weights have no use for: {name}; .*--trust-pickle"):
        open_checkpoint(path)
    checkpoint = open_checkpoint(path, trust_pickle=True)
    check(checkpoint.content["state_dict"])
    assert name in checkpoint.replaced
    assert not marker.exists()


def exclude_bias(parameter):
    """Stands for a function of a training script, which the pickle mentions and does not call."""


@pytest.fixture
def _script(monkeypatch):
    """The function as one of the script's, where pickle looks for it when it writes."""
    monkeypatch.setattr(exclude_bias, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "exclude_bias", exclude_bias, raising=False)


@pytest.mark.usefixtures("_script")
@CONTAINERS
def test_functions_of_the_script_are_left_out_where_they_are_only_mentioned(save, legacy):
    checkpoint = open_checkpoint(save({"state_dict": STATE, "param_groups": [{"filter": exclude_bias}]}, legacy))
    check(checkpoint.content["state_dict"])
    assert checkpoint.replaced == ("__main__.exclude_bias",)
    with pytest.raises(UserError, match=r"no use for: __main__\.exclude_bias; nothing of it was called"):
        open_checkpoint(save({"state_dict": STATE, "x": Command(exclude_bias, 1)}, legacy))


@CONTAINERS
def test_functions_of_mmengines_history_buffer_are_left_out(save, legacy):
    with writers_classes():
        history = sys.modules["mmengine.logging.history_buffer"].HistoryBuffer
        path = save({"state_dict": STATE, "message_hub": {"log_scalars": {"loss": history()}}}, legacy)
        checkpoint = open_checkpoint(path)
        check(checkpoint.content["state_dict"])
        assert {"builtins.getattr", "mmengine.logging.history_buffer.HistoryBuffer"} <= set(checkpoint.replaced)
        others = {
            "of another class": Command(getattr, Path, "cwd"),
            "of an object": Command(getattr, history(), "max_length"),
            "with a default": Command(getattr, history, "min", None),
            "not called": getattr,
        }
        for extra in others.values():
            for beside in (history(), None):
                path = save({"state_dict": STATE, "x": extra} | ({"y": beside} if extra is not getattr else {}), legacy)
                with pytest.raises(UserError, match=r"asks for what weights have no use for: builtins\.getattr"):
                    open_checkpoint(path)


@CONTAINERS
def test_whole_modules_are_named(save, legacy):
    path = save({"model": nn.Sequential(nn.Linear(2, 2), nn.ReLU())}, legacy)
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.activation\.ReLU, torch\.nn\.modules\.container\.Sequential"):
        open_checkpoint(path)


def test_the_users_own_list_of_safe_names_is_left_as_it_was(save):
    before = set(torch.serialization.get_safe_globals())
    open_checkpoint(save({"args": argparse.Namespace(lr=1)}))
    assert set(torch.serialization.get_safe_globals()) == before


ACCIDENTS = {
    "empty": (b"", "holds no weights: it is empty"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "it is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "it is a Git LFS pointer"),
    "zeros": (bytes(4096), "begins with zeros, as a download that was broken off"),
    "text": (b"not a checkpoint at all" * 40, r"it begins with b'not a ch'"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(60), "compressed with gzip; unpack it first"),
    "pickle": (pickle.dumps({"model": {"a": np.zeros(3)}, "__author__": "x"}, protocol=2), "a plain pickle .* reading it would run it"),
    "tar": (b"storages" + bytes(249) + b"ustar\x0000" + bytes(300), "it is a tar archive"),
}


@pytest.mark.parametrize(("data", "sentence"), ACCIDENTS.values(), ids=ACCIDENTS.keys())
def test_accidents_have_sentences_of_their_own(tmp_path, data, sentence):
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    with pytest.raises(UserError, match=sentence) as error:
        open_checkpoint(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        open_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="is a folder, not a checkpoint file"):
        open_checkpoint(tmp_path)


@CONTAINERS
@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short(save, legacy, part):
    path = save(STATE | {"large": torch.randn(1000)}, legacy)
    data = path.read_bytes()
    path.write_bytes(data[: max(1, int(part * len(data)))])
    with pytest.raises(UserError, match=r"was cut short|is damaged|no checkpoint"):
        open_checkpoint(path)


def test_cut_short_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"large": torch.randn(1000)}, path)
    data = path.read_bytes()
    for length in (4, 30, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"safetensors|header and its length do not fit"):
            open_checkpoint(path)


def test_a_flipped_byte_in_a_zip_is_found(save):
    """Pages that are mapped are checked by nobody else."""
    path = save({"large": torch.zeros(4096)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"is damaged: '.*data/0' in it does not have its checksum"):
        open_checkpoint(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        with archive.open("archive/data/0", "w") as file:
            for _ in range(64):
                file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(UserError, match=r"but what is packed in it says that it is 671\d{5}: no weights compress like that"):
        open_checkpoint(path)


def test_a_zip_whose_entries_share_bytes_is_not_unpacked(save):
    """Two directory entries of one place: stored, and yet larger inside than outside."""
    path = save({f"large{number}": torch.randn(4096) for number in range(8)})
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    count, size, start = struct.unpack("<HII", data[end + 10 : end + 20])
    directory = data[start : start + size]
    twice = (
        data[:start]
        + directory
        + directory
        + data[end : end + 8]
        + struct.pack("<HHII", 2 * count, 2 * count, 2 * size, start)
        + data[end + 20 :]
    )
    path.write_bytes(twice)
    with pytest.raises(UserError, match=r"no weights compress like that"):
        open_checkpoint(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip_that_was_packed_again_gives_the_same_tensors(save, tmp_path, compression):
    """Compressed entries cannot be mapped: read as they lie, they would be other numbers."""
    content = STATE | {"large": torch.randn(4096)}
    path = _rewritten(save(content), tmp_path / "again.pth", lambda data: data, compression)
    found = open_checkpoint(path).content
    assert all(torch.equal(found[name], tensor) for name, tensor in content.items())


def test_a_storage_that_is_larger_than_its_bytes_is_not_allocated(save, tmp_path):
    path = save({"large": torch.zeros(1000)})
    # BININT2 1000 -> BININT 2**30: the pickle now claims 4 GiB.
    changed = _rewritten(path, tmp_path / "claims.pth", lambda data: data.replace(b"M\xe8\x03t", b"J\x00\x00\x00\x40t"))
    with pytest.raises(UserError, match="storage '0' has 4294967296 bytes, and there are 4000"):
        open_checkpoint(changed)
    legacy = save({"large": torch.zeros(1000)}, legacy=True, name="legacy.pth")
    legacy.write_bytes(legacy.read_bytes().replace(b"M\xe8\x03N", b"J\x00\x00\x00\x40N"))
    with pytest.raises(UserError, match="its tensors have 4294967296 bytes, and 40"):
        open_checkpoint(legacy)


def test_a_pickle_whose_index_is_huge_allocates_nothing(save, tmp_path):
    """The C machine makes room for the index that LONG_BINPUT names: 16 GiB here, for five bytes of file."""
    path = save({"a": torch.zeros(1)})
    changed = _rewritten(path, tmp_path / "index.pth", lambda data: data[:-1] + b"r\xff\xff\xff\x7f.")
    assert torch.equal(open_checkpoint(changed).content["a"], torch.zeros(1))


@CONTAINERS
def test_another_protocol_is_named(save, legacy):
    with pytest.raises(UserError, match="pickle protocol"):
        open_checkpoint(save(STATE, legacy, pickle_protocol=4))


def test_other_zips_are_named(tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"is NumPy's \.npz"):
        open_checkpoint(tmp_path / "arrays.npz")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    with pytest.raises(UserError, match="is a zip archive of 1 files"):
        open_checkpoint(tmp_path / "images.zip")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl", "version"):  # as torch.jit.save writes them
            archive.writestr(f"script/{name}", b"\x80\x02).")
    with pytest.raises(UserError, match="a TorchScript program"):
        open_checkpoint(tmp_path / "script.pt")


@CONTAINERS
def test_tensors_that_are_no_plain_numbers_are_refused(save, legacy):
    with pytest.raises(UserError, match=r"torch\._utils\._rebuild_sparse_tensor"):
        open_checkpoint(save({"a": torch.eye(3).to_sparse()}, legacy))
