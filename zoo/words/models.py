"""How a model is named on the command line. Imports no torch; :mod:`zoo.model_spec` opens what is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.catalogue import find_entry, load_catalogue
from zoo.errors import UserError, did_you_mean
from zoo.hub.names import HUB_SCHEME, is_hub_name, parse_hub_name

KINDS = (
    "a zoo model folder, a name of the catalogue, hub:ORG/NAME[@REVISION], a run folder, a checkpoint file, timm:NAME, torchvision:NAME, "
    "random:ARCH[:SEED], python:FILE_OR_MODULE:CALLABLE or pixels"
)
PIXELS = "pixels"
RANDOM, PYTHON, TIMM, TORCHVISION, FILE = "random", "python", "timm", "torchvision", "file"
SCHEMES = (HUB_SCHEME, TIMM, TORCHVISION, RANDOM, PYTHON, FILE)
_LARGEST_SEED = 1 << 63


def check_model_word(spec: str, *, also: Sequence[str] = ()) -> None:
    """Raise UserError where ``spec`` cannot name a model: no such scheme, nothing of that name, or not of the scheme's form.

    Whether timm or torchvision has an architecture, and what a file holds, is found when it is opened.

    Parameters
    ----------
    also
        Further words, or schemes with their colon, that the command takes.
    """
    scheme, colon, rest = spec.partition(":")
    if spec == PIXELS or spec in also or (colon and f"{scheme}:" in also):
        return
    if not (colon and scheme in SCHEMES):
        if not Path(spec).expanduser().exists() and spec not in load_catalogue():
            raise no_model(spec)
    elif not rest:
        raise UserError(f"'{spec}' names nothing behind its colon; a model is {KINDS}")
    elif scheme == HUB_SCHEME:
        if is_hub_name(rest):
            parse_hub_name(rest)
        else:
            find_entry(rest)
    elif scheme == RANDOM:
        random_word(spec)
    elif scheme == PYTHON:
        python_word(spec)
    elif scheme == FILE and not Path(rest).expanduser().exists():
        raise UserError(f"there is no file {rest}")


def no_model(spec: str) -> UserError:
    """There is nothing of that name."""
    scheme, colon, _ = spec.partition(":")
    return UserError(f"there is no model '{spec}'{did_you_mean(scheme, SCHEMES) if colon else ''}; a model is {KINDS}")


def random_word(spec: str) -> tuple[str, int]:
    """Architecture and seed of ``random:ARCH[:SEED]``."""
    arch, _, seed = spec.removeprefix(f"{RANDOM}:").partition(":")
    seed = seed or "0"
    # The length first: Python refuses to read numbers of thousands of digits.
    if not seed.isascii() or not seed.isdecimal() or len(seed) > len(str(_LARGEST_SEED)) or int(seed) >= _LARGEST_SEED:
        raise UserError(f"'{spec}' has no valid seed: write random:ARCH:SEED with a whole number from 0 to 2**63 - 1")
    return arch, int(seed)


def python_word(spec: str) -> tuple[str, str]:
    """File or module, and callable, of ``python:FILE_OR_MODULE:CALLABLE``."""
    place, colon, name = spec.removeprefix(f"{PYTHON}:").rpartition(":")
    if not (colon and place and name):
        raise UserError(f"'{spec}' is not of the form python:FILE_OR_MODULE:CALLABLE, such as python:networks.py:resnet20")
    return place, name
