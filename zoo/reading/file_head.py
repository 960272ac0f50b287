"""What a file of weights looks like by its first bytes, for the usual accidents of a download."""

from __future__ import annotations

from pathlib import Path

from zoo.reading.outside import open_file

_HEAD_BYTES = 512
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header


def appearance(path: str | Path) -> str:
    """What a file that should hold safetensors looks like, for the usual accidents of a download."""
    path = Path(path)
    head = read_head(path)
    if accident := download_accident(head):
        return accident
    if not looks_like_safetensors(head, path.stat().st_size):
        return "it does not begin like safetensors"
    return "it was cut short or altered"


def read_head(path: Path) -> bytes:
    """The first bytes of a file, enough to tell what it is."""
    with open_file(path) as file:
        return file.read(_HEAD_BYTES)


def download_accident(head: bytes) -> str | None:
    """Which of the usual accidents of a download a file is, by its first bytes; None where it is none of them."""
    text = head.lstrip().lower()
    if not head:
        return "it is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file behind it"
    return None


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes that begins with ``head`` has the frame of safetensors: a length, then a JSON header that long."""
    return head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{" and int.from_bytes(head[:_LENGTH_BYTES], "little") <= size - _LENGTH_BYTES
