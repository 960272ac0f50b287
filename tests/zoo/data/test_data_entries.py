"""The packed table of files and parts of shards."""

import pickle

import numpy as np
import pytest

from zoo.data.entries import EntryTable, FileEntry

ENTRIES = [FileEntry("/a/é.png"), FileEntry("/s.tar", 512, 99, "x/1.jpg"), FileEntry("/caf\udce9.png"), FileEntry("/s.tar", 2**40, 0, "y")]


def test_entries_come_back_as_they_went_in():
    table = EntryTable(iter(ENTRIES))
    assert list(table) == ENTRIES
    assert [table[index] for index in range(-4, 4)] == ENTRIES + ENTRIES
    assert list(table[1:3]) == ENTRIES[1:3]
    assert list(table.take(np.array([3, 0, 3]))) == [ENTRIES[3], ENTRIES[0], ENTRIES[3]]
    assert list(table.take(np.array([3, 0, 1])).take(np.array([2]))) == [ENTRIES[1]]
    assert list(EntryTable([])) == []
    with pytest.raises(IndexError):
        table[4]


def test_a_million_files_cost_little_and_travel_to_another_process():
    table = EntryTable(FileEntry(f"/data/train/n00000000/image_{index:07d}.JPEG") for index in range(20_000))
    content = pickle.dumps(table)
    # The path itself, and four numbers of eight bytes.
    assert len(content) < 20_000 * (42 + 4 * 8 + 1) + 2000
    assert pickle.loads(content)[19_999].path.endswith("_0019999.JPEG")


def test_bytes_of_a_whole_file_and_of_a_part(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert FileEntry(str(path)).open_bytes() == b"0123456789"
    assert FileEntry(str(path), 3, 4, "m").open_bytes() == b"3456"
    assert FileEntry(str(path), 3, 0, "m").open_bytes() == b""
