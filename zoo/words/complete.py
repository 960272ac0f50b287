"""What a shell completes: words of the command line that begin like the one that is being typed. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.catalogue import load_catalogue
from zoo.data.spec import NAMES, WITHOUT_PLACE
from zoo.errors import UserError
from zoo.words.architectures import timm_architectures
from zoo.words.models import PIXELS, RANDOM, SCHEMES, TIMM
from zoo.words.runtime import DEVICES, DTYPES


def starting(incomplete: str, words: Iterable[str]) -> list[str]:
    """Those of ``words`` that begin with what was typed."""
    return [word for word in words if word.startswith(incomplete)]


def catalogue_words(incomplete: str) -> list[str]:
    """Names of the catalogue."""
    try:
        return starting(incomplete, load_catalogue())
    except UserError:  # a catalogue of the user's own that is damaged; the command will say so
        return []


def model_words(incomplete: str) -> list[str]:
    """What ``--model`` takes; the shell adds files and folders where nothing of this begins so."""
    scheme, colon, _ = incomplete.partition(":")
    if colon:
        return starting(incomplete, (f"{scheme}:{name}" for name in timm_architectures())) if scheme in (TIMM, RANDOM) else []
    return [*starting(incomplete, [PIXELS, *(f"{name}:" for name in SCHEMES)]), *catalogue_words(incomplete)]


def data_words(incomplete: str) -> list[str]:
    """What ``--data`` begins with."""
    return starting(incomplete, [name if name in WITHOUT_PLACE else f"{name}:" for name in NAMES])


def device_words(incomplete: str) -> list[str]:
    """What ``--device`` takes."""
    return starting(incomplete, DEVICES)


def dtype_words(incomplete: str) -> list[str]:
    """What ``--dtype`` takes."""
    return starting(incomplete, DTYPES)
