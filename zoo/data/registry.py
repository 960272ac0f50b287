"""Data sets by name: ``NAME[:ROOT]``."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from zoo.data.base import Data
from zoo.data.scan import OnBad
from zoo.data.sets.cifar import CIFAR10, CIFAR100, open_cifar
from zoo.data.sets.digits import open_digits
from zoo.data.sets.fashion_mnist import open_fashion_mnist
from zoo.data.sets.image_folder import open_folder
from zoo.data.sets.imagenet import open_imagenet, open_imagenet200
from zoo.data.sets.places205 import open_places205
from zoo.data.sets.shapes import make_shapes
from zoo.data.sets.stl10 import open_stl10
from zoo.data.sets.tiny_imagenet import open_tiny_imagenet
from zoo.data.sets.voc07 import open_voc07
from zoo.data.sets.webdataset import open_wds
from zoo.errors import UserError


def open_data(spec: str, on_bad: OnBad = "refuse") -> Data:
    """Open a data set by name.

    Parameters
    ----------
    spec
        ``NAME[:ROOT]``, such as ``"cifar10:/data/cifar"`` or ``"digits"``; ``docs/data.md`` describes the names and their layouts.
    on_bad
        What to do with images that cannot be decoded in sets that are decoded into memory when a split is loaded: ``"refuse"``
        raises UserError, ``"skip"`` leaves them out and lists them in ``Images.skipped``. Images that stay files are decoded when they
        are read; find theirs with :func:`zoo.data.scan.check_images`.

    Returns
    -------
    The data set. Splits are loaded when they are asked for, except small ones of ``folder`` and ``wds``, which are loaded here.

    Raises
    ------
    UserError
        An unknown name, a ROOT that is missing or not wanted, and whatever is wrong with the files there.
    """
    name, _, rest = spec.partition(":")
    opener = _OPENERS.get(name)
    if opener is None:
        raise UserError(_unknown(spec, name))
    return opener(spec, rest, on_bad)


def data_names() -> tuple[str, ...]:
    """The names that :func:`open_data` knows."""
    return tuple(_OPENERS)


def _unknown(spec: str, name: str) -> str:
    if Path(spec).expanduser().exists():
        return f"'{spec}' is a path, not a data set's name; an image folder is named folder:{spec}"
    nearest = get_close_matches(name, _OPENERS, n=1)
    hint = f" (nearest: '{nearest[0]}')" if nearest else ""
    return f"unknown data '{name}'{hint}; known: {', '.join(_OPENERS)}"


def _root(spec: str, rest: str) -> Path:
    """The existing folder that a name needs after its colon."""
    if not rest:
        raise UserError(f"data '{spec}' needs the folder it lies in: {spec.rstrip(':')}:FOLDER")
    root = Path(rest).expanduser()
    if not root.is_dir():
        raise UserError(f"data '{spec}': {root} is {'no folder' if root.exists() else 'missing'}")
    return root


def _shards(spec: str, rest: str) -> str:
    if not rest:
        raise UserError(f"data '{spec}' needs its shards: {spec.rstrip(':')}:FOLDER or {spec.rstrip(':')}:FOLDER/train-{{0000..0009}}.tar")
    return str(Path(rest).expanduser())


def _nothing(spec: str, rest: str) -> str:
    if rest:
        raise UserError(f"data '{spec}' takes nothing after its name; write {spec.partition(':')[0]}")
    return spec


_OPENERS: dict[str, Callable[[str, str, OnBad], Data]] = {
    "shapes": lambda _spec, rest, _on_bad: make_shapes(rest),
    "digits": lambda spec, rest, _on_bad: open_digits(_nothing(spec, rest)),
    "folder": lambda spec, rest, on_bad: open_folder(spec, _root(spec, rest), on_bad),
    "wds": lambda spec, rest, on_bad: open_wds(spec, _shards(spec, rest), on_bad),
    "cifar10": lambda spec, rest, on_bad: open_cifar(CIFAR10, spec, _root(spec, rest), on_bad),
    "cifar100": lambda spec, rest, on_bad: open_cifar(CIFAR100, spec, _root(spec, rest), on_bad),
    "stl10": lambda spec, rest, _on_bad: open_stl10(spec, _root(spec, rest)),
    "tiny-imagenet": lambda spec, rest, on_bad: open_tiny_imagenet(spec, _root(spec, rest), on_bad),
    "imagenet": lambda spec, rest, _on_bad: open_imagenet(spec, _root(spec, rest)),
    "imagenet200": lambda spec, rest, _on_bad: open_imagenet200(spec, _root(spec, rest)),
    "voc07": lambda spec, rest, _on_bad: open_voc07(spec, _root(spec, rest)),
    "places205": lambda spec, rest, _on_bad: open_places205(spec, _root(spec, rest)),
    "fashion-mnist": lambda spec, rest, _on_bad: open_fashion_mnist(spec, _root(spec, rest)),
}
