"""detectron2's pickle of a ResNet backbone: written and read without detectron2.

The file is a dict: ``model`` (name -> float32 array, without prefix, so that one file serves FPN's ``backbone.bottom_up``, C4's
``backbone`` and the res5 in C4's head), ``__author__`` and ``matching_heuristics`` (without either of which detectron2 fails, or loads
nothing and says so in a log), and ``backbone_loop``: what must be known of the weights, which detectron2 hands through.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer.formats.detectron2_config import config_values
from transfer.formats.detectron2_names import (
    COUNTER,
    DEPTHS,
    depth_of,
    detectron2_to_torchvision,
    expected_names,
    torchvision_to_detectron2,
    without_prefix,
)
from transfer.formats.detectron2_stages import check_file
from transfer.formats.target import Target
from transfer.presence import has_detectron2, require_detectron2
from zoo.backbones import create_empty_backbone, is_timm_native, load_state
from zoo.errors import UserError, listed, some_of
from zoo.hashing import file_sha256
from zoo.models.model import Model
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD, three_channels
from zoo.ranges import Range
from zoo.reading.checkpoint_file import open_checkpoint
from zoo.reading.outside import told
from zoo.reading.plain_pickle import load_plain_pickle

AUTHOR = "backbone-loop"
FACTS = "backbone_loop"
# What torch makes tensors of.
_NUMBERS = [np.dtype(code) for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")]
_ARCHS = {depth: arch for arch, depth in DEPTHS.items()}


def _refusal(model: Model) -> str | None:
    """Why a model has no place in detectron2's ResNet, or None."""
    if not is_timm_native(model.arch):
        return f"'{model.arch}' has a 3x3 stem without pooling, and detectron2's ResNet has the 7x7 one"
    if model.arch not in DEPTHS:
        kind = "vision transformers are not supported yet" if "vit" in model.arch else f"'{model.arch}' is none of them"
        return f"detectron2's ResNet holds {', '.join(DEPTHS)}, and {kind}"
    return None


def to_arrays(state: dict[str, Tensor], arch: str) -> dict[str, NDArray[np.float32]]:
    """A state dict by torchvision's names as arrays by detectron2's, every tensor accounted for; arrays share the tensors' memory.

    Raises
    ------
    UserError
        A tensor has no place in detectron2's ResNet, or one of its places stays empty.
    """
    arrays, left_over = {}, []
    for name, tensor in state.items():
        if name.endswith(COUNTER):
            continue
        theirs = torchvision_to_detectron2(name)
        if theirs is None:
            left_over.append(name)
        else:
            arrays[theirs] = tensor.detach().cpu().contiguous().numpy()
    wanted = expected_names(DEPTHS[arch])
    too_many = sorted(arrays.keys() - wanted)
    complaints = listed({"without a place": sorted(left_over), "missing": sorted(wanted - arrays.keys()), "too many": too_many})
    if complaints:
        raise UserError(f"these are not the tensors of detectron2's {arch}: {complaints}")
    return arrays


def write(model: Model, path: Path) -> None:
    """Write the pickle of a model's backbone."""
    state = model.module.state_dict()
    facts = {
        "name": model.name,
        "arch": model.arch,
        "tensors_sha256": model.tensors_sha256,
        "mean": [float(value) for value in model.mean or IMAGENET_MEAN],
        "std": [float(value) for value in model.std or IMAGENET_STD],
        "config": config_values(model),
        COUNTER: {name: int(tensor) for name, tensor in state.items() if name.endswith(COUNTER)},
    }
    content = {"model": to_arrays(state, model.arch), "__author__": AUTHOR, "matching_heuristics": True, FACTS: facts}
    with path.open("wb") as file:
        # Protocol 5 writes an array's memory as it lies there, without a copy.
        pickle.dump(content, file, protocol=5)


