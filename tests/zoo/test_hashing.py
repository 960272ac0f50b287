"""Hashes against hashlib and hand-made bytes."""

from __future__ import annotations

import hashlib
import struct

import pytest
import torch

from zoo.hashing import file_sha256, tensors_sha256


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_file_sha256_is_that_of_the_whole_file(tmp_path, size):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()


def test_tensors_sha256_is_the_hash_of_names_dtypes_shapes_and_bytes():
    state = {
        "b": torch.tensor([[1.0, -2.0], [0.5, 3.0], [4.0, 8.0]]),
        "a": torch.tensor(7),
        "c": torch.tensor([1.0, -2.5], dtype=torch.bfloat16),
        "d": torch.zeros(0, 3),
    }
    digest = hashlib.sha256()
    digest.update(b"a\0int64\0\0" + struct.pack("<q", 7))
    digest.update(b"b\0float32\x003,2\0" + struct.pack("<6f", 1.0, -2.0, 0.5, 3.0, 4.0, 8.0))
    digest.update(b"c\0bfloat16\x002\0" + bytes.fromhex("803f20c0"))  # bfloat16: the upper half of a float32
    digest.update(b"d\0float32\x000,3\0")
    assert tensors_sha256(state) == digest.hexdigest()


def test_tensors_sha256_does_not_depend_on_layout_order_or_gradient():
    tensor = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(0))
    wide = torch.empty(8, 12, 8)
    wide[::2, ::2] = tensor
    reference = tensors_sha256({"x": tensor, "y": tensor[0]})
    assert tensors_sha256({"y": tensor[0], "x": wide[::2, ::2]}) == reference
    assert tensors_sha256({"y": tensor[0], "x": tensor.permute(2, 1, 0).contiguous().permute(2, 1, 0)}) == reference
    assert tensors_sha256({"y": tensor[0], "x": torch.nn.Parameter(tensor)}) == reference


def test_tensors_sha256_tells_names_dtypes_shapes_and_values_apart():
    states = [
        {"x": torch.zeros(4)},
        {"y": torch.zeros(4)},
        {"x": torch.zeros(2, 2)},
        {"x": torch.zeros(4, dtype=torch.int32)},
        {"x": torch.zeros(2, dtype=torch.float64)},
        {"x": torch.tensor([0.0, 0.0, 0.0, -0.0])},
        {"x": torch.zeros(4), "z": torch.zeros(0)},
    ]
    assert len({tensors_sha256(state) for state in states}) == len(states)
