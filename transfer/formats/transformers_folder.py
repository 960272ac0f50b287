"""A folder that Hugging Face's transformers loads by ``AutoModel.from_pretrained``: ResNets, plain vision transformers, DINOv2.

Names and settings: the model classes of transformers 5.24 (``models/resnet``, ``vit``, ``dinov2``, ``dinov2_with_registers``).
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from transfer.formats.target import Target, backbone_tensors, check_features
from zoo.backbones import TORCHVISION_NAMES, native_size
from zoo.models.model import Model
from zoo.models.transforms import INTERPOLATION, usual_crop_pct
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD

WEIGHTS, CONFIG, IMAGES = "model.safetensors", "config.json", "preprocessor_config.json"
_RESNET = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d+)\.(\d+)\.downsample\.0\.", r"encoder.stages.<\1>.layers.\2.shortcut.convolution."),
    (r"^layer(\d+)\.(\d+)\.downsample\.1\.", r"encoder.stages.<\1>.layers.\2.shortcut.normalization."),
    (r"^layer(\d+)\.(\d+)\.conv(\d)\.", r"encoder.stages.<\1>.layers.\2.layer.<\3>.convolution."),
    (r"^layer(\d+)\.(\d+)\.bn(\d)\.", r"encoder.stages.<\1>.layers.\2.layer.<\3>.normalization."),
)
_TRANSFORMER = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^reg_token$", "embeddings.register_tokens"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"^blocks\.(\d+)\.ls(\d)\.gamma$", r"encoder.layer.\1.layer_scale\2.lambda1"),
)
_VIT = (
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
)
_DINOV2 = ((r"^blocks\.(\d+)\.(norm\d|mlp\.fc\d)\.", r"encoder.layer.\1.\2."),)
_PLAIN = re.compile(r"(cls_token|pos_embed|reg_token|patch_embed\.proj|blocks|norm)\b")
_QKV = re.compile(r"^blocks\.(\d+)\.attn\.qkv\.(weight|bias)$")
_RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}


def _refusal(model: Model) -> str | None:
    if model.arch in TORCHVISION_NAMES and not model.arch.startswith(("wide_", "resnext")):
        return None
    module: Any = model.module
    if not isinstance(module, VisionTransformer):
        return "transformers has ResNets (without a small-image stem), plain vision transformers and DINOv2, and it is none of these"
    if module.cls_token is None or module.global_pool != "token":
        return "its feature is not the class token, which is what transformers' ViT gives"
    others = [name for name, _ in module.named_parameters() if not _PLAIN.match(name)]
    block: Any = module.blocks[0]
    scaled, registers = hasattr(block.ls1, "gamma"), getattr(module, "reg_token", None) is not None
    odd = any(re.search(r"q_norm|k_norm|attn\.norm|fc1_g|mlp\.norm", name) for name, _ in block.named_parameters())
    if others or odd or not isinstance(block.mlp.act, nn.GELU) or block.attn.qkv.bias is None:
        return f"it is no plain vision transformer ({', '.join(others[:3]) or 'another kind of block'})"
    if registers and not (scaled and module.no_embed_class):
        return "transformers has registers in DINOv2 alone"
    return None


def _config(model: Model) -> dict[str, Any]:
    module: Any = model.module
    if not isinstance(module, VisionTransformer):
        stages = [module.layer1, module.layer2, module.layer3, module.layer4]
        bottleneck = hasattr(module.layer1[0], "conv3")
        last = [stage[0].conv3 if bottleneck else stage[0].conv2 for stage in stages]
        return {
            "architectures": ["ResNetModel"],
            "model_type": "resnet",
            "depths": [len(stage) for stage in stages],
            "hidden_sizes": [layer.out_channels for layer in last],
            "embedding_size": module.conv1.out_channels,
            "layer_type": "bottleneck" if bottleneck else "basic",
            "hidden_act": "relu",
            "num_channels": 3,
        }
    block: Any = module.blocks[0]
    width, inner = module.embed_dim, block.mlp.fc1.out_features
    facts: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": len(module.blocks),
        "num_attention_heads": int(block.attn.num_heads),
        "hidden_act": "gelu",
        "layer_norm_eps": module.norm.eps,
        "image_size": int(module.patch_embed.img_size[0]),
        "patch_size": int(module.patch_embed.patch_size[0]),
        "num_channels": 3,
        "qkv_bias": True,
    }
    if not hasattr(block.ls1, "gamma"):
        return {"architectures": ["ViTModel"], "model_type": "vit", "intermediate_size": inner, **facts}
    facts |= {"mlp_ratio": inner // width, "use_swiglu_ffn": False}
    if module.reg_token is None:
        return {"architectures": ["Dinov2Model"], "model_type": "dinov2", **facts}
    registers = {"num_register_tokens": int(module.reg_token.shape[1])}
    return {"architectures": ["Dinov2WithRegistersModel"], "model_type": "dinov2_with_registers", **facts, **registers}


def _named(model: Model) -> dict[str, Tensor]:
    """The tensors by transformers' names; a ViT's queries, keys and values are apart there."""
    tensors = backbone_tensors(model)
    module: Any = model.module
    if not isinstance(module, VisionTransformer):
        return {_renamed(name, _RESNET): tensor for name, tensor in tensors.items()}
    scaled = hasattr(module.blocks[0].ls1, "gamma")
    if scaled:
        tensors["mask_token"] = torch.zeros(1, module.embed_dim)
    if module.reg_token is not None:
        # There the class token has a position, here it has been added to it: zeros.
        tensors["pos_embed"] = torch.cat([torch.zeros_like(tensors["cls_token"]), tensors["pos_embed"]], 1)
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if found := _QKV.match(name):
            for part, share in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                named[f"encoder.layer.{found[1]}.attention.attention.{part}.{found[2]}"] = share.contiguous()
        elif name == "mask_token":
            named["embeddings.mask_token"] = tensor
        else:
            named[_renamed(name, (*_TRANSFORMER, *(_DINOV2 if scaled else _VIT)))] = tensor
    return named


def _renamed(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    pattern, replacement = next((pattern, replacement) for pattern, replacement in renames if re.match(pattern, name))
    # Numbers in angle brackets count from 0 there.
    return re.sub(r"<(\d+)>", lambda number: str(int(number[1]) - 1), re.sub(pattern, replacement, name))


def _images(model: Model) -> dict[str, Any]:
    side = model.input_size or native_size(model.module)
    crop = model.crop_pct or usual_crop_pct(side)
    return {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": round(side / crop)},
        "resample": _RESAMPLE[model.interpolation or INTERPOLATION],
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model.mean or IMAGENET_MEAN),
        "image_std": list(model.std or IMAGENET_STD),
        "do_convert_rgb": True,
    }


def _write(model: Model, folder: Path) -> None:
    save_file(_named(model), folder / WEIGHTS, metadata={"format": "pt"})
    for name, content in ((CONFIG, _config(model)), (IMAGES, _images(model))):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def _check(model: Model, folder: Path) -> list[str]:
    import transformers

    network = transformers.AutoModel.from_pretrained(str(folder)).eval()
    token = isinstance(model.module, VisionTransformer)

    def theirs(images: Tensor) -> Tensor:
        output = network(images)
        features: Tensor = output.last_hidden_state[:, 0] if token else output.pooler_output.flatten(1)
        return features

    return [check_features(model, theirs, "transformers")]


def _usage(model: Model, folder: Path) -> str:
    features = ".last_hidden_state[:, 0]" if isinstance(model.module, VisionTransformer) else ".pooler_output.flatten(1)"
    return f"network = transformers.AutoModel.from_pretrained({str(folder)!r}); features = network.eval()(images){features}"


TRANSFORMERS = Target(
    suffix="",
    folder_marker=CONFIG,
    refusal=_refusal,
    write=_write,
    check=_check,
    usage=_usage,
    checkable=lambda: None if importlib.util.find_spec("transformers") else "transformers is not installed: pip install transformers",
)