def read(path: Path) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """The backbone in a file of detectron2: a pickle of a backbone, or a checkpoint of a whole detector (``.pth``).

    Nothing in the file is executed.

    Returns
    -------
    timm's name of the architecture; the tensors by torchvision's names; what :func:`write` noted, empty in files of others.

    Raises
    ------
    UserError
        The file is damaged, or its backbone is not exactly that of a ResNet.
    """
    content = _content(path)
    tensors = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(tensors, dict):
        raise UserError(f"{path} holds no 'model' with named tensors, so it is no file of detectron2's")
    places = {str(name): without_prefix(str(name)) for name in tensors}
    found = {place: tensors[name] for name, place in places.items() if place and not place.endswith(COUNTER)}
    depth = depth_of(set(found))
    if depth is None:
        some = some_of([*map(str, tensors)]) or "none"
        raise UserError(
            f"the backbone in {path} is none of detectron2's ResNets: {len(found)} of its {len(tensors)} tensors are in stem or res2 to "
            f"res5, and for no depth are they all there (first names: {some})"
        )
    state = {}
    for name, values in found.items():
        ours = detectron2_to_torchvision(name)
        assert ours is not None, name  # every expected name has an inverse
        state[ours] = _tensor(values, f"{path}: '{name}'")
    facts = _facts(content.get(FACTS, {}), path)
    state |= {name: torch.tensor(count) for name, count in facts.get(COUNTER, {}).items()}
    return _ARCHS[depth], state, facts


def _tensor(values: Any, where: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    if not isinstance(values, np.ndarray) or values.dtype not in _NUMBERS:
        found = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else told(values)
        raise UserError(f"{where} is {found}, and an array of numbers is expected")
    return torch.from_numpy(np.array(values))


def _facts(facts: Any, path: Path) -> dict[str, Any]:
    """What :func:`write` noted, of the right types. Raises UserError for anything else."""
    if not isinstance(facts, dict):
        raise UserError(f"{path}: its '{FACTS}' is {told(facts)}, and a dict is expected")
    counts = facts.get(COUNTER, {})
    numbered = isinstance(counts, dict) and all(isinstance(name, str) and type(count) is int for name, count in counts.items())
    if not numbered or not all(abs(count) < 2**63 for count in counts.values()):
        raise UserError(f"{path}: '{COUNTER}' of its '{FACTS}' has something else than whole numbers by name")
    for name in ("mean", "std"):
        values = facts.get(name)
        if values and not (isinstance(values, (list, tuple)) and len(values) == 3 and all(value in Range() for value in values)):
            raise UserError(f"{path}: '{name}' of its '{FACTS}' is {told(values)}, and three numbers are expected")
    return facts


def open_file(path: str | Path) -> Model:
    """The model in a file of detectron2, as :func:`zoo.model_spec.open_model` gives those of others. Errors as :func:`read`."""
    path = Path(path).expanduser()
    arch, state, facts = read(path)
    module = create_empty_backbone(arch)
    load_state(module, state, str(path))
    return Model.of_backbone(
        module,
        name=str(facts.get("name", path.stem)),
        kind="detectron2",
        arch=arch,
        mean=three_channels(facts["mean"]) if facts.get("mean") else None,
        std=three_channels(facts["std"]) if facts.get("std") else None,
        file_sha256=file_sha256(path),
        metadata=facts,
    )


def _content(path: Path) -> Any:
    if path.suffix == ".pkl":
        return load_plain_pickle(path)
    return open_checkpoint(path).content


def _check(model: Model, path: Path) -> list[str]:
    require_detectron2()
    return check_file(model, path)


def _checkable() -> str | None:
    return None if has_detectron2() else "detectron2 is not installed here"


def _usage(model: Model, path: Path) -> str:
    values = {"MODEL.WEIGHTS": str(path), **config_values(model)}
    return " ".join(f"{key} {_word(value)}" for key, value in values.items())


def _word(value: Any) -> str:
    return f"'{value}'" if isinstance(value, list) else str(value)


DETECTRON2 = Target(suffix=".pkl", refusal=_refusal, write=write, check=_check, usage=_usage, checkable=_checkable)
