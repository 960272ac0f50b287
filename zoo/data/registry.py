"""Data sets by name: ``NAME[:PLACE][,KEY=VALUE...]`` (:mod:`zoo.data.spec`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zoo.data.base import Data
from zoo.data.own.folder import open_folder
from zoo.data.own.hugging_face import open_hugging_face
from zoo.data.own.table import open_table
from zoo.data.scan import OnBad
from zoo.data.sets.cifar import CIFAR10, CIFAR100, open_cifar
from zoo.data.sets.digits import open_digits
from zoo.data.sets.fashion_mnist import open_fashion_mnist
from zoo.data.sets.imagenet import open_imagenet, open_imagenet200
from zoo.data.sets.places205 import open_places205
from zoo.data.sets.shapes import make_shapes
from zoo.data.sets.stl10 import open_stl10
from zoo.data.sets.tiny_imagenet import open_tiny_imagenet
from zoo.data.sets.torchvision_sets import DOWNLOAD, FETCHED, ROWS, download, open_torchvision
from zoo.data.sets.voc07 import open_voc07
from zoo.data.shards.webdataset import open_wds
from zoo.data.spec import DataSpec, parse_spec, unknown_name, unknown_option
from zoo.errors import UserError


def open_data(spec: str, on_bad: OnBad = "refuse") -> Data:
    """Open a data set by name.

    Parameters
    ----------
    spec
        ``NAME[:PLACE][,KEY=VALUE...]``, such as ``"cifar10:/data/cifar"``, ``"digits"`` or ``"folder:scans,range=0+4095"``;
        ``docs/data.md`` describes the names, their layouts and their options.
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
        An unknown name or option, a place that is missing or not wanted, and whatever is wrong with the files there.
    """
    parsed = parse_spec(spec)
    opener = _OPENERS.get(parsed.name)
    if opener is None:
        raise unknown_name(spec)
    data = opener(parsed, on_bad)
    data.spec = spec
    return data


def download_data(spec: str) -> None:
    """Fetch a data set into its folder, by torchvision's own class: what ``--download`` does before :func:`open_data`.

    Raises
    ------
    UserError
        A set that is not fetched so, no folder, or the set cannot be had.
    """
    parsed = parse_spec(spec)
    if parsed.name not in FETCHED:
        raise UserError(f"data '{spec}' is not fetched by --download; these are: {', '.join(FETCHED)}")
    if not parsed.place:
        raise UserError(f"data '{spec}' needs the folder to fetch it into: {parsed.name}:FOLDER")
    download(parsed.name, Path(parsed.place).expanduser())


def data_names() -> tuple[str, ...]:
    """The names that :func:`open_data` knows."""
    return tuple(_OPENERS)


def _root(spec: DataSpec) -> Path:
    """The existing folder that a name needs after its colon."""
    if not spec.place:
        more = f"; {DOWNLOAD}" if spec.name in FETCHED else ""
        raise UserError(f"data '{spec}' needs the folder it lies in: {spec.name}:FOLDER{more}")
    root = Path(spec.place).expanduser()
    if not root.is_dir():
        hint = unknown_option(spec) or (DOWNLOAD if spec.name in FETCHED and not root.exists() else "")
        raise UserError(f"data '{spec}': {root} is {'no folder' if root.exists() else 'missing'}{f'; {hint}' if hint else ''}")
    return root


def _shards(spec: DataSpec) -> str:
    if not spec.place:
        raise UserError(f"data '{spec}' needs its shards: {spec.name}:FOLDER or {spec.name}:FOLDER/train-{{0000..0009}}.tar")
    return str(Path(spec.place).expanduser())


def _digits(spec: DataSpec, _on_bad: OnBad) -> Data:
    if spec.place:
        raise UserError(f"data '{spec}' takes nothing after its name; write {spec.name}")
    return open_digits(spec.name)


def _torchvision(spec: DataSpec, _on_bad: OnBad) -> Data:
    return open_torchvision(spec.name, str(spec), _root(spec))


_OPENERS: dict[str, Callable[[DataSpec, OnBad], Data]] = {
    "shapes": lambda spec, _on_bad: make_shapes(str(spec).partition(":")[2]),
    "digits": _digits,
    "folder": lambda spec, on_bad: open_folder(spec, _root(spec), on_bad),
    "csv": open_table,
    "hf": open_hugging_face,
    "wds": lambda spec, on_bad: open_wds(spec, _shards(spec), on_bad),
    "cifar10": lambda spec, on_bad: open_cifar(CIFAR10, str(spec), _root(spec), on_bad),
    "cifar100": lambda spec, on_bad: open_cifar(CIFAR100, str(spec), _root(spec), on_bad),
    "stl10": lambda spec, _on_bad: open_stl10(str(spec), _root(spec)),
    "tiny-imagenet": lambda spec, on_bad: open_tiny_imagenet(str(spec), _root(spec), on_bad),
    "imagenet": lambda spec, _on_bad: open_imagenet(spec, _root(spec)),
    "imagenet200": lambda spec, _on_bad: open_imagenet200(spec, _root(spec)),
    "voc07": lambda spec, _on_bad: open_voc07(spec, _root(spec)),
    "places205": lambda spec, _on_bad: open_places205(spec, _root(spec)),
    "fashion-mnist": lambda spec, _on_bad: open_fashion_mnist(str(spec), _root(spec)),
    **dict.fromkeys(ROWS, _torchvision),
}
