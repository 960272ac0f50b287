"""Checkpoints made by the lists of names in ``../shared/layouts``: what the writers' own classes save, with random numbers in it.

A list is the names, shapes and types of every tensor of one file, and what stands around them. Which of the tensors are the backbone's, and
what the backbone computes, is said here a second time, apart from the readers that are tested: :data:`BACKBONES` and :func:`vit_features`.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import types
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

FOLDER = Path(__file__).parents[3] / "shared" / "layouts"
NAMES = sorted(path.name.removesuffix(".json.gz") for path in FOLDER.glob("*.json.gz"))
_OWN_STORAGE = 1 << 16  # larger tensors are parts of one storage, which is written once: the files would have 20 GB together
_POOL = 1 << 24  # numbers; no more than the 16 tensors to a byte that a file may ask for
_HISTORY_BUFFER = "mmengine.logging.history_buffer"


@dataclass(frozen=True)
class Backbone:
    """Where a file's backbone is, and how its tensors are called.

    Attributes
    ----------
    names
        Regular expression of the lists that this is about.
    place, prefix
        The keys that lead to its state dict, and what its tensors' names begin with there.
    renamed
        timm's name -> the file's, behind the prefix.
    readers, encoder
        Which layouts are right answers, and which network.
    """

    names: str
    place: str
    prefix: str
    readers: tuple[str, ...]
    encoder: str
    renamed: Callable[[str], str] = lambda name: name


def _replacing(*pairs: tuple[str, str | Callable[[re.Match[str]], str]]) -> Callable[[str], str]:
    def rename(name: str) -> str:
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        return name

    return rename


def _numbered(first: int) -> Callable[[str], str]:
    """A ResNet's children in a sequence; ``first`` is the number of ``layer1``."""
    numbers = {"conv1": 0, "bn1": 1} | {f"layer{stage}": first + stage - 1 for stage in (1, 2, 3, 4)}
    return lambda name: f"{numbers[name.partition('.')[0]]}.{name.partition('.')[2]}"


