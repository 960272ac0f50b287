"""Pickles of a few bytes that ask for hours or gigabytes: each is refused in a moment, in one sentence, by both readers."""

from __future__ import annotations

import os
import pickle
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file

from zoo.errors import UserError
from zoo.hashing import file_sha256
from zoo.reading.checkpoint_file import open_checkpoint
from zoo.reading.plain_pickle import load_plain_pickle

SECONDS, MEMORY = 8.0, 600 << 20

DOUBLED = b")" + b"q\x00h\x00\x86" * 60  # ((((), ()), ...)): sixty tuples, each of which holds the last one twice
LAUGHS = b"]" + b"q\x00]h\x00ah\x00a" * 60  # lists likewise
MILLION = b"(" + b"K\x01" * 100_000 + b"lq\x01"
INT = b"\x8a\x09"  # a whole number of nine bytes follows


def collide(count: int) -> bytes:
    """Whole numbers that all have the hash 0."""
    return b"".join(b"\x8a\x0c" + (number * (2**61 - 1)).to_bytes(12, "little") + b"N" for number in range(1, count))


# What a pickle holds after its protocol and before its stop.
PICKLES = {
    "a key of doubled tuples": b"}" + DOUBLED + b"Ns",
    "a set of doubled tuples": b"\x8f(" + DOUBLED + b"\x90",
    "an ordered dictionary of doubled tuples": b"ccollections\nOrderedDict\n((" + DOUBLED + b"N\x86ltR",
    "a memo of huge index": b"Nr\xff\xff\xff\x7f",
    "a memo of huge index that is asked for": b"j\xff\xff\xff\x7f",
    "bytes that are not there": b"\x8e" + struct.pack("<Q", 4 << 30),
    "a byte array that is not there": b"\x96" + struct.pack("<Q", 4 << 30),
    "text that is not there": b"\x8d" + struct.pack("<Q", 4 << 30),
    "a frame that is not there": b"\x95" + struct.pack("<Q", 4 << 30),
    "a number that is not there": b"\x8b" + struct.pack("<i", 2**31 - 1),
    "a byte array of a length": b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR",
    "a storage of a length": b"ctorch\nFloatStorage\n(J\xff\xff\xff\x7ftR",
    "a tensor of a length": b"ctorch\nTensor\n(J\xff\xff\xff\x7ftR",
    "lists that hold each other": LAUGHS,
    "lists in each other": b"]" * 100_000 + b"a" * 99_999,
    "a list that holds itself": b"]q\x00h\x00a",
    "numbers of one hash": b"}(" + collide(60_000) + b"u",
    "one large list given again and again": b"cbuiltins\nset\nq\x02" + MILLION + b"0" + b"h\x02h\x01\x85R0" * 100_000 + b"N",
    "too many steps": b"N0" * 1_300_000 + b"N",
    "too many names": b"".join(b"ca\nb%d\n0" % number for number in range(10_000)) + b"N",
}


