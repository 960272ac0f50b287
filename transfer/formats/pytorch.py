"""State dicts for torchvision's ResNets and for timm's networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from transfer.formats.target import Target, backbone_tensors, check_features
from zoo.backbones import TORCHVISION_NAMES, is_timm_native, load_state
from zoo.models.model import Model


def _torchvision_refusal(model: Model) -> str | None:
    if not is_timm_native(model.arch):
        return f"'{model.arch}' has a 3x3 stem without pooling, and no torchvision network has one"
    if model.arch not in TORCHVISION_NAMES:
        return f"torchvision has no network with the key names of '{model.arch}'; it has {', '.join(TORCHVISION_NAMES)}"
    return None


def _write_torch(model: Model, path: Path) -> None:
    # Through a file object, since torch writes a path's name into the file: equal weights shall be equal bytes.
    with open(path, "wb") as file:
        torch.save(backbone_tensors(model), file)


def _check_torchvision(model: Model, path: Path) -> list[str]:
    network = torchvision.models.get_model(model.arch, weights=None)
    network.fc = nn.Identity()
    network.load_state_dict(torch.load(path, weights_only=True))
    return [check_features(model, network.eval(), "torchvision")]


def _timm_refusal(model: Model) -> str | None:
    if not is_timm_native(model.arch):
        return f"timm does not know '{model.arch}' without this toolkit; a zoo model folder serves there"
    return None


def _write_safetensors(model: Model, path: Path) -> None:
    save_file(backbone_tensors(model), path, metadata={"format": "pt"})


def _check_timm(model: Model, path: Path) -> list[str]:
    size: dict[str, Any] = {"img_size": model.input_size} if model.fixed_input else {}
    network: nn.Module = timm.create_model(model.arch, num_classes=0, **size)
    load_state(network, load_file(path), str(path))
    return [check_features(model, network.eval(), "timm")]


TORCHVISION = Target(
    suffix=".pth",
    refusal=_torchvision_refusal,
    write=_write_torch,
    check=_check_torchvision,
    usage=lambda model, path: (
        f"network = torchvision.models.{model.arch}(); network.fc = torch.nn.Identity(); "
        f"network.load_state_dict(torch.load({str(path)!r}, weights_only=True))"
    ),
)
TIMM = Target(
    suffix=".safetensors",
    refusal=_timm_refusal,
    write=_write_safetensors,
    check=_check_timm,
    usage=lambda model, path: (
        f"network = timm.create_model({model.arch!r}, num_classes=0"
        + (f", img_size={model.input_size}" if model.fixed_input else "")
        + f"); network.load_state_dict(safetensors.torch.load_file({str(path)!r}))"
    ),
)
