"""The checksum inside a checkpoint: every flipped bit is noticed, and a run falls back to the one before."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest
import torch

from evaluation.training.checkpoints import save_checkpoint
from zoo.errors import UserError
from zoo.models.runs import read_newest_checkpoint
from zoo.reading.checksum import add_checksum, has_good_checksum

KIND = "of a test"


def state(step: int) -> dict[str, object]:
    return {"format": KIND, "step": step, "model": {"weight": torch.full((64,), float(step))}}


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(content))


def test_torch_and_zip_read_a_file_with_a_checksum(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 3, state(3), keep=2)
    assert has_good_checksum(path)
    assert torch.equal(torch.load(path, weights_only=True)["model"]["weight"], torch.full((64,), 3.0))
    assert zipfile.ZipFile(path).testzip() is None


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """300 bits anywhere, and each of the last 100 bytes: the checksum's own, and the marks that say that there is one."""
    path = save_checkpoint(tmp_path, 3, state(3), keep=2)
    bits = 8 * path.stat().st_size
    for bit in [*random.Random(0).sample(range(bits), 300), *range(bits - 800, bits)]:
        flip(path, bit)
        with pytest.raises(UserError, match="damaged or not one"):
            read_newest_checkpoint(tmp_path, kind=KIND, required=("step",))
        flip(path, bit)
    assert has_good_checksum(path)


def test_a_damaged_newest_one_falls_back_to_the_one_before(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        newest = save_checkpoint(tmp_path, step, state(step), keep=3)
    flip(newest, 4 * newest.stat().st_size)
    found = read_newest_checkpoint(tmp_path, kind=KIND, required=("step",))
    assert found.content["step"] == 2
    assert found.has_checksum
    assert found.note is not None
    assert str(newest) in found.note
    assert "going on from the one before it" in found.note


def test_a_file_from_before_checksums_is_read(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 3, state(3), keep=2)
    torch.save(state(3), path)
    assert not has_good_checksum(path)
    found = read_newest_checkpoint(tmp_path, kind=KIND, required=("step",))
    assert (found.content["step"], found.note, found.has_checksum) == (3, None, False)


def test_a_file_that_was_cut_off_gets_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    torch.save(state(3), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"does not end as a file of torch.save does"):
        add_checksum(path)
