"""What a pull gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pulled:
    """A zoo model that is here.

    Attributes
    ----------
    folder
        A zoo model folder. Unless the caller wanted it elsewhere it lies in a cache and must not be changed.
    origin
        Where it is from, in words.
    sha256
        Of ``model.safetensors``, taken from its bytes in this call.
    commit
        Of its repository on the Hub: 40 hex digits; None for what is not from there.
    notes
        What the user should know: each a sentence.
    """

    folder: Path
    origin: str
    sha256: str
    commit: str | None = None
    notes: tuple[str, ...] = ()
