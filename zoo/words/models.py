"""How a model is named on the command line. Imports no torch; :mod:`zoo.model_spec` opens what is named."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.catalogue import find_entry, load_catalogue
from zoo.errors import UserError, did_you_mean, some_of
from zoo.hub.names import HUB_SCHEME, is_hub_name, parse_hub_name
from zoo.model_folder.manifest import WEIGHTS_FILE, is_zoo_model
from zoo.words.architectures import may_be_timm, timm_architectures

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

    Which weights timm or torchvision has, and what a file holds, is found when it is opened.

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
    elif scheme == TIMM:
        # Once timm is here, it knows best; a program may have registered networks of its own.
        arch = rest.partition(".")[0]
        if "timm" not in sys.modules and not may_be_timm(arch):
            raise UserError(f"timm has no network '{arch}'{did_you_mean(arch, timm_architectures(), 3)}")
    elif scheme == PYTHON:
        python_word(spec)
    elif scheme == FILE and not Path(rest).expanduser().exists():
        raise UserError(f"there is no file {rest}")


def no_model(spec: str) -> UserError:
    """There is nothing of that name; what was meant is said where the word's form tells it."""
    scheme, colon, _ = spec.partition(":")
    near = did_you_mean(scheme, SCHEMES) if colon else ""
    meant = "" if colon else _meant(spec)
    return UserError(f"there is no model '{spec}'" + (meant or f"{near}; a model is {KINDS}"))


def _meant(word: str) -> str:
    """What to write for a word that lacks its scheme, or is nearly a name; empty where its form tells nothing."""
    first, slash, rest = word.partition("/")
    on_hub = is_hub_name(word) and word.count("/") == 1 and not word.startswith((".", "/", "~"))
    if rest and first in SCHEMES:
        return f"; write {first}:{rest}" + (f", or hub:{word} for the repository on the Hub" if on_hub else "")
    if word.lower() == PIXELS:
        return f"; write {PIXELS}"
    arch, known = word.partition(".")[0].lower(), timm_architectures()
    if arch in known:
        catalogue = [name for name in load_catalogue() if name.startswith(f"{arch}.")] if word.lower() == arch else []
        others = f"; the catalogue has {some_of(catalogue, 3)}" if catalogue else ""
        return f"; write timm:{word.lower()} for timm's weights, or random:{arch} for random ones{others}"
    if slash:
        return ", neither a file nor a folder" + (f"; a repository on the Hub is written hub:{word}" if on_hub else "")
    # Names of networks have digits; of a word without any, the nearest would be a guess.
    return did_you_mean(word, [*load_catalogue(), *(f"timm:{name}" for name in known)]) if any(map(str.isdigit, word)) else ""


def as_folder(path: Path) -> Path:
    """The zoo model folder whose weights file ``path`` is; any other path as it is."""
    return path.parent if path.name == WEIGHTS_FILE and path.is_file() and is_zoo_model(path.parent) else path


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
