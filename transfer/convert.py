"""Backbone weights in the file formats of other libraries.

Each target writes one file, and reads it back with the other library's own network: a file is kept only if that network gives the
features of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.backbones import TORCHVISION_NAMES, is_timm_native, load_state, native_size
from zoo.errors import UserError
from zoo.files import replace_file
from zoo.model import Model
from zoo.models import open_model
from zoo.reasons import first_line

# The two networks may add in another order; anything beyond rounding is a wrong conversion.
RELATIVE_TOLERANCE = 1e-5
_NO_WEIGHTS = "raw pixels have no weights"
_CHECK_IMAGES = 2
_CHECK_SEED = 0


@dataclass(frozen=True)
class Target:
    """A file format.

    Attributes
    ----------
    suffix
        What its files are called.
    refusal
        Model -> why it cannot become such a file, or None.
    write
        Writes a state dict, by timm's key names, to a file.
    read
        The other library's network for the model, without classifier, with the file's weights.
    usage
        How the file is loaded, in one line of Python.
    """

    suffix: str
    refusal: Callable[[Model], str | None]
    write: Callable[[dict[str, Tensor], Path], None]
    read: Callable[[Model, Path], nn.Module]
    usage: Callable[[Model, Path], str]


def _torchvision_refusal(model: Model) -> str | None:
    if not is_timm_native(model.arch):
        return f"'{model.arch}' has a 3x3 stem without pooling, and no torchvision network has one"
    if model.kind == "pixels":
        return _NO_WEIGHTS
    if model.arch not in TORCHVISION_NAMES:
        return f"torchvision has no network with the key names of '{model.arch}'; it has {', '.join(TORCHVISION_NAMES)}"
    return None


def _write_torch(state: dict[str, Tensor], path: Path) -> None:
    # Through a file object, since torch writes a path's name into the file: equal weights shall be equal bytes.
    with open(path, "wb") as file:
        torch.save(state, file)


def _read_torchvision(model: Model, path: Path) -> nn.Module:
    network = torchvision.models.get_model(model.arch, weights=None)
    network.fc = nn.Identity()
    network.load_state_dict(torch.load(path, weights_only=True))
    return network


def _timm_refusal(model: Model) -> str | None:
    if model.kind == "pixels":
        return _NO_WEIGHTS
    if not is_timm_native(model.arch):
        return f"timm does not know '{model.arch}' without this toolkit; a zoo model folder serves there"
    return None


def _write_safetensors(state: dict[str, Tensor], path: Path) -> None:
    save_file(state, path, metadata={"format": "pt"})


def _read_timm(model: Model, path: Path) -> nn.Module:
    size: dict[str, Any] = {"img_size": model.input_size} if model.fixed_input else {}
    network: nn.Module = timm.create_model(model.arch, num_classes=0, **size)
    load_state(network, load_file(path), str(path))
    return network


TARGETS: dict[str, Target] = {
    "torchvision": Target(
        suffix=".pth",
        refusal=_torchvision_refusal,
        write=_write_torch,
        read=_read_torchvision,
        usage=lambda model, path: (
            f"network = torchvision.models.{model.arch}(); network.fc = torch.nn.Identity(); "
            f"network.load_state_dict(torch.load({str(path)!r}, weights_only=True))"
        ),
    ),
    "timm": Target(
        suffix=".safetensors",
        refusal=_timm_refusal,
        write=_write_safetensors,
        read=_read_timm,
        usage=lambda model, path: (
            f"network = timm.create_model({model.arch!r}, num_classes=0"
            + (f", img_size={model.input_size}" if model.fixed_input else "")
            + f"); network.load_state_dict(safetensors.torch.load_file({str(path)!r}))"
        ),
    ),
}


def convert(spec: str, to: str, out: str | Path, *, overwrite: bool = False) -> str:
    """Write a model's backbone as another library's weights file.

    Parameters
    ----------
    spec
        A model, as :func:`zoo.models.open_model` takes it.
    to
        ``"torchvision"``: a state dict for torchvision's ResNet with ``fc`` replaced by ``nn.Identity()``, plain tensors (``.pth``).
        ``"timm"``: safetensors for the timm network with ``num_classes=0``.
    out
        The file. It is in place only when the other library's network, loaded from it, gave the features of the model
        (largest difference at most 1e-5 of the largest feature).

    Returns
    -------
    How the file is loaded, in one line of Python.

    Raises
    ------
    UserError
        The format does not exist or cannot hold the model, ``out`` exists or cannot be written, or the features differ.
    """
    if to not in TARGETS:
        raise UserError(f"there is no format '{to}' to convert to; there is: {', '.join(TARGETS)}")
    target = TARGETS[to]
    out = Path(out)
    if out.suffix != target.suffix:
        raise UserError(f"a {to} file is called *{target.suffix}, so --out cannot be '{out}'")
    if out.is_dir() or (os.path.lexists(out) and not overwrite):
        raise UserError(f"{out} exists already; choose another --out, or give --overwrite to replace it")
    model = open_model(spec)
    reason = target.refusal(model)
    if reason is not None:
        raise UserError(f"'{spec}' cannot become a {to} file: {reason}")
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.module.state_dict().items()}

    def write(temporary: Path) -> None:
        try:
            target.write(state, temporary)
        # torch and safetensors turn the system's errors into their own.
        except Exception as error:
            raise UserError(f"{out} cannot be written ({first_line(error)})") from error
        _check_features(model, target.read(model, temporary), to)

    replace_file(out, write)
    return target.usage(model, out)


def _check_features(model: Model, theirs: nn.Module, to: str) -> None:
    side = model.input_size or native_size(model.module)
    images = torch.randn(_CHECK_IMAGES, 3, side, side, generator=torch.Generator().manual_seed(_CHECK_SEED))
    with torch.no_grad():
        wanted, found = model.module(images), theirs.eval()(images)
    difference = (wanted - found).abs().max().item() if wanted.shape == found.shape else float("inf")
    # Written so that a difference that is not a number fails too.
    if not difference <= RELATIVE_TOLERANCE * wanted.abs().max().item():
        raise UserError(
            f"'{model.name}' was not converted: the {to} network gives features that differ by up to {difference:.3g} from ours"
        )