_OPENMMLAB = _replacing(
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^norm\.", "ln1."),
    (r"^blocks\.(\d+)\.norm", r"layers.\1.ln"),
    (r"^blocks\.(\d+)\.mlp\.fc1", r"layers.\1.ffn.layers.0.0"),
    (r"^blocks\.(\d+)\.mlp\.fc2", r"layers.\1.ffn.layers.1"),
    (r"^blocks\.", "layers."),
)
_TORCHVISION_VIT = _replacing(
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^norm\.", "encoder.ln."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
    (r"\.attn\.proj\.", ".self_attention.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
)

_V1D = _replacing(
    (r"^conv1\.([036])\.", lambda match: f"stem.{int(match[1]) // 3}.conv."),
    (r"^conv1\.([14])\.", lambda match: f"stem.{int(match[1]) // 3}.bn."),
    (r"^bn1\.", "stem.2.bn."),
    (r"^layer1\.0\.downsample\.([12])\.", lambda match: f"layer1.0.downsample.{int(match[1]) - 1}."),
)

BACKBONES = (
    Backbone("adco_.*", "state_dict", "module.encoder_q.", ("adco",), "query"),
    Backbone("hcsc_.*", "state_dict", "module.encoder_q.", ("hcsc",), "query"),
    Backbone("pcl_.*|moco_v2_small_queue_16384", "state_dict", "module.encoder_q.", ("pcl",), "query"),
    Backbone("moco_cifar_notebook", "state_dict", "encoder_q.net.", ("moco_cifar",), "query", _numbered(3)),
    Backbone("moco_v2_one_gpu", "state_dict", "encoder_q.", ("moco",), "query"),
    Backbone("moco_.*", "state_dict", "module.encoder_q.", ("moco",), "query"),
    Backbone("mocov3_.*", "state_dict", "module.base_encoder.", ("moco_v3",), "query"),
    Backbone("ccrop_moco_.*", "moco_state", "module.encoder_q.", ("ccrop_moco",), "query"),
    Backbone("ccrop_byol_.*", "byol_state", "module.encoder_q.", ("ccrop_byol",), "query"),
    Backbone("ccrop_simclr_.*", "simclr_state", "module.", ("ccrop_simclr",), "online"),
    Backbone("ccrop_simsiam_.*", "simsiam_state", "module.encoder.", ("ccrop_simsiam",), "online"),
    Backbone("simsiam_r50", "state_dict", "module.encoder.", ("simsiam",), "online"),
    Backbone("swav_.*", "", "module.", ("swav",), "online"),
    Backbone("deepclusterv2_run", "state_dict", "module.", ("swav",), "online"),
    Backbone("densecl_published", "state_dict", "", ("torchvision",), "online"),
    Backbone("(barlow_backbone|lightly_train_export|tv_r50|timm_push)", "", "", ("torchvision",), "online"),
    Backbone("dino_backbone_r50", "", "module.", ("torchvision",), "online"),
    Backbone("dino_backbone_.*|dinov2_.*", "", "", ("timm",), "raw"),
    Backbone("(dino|ibot)_full_.*", "teacher", "backbone.", ("dino",), "teacher"),
    Backbone("ibot_backbone_.*|timm_train.*", "state_dict", "", ("timm",), "raw"),
    Backbone("hirl(_simsiam|_swav|_dino)_full", "model", "module.model.backbone.", ("hirl",), "backbone"),
    Backbone("hirlbase_.*_full", "model", "module.backbone.", ("hirl",), "backbone"),
    Backbone("hirlbase_.*_backbone", "model", "backbone.", ("hirl",), "backbone"),
    Backbone("hirl_.*_backbone", "model", "model.backbone.", ("hirl",), "backbone"),
    Backbone("lightly_bench_vit_dino", "state_dict", "backbone.vit.", ("lightly_vit",), "online"),
    Backbone("lightly_bench_.*", "state_dict", "backbone.", ("lightly_benchmark",), "online"),
    Backbone("lightly_ex_mae", "state_dict", "backbone.vit.", ("lightly_vit",), "online"),
    Backbone("lightly_ex_msn", "state_dict", "backbone.vit.", ("lightly_vit",), "online", _TORCHVISION_VIT),
    Backbone("lightly_ex_dino", "state_dict", "teacher_backbone.", ("lightly",), "online", _numbered(4)),
    Backbone("lightly_ex_simclr_statedict", "", "backbone.", ("lightly",), "online", _numbered(4)),
    Backbone("lightly_ex_.*", "state_dict", "backbone.", ("lightly",), "online", _numbered(4)),
    Backbone("mae_full_.*", "model", "", ("mae",), "online"),
    Backbone("mae_published_.*", "model", "", ("timm",), "raw"),
    Backbone("mm_mae_vitb", "state_dict", "backbone.", ("mmselfsup",), "query", _OPENMMLAB),
    Backbone("mm_mocov2_v1d", "state_dict", "backbone.", ("mmselfsup",), "query", _V1D),
    Backbone("mm_.*", "state_dict", "backbone.", ("mmselfsup",), "query"),
    Backbone("solo_.*", "state_dict", "backbone.", ("solo_learn",), "online"),
    Backbone("torch_compile_ddp", "state_dict", "module._orig_mod.", ("torchvision",), "online"),
    Backbone("tv_train_ref_noema", "model", "", ("torchvision",), "online"),
    Backbone("tv_vit_b16", "", "", ("torchvision_vit",), "online", _TORCHVISION_VIT),
    Backbone("vicreg_full", "model", "module.backbone.", ("barlow_twins",), "online"),
    Backbone("vissl_r50", "classy_state_dict.base_model.model.trunk", "_feature_blocks.", ("vissl",), "online"),
)


def backbone_of(name: str) -> Backbone:
    """Where the backbone of the file of this list is."""
    return next(backbone for backbone in BACKBONES if re.fullmatch(backbone.names, name))


def layout(name: str) -> dict[str, Any]:
    """The list of this name."""
    with gzip.open(FOLDER / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def elements(description: Any) -> int:
    """How many numbers all tensors of a list have."""
    if isinstance(description, dict):
        if {"tensor", "dtype"} <= description.keys():
            return int(np.prod(description["tensor"], dtype=np.int64))
        return sum(map(elements, description.values()))
    return sum(map(elements, description)) if isinstance(description, list) else 0


class _HistoryBuffer:
    """mmengine's record of logged numbers, as far as its pickle goes: its state holds functions of its own class."""

    def __init__(self) -> None:
        self.max_length = 1_000_000
        self._log_history = np.array([0.5, 0.25])
        self._count_history = np.array([1, 1])
        self._statistics_methods = {name: getattr(type(self), name) for name in ("min", "max")}

    def min(self) -> float:
        return float(self._log_history.min())

    def max(self) -> float:
        return float(self._log_history.max())


_BUFFER = type("HistoryBuffer", (), dict(vars(_HistoryBuffer)) | {"__module__": _HISTORY_BUFFER, "__qualname__": "HistoryBuffer"})
for _function in (_BUFFER.min, _BUFFER.max):  # type: ignore[attr-defined]
    _function.__module__, _function.__qualname__ = _HISTORY_BUFFER, f"HistoryBuffer.{_function.__name__}"


def exclude_bias_and_norm(parameter: Tensor) -> bool:
    """Stands for the function of VICReg's script that its optimizer keeps."""
    return parameter.ndim == 1


exclude_bias_and_norm.__module__ = "__main__"


@contextmanager
def writers_classes() -> Iterator[None]:
    """The classes and functions of others that a file may name, where pickle looks for them when it writes."""
    modules = {name: types.ModuleType(name) for name in ("mmengine", "mmengine.logging", _HISTORY_BUFFER)}
    modules[_HISTORY_BUFFER].HistoryBuffer = _BUFFER  # type: ignore[attr-defined]
    main = sys.modules["__main__"]
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    main.exclude_bias_and_norm = exclude_bias_and_norm  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del main.exclude_bias_and_norm  # type: ignore[attr-defined]
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Maker:
    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.pool: Tensor = torch.empty(0)

    def content(self, description: Any, name: str = "") -> Any:
        if isinstance(description, dict):
            if {"tensor", "dtype"} <= description.keys():
                return self.tensor(description, name)
            return {key: self.content(value, key) for key, value in description.items()}
        if isinstance(description, list):
            return [self.content(value) for value in description]
        if description == "...":
            return {"state": {}, "param_groups": [{"lr": 0.1}]}
        if isinstance(description, str):
            return self.thing(description)
        return description

    def thing(self, text: str) -> Any:
        kind, _, what = text.partition(" ")
        if text == "object argparse.Namespace":
            return Namespace(arch="of the writer", lr=0.1)
        if text == f"object {_HISTORY_BUFFER}.HistoryBuffer":
            return _BUFFER()
        if kind == "function":
            return {"__main__.exclude_bias_and_norm": exclude_bias_and_norm}[what]
        if text.startswith("list of "):
            return list(range(int(text.removeprefix("list of "))))
        return text

    def tensor(self, description: dict[str, Any], name: str) -> Tensor:
        shape, dtype = tuple(description["tensor"]), getattr(torch, description["dtype"])
        if description.get("values") == "sincos":
            return sincos(shape)
        if not dtype.is_floating_point:
            return torch.full(shape, 5, dtype=dtype)
        positive = name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight"))
        numbers = self.numbers(shape)
        return (1 + numbers if positive else numbers).to(dtype)

    def numbers(self, shape: tuple[int, ...]) -> Tensor:
        size = int(np.prod(shape, dtype=np.int64))
        if size <= _OWN_STORAGE:
            return torch.randn(shape, generator=self.random) * 0.02
        if not self.pool.numel():
            self.pool = torch.randn(_POOL, generator=self.random) * 0.02
        if size > _POOL // 2:
            return torch.empty(shape).uniform_(-0.02, 0.02, generator=self.random)
        start = int(torch.randint(_POOL - size, (), generator=self.random))
        return self.pool[start : start + size].view(shape)


def sincos(shape: tuple[int, ...]) -> Tensor:
    """MoCo v3's fixed positions: (1, 1 + side * side, D), zeros for the class token."""
    _, length, width = shape
    side = round((length - 1) ** 0.5)
    positions = np.zeros(shape)
    for index in range(side * side):
        row, column = divmod(index, side)
        for k in range(width // 4):
            w = 10000 ** (-k / (width // 4))
            values = (np.sin(row * w), np.cos(row * w), np.sin(column * w), np.cos(column * w))
            for quarter, value in enumerate(values):
                positions[0, 1 + index, quarter * (width // 4) + k] = value
    return torch.tensor(positions, dtype=torch.float32)


def make(name: str) -> dict[str, Any]:
    """The content of the file of a list, with random numbers that its name seeds."""
    described = layout(name)
    content: dict[str, Any] = _Maker(zlib.crc32(name.encode())).content(described["content"])
    for first, second in described.get("same", ()):
        for state in content.values():
            if isinstance(state, dict):
                for key in [key for key in state if key.startswith(first) and second + key.removeprefix(first) in state]:
                    state[second + key.removeprefix(first)] = state[key]
    return content


def write(name: str, content: dict[str, Any], folder: Path) -> Path:
    """The file of a list, in the container that its writer uses."""
    path = folder / layout(name)["file"]
    if path.suffix == ".safetensors":
        save_file({key: tensor.clone() for key, tensor in content.items()}, path)
    else:
        with writers_classes():
            torch.save(content, path, _use_new_zipfile_serialization=not name.endswith("_legacy"))
    return path


def right_tensors(content: dict[str, Any], backbone: Backbone, names: list[str]) -> dict[str, Tensor]:
    """The backbone's tensors in a file's content, by timm's ``names``."""
    state: Any = content
    for key in filter(None, backbone.place.split(".")):
        state = state[key]
    return {name: state[backbone.prefix + backbone.renamed(name)] for name in names}


def vit_features(tensors: dict[str, Tensor], images: Tensor, heads: int) -> Tensor:
    """The class token of a plain vision transformer (Dosovitskiy et al., arXiv 2010.11929, section 3.1), by timm's names.

    Norms have an epsilon of 1e-6, as all of DINO, iBOT, MAE, MoCo v3, torchvision and OpenMMLab have it.
    """
    from torch.nn import functional as F

    patch = tensors["patch_embed.proj.weight"].shape[-1]
    tokens = F.conv2d(images, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=patch).flatten(2).mT
    tokens = torch.cat([tensors["cls_token"].expand(len(images), -1, -1), tokens], 1)
    tokens = tokens + tensors["pos_embed"]
    width = tokens.shape[-1]

    def norm(values: Tensor, name: str) -> Tensor:
        return F.layer_norm(values, (width,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-6)

    def linear(values: Tensor, name: str) -> Tensor:
        return values @ tensors[f"{name}.weight"].mT + tensors[f"{name}.bias"]

    block = 0
    while f"blocks.{block}.norm1.weight" in tensors:
        front = f"blocks.{block}."
        parts = linear(norm(tokens, front + "norm1"), front + "attn.qkv").chunk(3, -1)
        query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        weights = (query @ key.mT / (width // heads) ** 0.5).softmax(-1)
        attended = linear((weights @ value).transpose(1, 2).flatten(2), front + "attn.proj")
        tokens = tokens + attended * tensors.get(front + "ls1.gamma", torch.ones(()))
        hidden = F.gelu(linear(norm(tokens, front + "norm2"), front + "mlp.fc1"))
        tokens = tokens + linear(hidden, front + "mlp.fc2") * tensors.get(front + "ls2.gamma", torch.ones(()))
        block += 1
    return norm(tokens, "norm")[:, 0]
