"""Whether a weights file is the one that it should be, and what it looks like when it is not."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import UserError
from zoo.hashing import file_sha256
from zoo.manifest import MANIFEST_FILE, WEIGHTS_FILE, Manifest

_HEAD_BYTES = 512
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header


def check_weights(folder: str | Path, manifest: Manifest, *, found: str | None = None) -> None:
    """Raise UserError where ``model.safetensors`` is missing or is not the file that ``zoo.json`` describes.

    ``found`` is the file's sha256 where it was taken from its bytes just now.
    """
    path = Path(folder) / WEIGHTS_FILE
    try:
        found = file_sha256(path) if found is None else found
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {WEIGHTS_FILE}, so it is not a whole zoo model folder") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    if found != manifest.file_sha256:
        raise UserError(
            f"{path} is not the file that {MANIFEST_FILE} describes ({appearance(path)}: sha256 {found[:12]}, not "
            f"{manifest.file_sha256[:12]}); get it again"
        )


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
    with path.open("rb") as file:
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
