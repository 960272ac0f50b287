"""Small sets that torchvision reads: a row of a table each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock

from zoo.data.base import Data
from zoo.data.own.torch_data import torch_data
from zoo.errors import UserError, first_line

_BY_TRAIN = ({"train": True}, {"train": False})
_BY_SPLIT = ({"split": "train"}, {"split": "test"})


@dataclass(frozen=True)
class Row:
    """A set: torchvision's class of it, and the class's arguments for the images to learn from and for those to be tested on."""

    dataset: str
    arguments: tuple[Mapping[str, Any], Mapping[str, Any]]


ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "mnist": Row("MNIST", _BY_TRAIN),
        "kmnist": Row("KMNIST", _BY_TRAIN),
        "usps": Row("USPS", _BY_TRAIN),
        "svhn": Row("SVHN", _BY_SPLIT),
        "gtsrb": Row("GTSRB", _BY_SPLIT),
        "dtd": Row("DTD", _BY_SPLIT),
        "flowers102": Row("Flowers102", _BY_SPLIT),
        "pets": Row("OxfordIIITPet", ({"split": "trainval"}, {"split": "test"})),
        "aircraft": Row("FGVCAircraft", ({"split": "trainval"}, {"split": "test"})),
    }
)
# Sets with a reader of their own, which torchvision fetches all the same.
FETCHED: Mapping[str, Row] = MappingProxyType(
    {
        "cifar10": Row("CIFAR10", _BY_TRAIN),
        "cifar100": Row("CIFAR100", _BY_TRAIN),
        "stl10": Row("STL10", _BY_SPLIT),
        "fashion-mnist": Row("FashionMNIST", _BY_TRAIN),
        **ROWS,
    }
)
LOCK_FILE = ".download.lock"
DOWNLOAD = "--download fetches it from its official address"


def open_torchvision(name: str, spec: str, root: Path) -> Data:
    """A set of :data:`ROWS` as torchvision lays it out in ROOT. Raises UserError where it is not there."""
    parts = [_dataset(name, root, arguments, download=False) for arguments in ROWS[name].arguments]
    data = torch_data(*parts, name=name)
    data.spec, data.root = spec, root
    return data


def download(name: str, root: Path) -> None:
    """Fetch a set of :data:`FETCHED` into ROOT by torchvision's own class: from the official address, checked by its checksum.

    What is there already is not fetched again; of several processes that ask one fetches, while the others wait. Raises UserError where it
    cannot be had.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / LOCK_FILE):
            for arguments in FETCHED[name].arguments:
                _dataset(name, root, arguments, download=True)
    except OSError as error:
        raise UserError(f"{name} could not be fetched into {root} ({error.strerror or error})") from error


def _dataset(name: str, root: Path, arguments: Mapping[str, Any], *, download: bool) -> Any:
    from torchvision import datasets  # imports torch, and only these sets need it

    try:
        return getattr(datasets, FETCHED[name].dataset)(str(root), **arguments, download=download)
    except Exception as error:  # torchvision's, the network's and the file system's
        if download:
            raise UserError(f"{name} could not be fetched into {root} ({first_line(error)}); try again, or put its files there") from error
        raise UserError(f"{root} holds no {name} as torchvision lays it out; {DOWNLOAD}") from error