def zipped(path: Path, text: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """A file of ``torch.save`` with this pickle."""
    torch.save({"a": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            storage = (storages or {}).get(name.rpartition("/")[2])
            archive.writestr(name, b"\x80\x02" + text + b"." if name.endswith("data.pkl") else data if storage is None else storage)
    return path


def refused(read, path: Path) -> str:
    """The sentence; fails where it takes long, or much memory."""
    process = psutil.Process()
    before, start = process.memory_info().rss, time.perf_counter()
    with pytest.raises(UserError) as error:
        read(path)
    assert time.perf_counter() - start < SECONDS
    assert process.memory_info().rss - before < MEMORY
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


# The budget of steps is that of one machine, and takes seconds to use up.
@pytest.mark.parametrize("name", [name for name in PICKLES if name != "too many steps"])
def test_a_checkpoint_is_refused_at_once(name, tmp_path):
    if name == "a memo of huge index":
        assert open_checkpoint(zipped(tmp_path / "a.pth", PICKLES[name])).content is None
    else:
        assert "a.pth" in refused(open_checkpoint, zipped(tmp_path / "a.pth", PICKLES[name]))


@pytest.mark.parametrize("name", PICKLES)
def test_a_plain_pickle_is_refused_at_once(name, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x05" + PICKLES[name] + b".")
    if name == "a memo of huge index":
        assert load_plain_pickle(path) is None
    else:
        assert "a.pkl" in refused(load_plain_pickle, path)


def tensor(elements: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle with one tensor of 32-bit numbers; numbers are written in their longest form."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(INT + value.to_bytes(9, "little") for value in values) + b"t"

    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + b"J" + struct.pack("<i", elements)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"tQK\x00" + numbers(size) + numbers(stride) + b"\x89NtR"


def test_a_tensor_that_is_larger_than_its_storage_is_not_made(tmp_path):
    four = {"0": b"\0" * 16}
    good = open_checkpoint(zipped(tmp_path / "good.pth", tensor(4, (2, 2), (2, 1)), four)).content
    assert torch.equal(good, torch.zeros(2, 2))
    beyond = refused(open_checkpoint, zipped(tmp_path / "a.pth", tensor(4, (1 << 31,), (1,)), four))
    assert "a tensor in it of 2,147,483,648 elements reaches beyond its storage of 16 bytes" in beyond
    # One number, said to be 2**40 of them: nothing is allocated until somebody copies it.
    expanded = refused(open_checkpoint, zipped(tmp_path / "b.pth", tensor(4, (1 << 20, 1 << 20), (0, 0)), four))
    assert "its tensors share 16 bytes of storage and stand for 4,398,046,511,104" in expanded


def test_two_entries_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        # torch finds this one where it looks for data.pkl, by case or by order.
        archive.writestr(next(iter(entries)).replace("data.pkl", "DATA.PKL"), b"\x80\x02N.")
    with pytest.raises(UserError, match="two files in it have one name"):
        open_checkpoint(path)


def test_a_large_header_and_a_large_directory_are_not_read(tmp_path):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 64 << 20) + b"{")
        file.truncate(65 << 20)
    assert "its header has 67,108,864 bytes" in refused(open_checkpoint, path)
    path = zipped(tmp_path / "a.pth", b"N")
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", 200 << 20)
    path.write_bytes(data)
    assert "its directory has 209,715,200 bytes" in refused(open_checkpoint, path)


def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe.pth"
    os.mkfifo(pipe)
    for read in (open_checkpoint, load_plain_pickle):
        assert "a named pipe, not a file" in refused(read, pipe)
        assert "a device, not a file" in refused(read, Path("/dev/zero"))
    with pytest.raises(OSError, match="a named pipe, not a file"):
        file_sha256(pipe)


def test_what_is_written_today_is_read_as_before(tmp_path):
    """Large lists, many keys, arrays of either byte order, shared and nested containers: nothing real comes near a budget."""
    shared = [1, 2, 3]
    content = {
        "labels": list(range(300_000)),
        "by number": {number: number for number in range(100_000)},
        "ids": {140_000_000_000_000 + 16 * number: number for number in range(500)},
        ("a", 1): (shared, shared, {"deep": [[[[shared]]]]}),
        "tied": [torch.arange(1000.0)] * 10,
    }
    torch.save(content, tmp_path / "a.pth")
    found = open_checkpoint(tmp_path / "a.pth").content
    assert found.pop("tied")[9].sum() == content.pop("tied")[0].sum()
    assert found == content
    arrays = {"little": np.arange(5, dtype="<i4"), "big": np.arange(5, dtype=">f8"), "empty": np.zeros((0, 3), np.float32), "number": 3}
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, protocol))
        read = load_plain_pickle(tmp_path / "a.pkl")
        assert read["big"].dtype.isnative
        assert all(np.array_equal(read[name], arrays[name]) for name in arrays)
    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    assert open_checkpoint(tmp_path / "a.safetensors").content["a"].sum() == 3
