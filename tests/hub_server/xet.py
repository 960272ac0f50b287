"""Files that hf-xet has written into its local store, which the server reads by the same library."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from hub_server.store import Store, sha256

_RECORD = 48
_BOOKEND = b"\xff" * 32
_VERIFICATION, _METADATA = 1 << 31, 1 << 30


def take_over(store: Store, folder: Path, oid: str) -> None:
    """Find the file with this sha256 in the store's shards, and keep its content and its Xet hash."""
    found = {}
    for shard in folder.rglob("*.mdb"):
        found |= _parse_shard(shard.read_bytes())
    if oid not in found:
        return
    store.xet_hashes[oid], size = found[oid]
    content = _read(folder, store.xet_hashes[oid], size)
    if sha256(content) == oid:
        store.add_large(content)


def _parse_shard(content: bytes) -> dict[str, tuple[str, int]]:
    """sha256 -> (Xet hash, size) of the files of a shard: records of 48 bytes after a header of one."""
    found, position = {}, _RECORD
    while position + _RECORD <= len(content) and content[position : position + 32] != _BOOKEND:
        file_hash, flags, entries = struct.unpack_from("<32sII", content, position)
        segments = range(position + _RECORD, position + _RECORD * (1 + entries), _RECORD)
        size = sum(struct.unpack_from("<I", content, start + 36)[0] for start in segments)
        position += _RECORD * (1 + entries + (entries if flags & _VERIFICATION else 0))
        if flags & _METADATA:
            found[_hex(content[position : position + 32])] = (_hex(file_hash), size)
            position += _RECORD
    return found


def _hex(value: bytes) -> str:
    """hf-xet writes a hash as four little-endian words of 64 bits."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", value))


def _read(folder: Path, xet_hash: str, size: int) -> bytes:
    import hf_xet

    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "file"
        with hf_xet.XetSession().new_file_download_group(endpoint=f"local://{folder}") as group:
            group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), str(target))
        return target.read_bytes()
