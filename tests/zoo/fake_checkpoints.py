"""Files as the published training scripts write them, built from their lists of keys: small networks, every layout that is read.

In each, the tensors that must come out are the same (``right``); whatever else has a backbone's names holds other numbers.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]
ARCH = "resnet10_small"
VIT_ARCH = "test_vit"


def behind(prefix: str, state: State) -> State:
    """The tensors with something in front of their names."""
    return {prefix + name: tensor for name, tensor in state.items()}


def other(state: State, by: float = 1.0) -> State:
    """A network of the same names and shapes with other numbers."""
    return {name: tensor + by if tensor.is_floating_point() else tensor + 1 for name, tensor in state.items()}


def linear(prefix: str, *numbers: int) -> State:
    """A head of linear layers at these places of a sequence; without numbers, one layer."""
    names = [f"{prefix}{number}." for number in numbers] or [prefix]
    return {f"{name}{kind}": torch.randn(4, 4) if kind == "weight" else torch.randn(4) for name in names for kind in ("weight", "bias")}


def queue(length: int = 64) -> State:
    return {"queue": torch.randn(4, length), "queue_ptr": torch.zeros(1, dtype=torch.long)}


def numpy_scalars() -> dict[str, Any]:
    """An optimizer whose rate came from a NumPy schedule."""
    return {"state": {}, "param_groups": [{"lr": np.float64(0.1), "weight_decay": np.float32(1e-4), "betas": np.array([0.9, 0.999])}]}


def moco(right: State, *, mlp: bool = True, wrapper: str = "module.", length: int = 64) -> State:
    head = linear("fc.", 0, 2) if mlp else linear("fc.")
    query, key = {**right, **head}, {**other(right), **head}
    return behind(wrapper, {**queue(length), **behind("encoder_q.", query), **behind("encoder_k.", key)})


def training(state: State, **more: Any) -> dict[str, Any]:
    """The dictionary that PyTorch's ImageNet example saves, which most scripts took over."""
    return {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.03}]}} | more


def lightning(state: State, **more: Any) -> dict[str, Any]:
    return {"state_dict": state, "epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.1.0", "optimizer_states": []} | more


def sequential(right: State) -> State:
    """Names as a torch.nn.Sequential of a torchvision ResNet's children has them."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return {f"{numbers[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor for name, tensor in right.items()}


def notebook(right: State) -> State:
    """Names as MoCo's CIFAR notebook has them."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 3, "layer2": 4, "layer3": 5, "layer4": 6}
    return {f"net.{numbers[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor for name, tensor in right.items()}


def mmselfsup_vit(right: State) -> State:
    """timm's names of a vision transformer as OpenMMLab has them."""
    renamed = {}
    for name, tensor in right.items():
        for ours, theirs in (
            ("patch_embed.proj.", "patch_embed.projection."),
            ("blocks.", "layers."),
            (".norm1.", ".ln1."),
            (".norm2.", ".ln2."),
            (".mlp.fc1.", ".ffn.layers.0.0."),
            (".mlp.fc2.", ".ffn.layers.1."),
        ):
            name = name.replace(ours, theirs)
        renamed["ln1." + name.removeprefix("norm.") if name.startswith("norm.") else name] = tensor
    return renamed


def torchvision_vit(right: State) -> State:
    """timm's names of a vision transformer as torchvision has them."""
    renamed = {}
    for name, tensor in right.items():
        for ours, theirs in (
            ("cls_token", "class_token"),
            ("pos_embed", "encoder.pos_embedding"),
            ("patch_embed.proj.", "conv_proj."),
            (".norm1.", ".ln_1."),
            (".norm2.", ".ln_2."),
            (".attn.qkv.", ".self_attention.in_proj_"),
            (".attn.proj.", ".self_attention.out_proj."),
            (".mlp.fc1.", ".mlp.0."),
            (".mlp.fc2.", ".mlp.3."),
            ("blocks.", "encoder.layers.encoder_layer_"),
        ):
            name = name.replace(ours, theirs)
        renamed["encoder.ln." + name.removeprefix("norm.") if name.startswith("norm.") else name] = tensor
    return renamed


@dataclass(frozen=True)
class Fake:
    """A layout's file, and what reading it must say.

    Attributes
    ----------
    build
        The right tensors -> the file's content.
    reader
        What ``auto`` recognises.
    encoder
        Which network is taken.
    also
        Other layouts that fit.
    vit
        Whether the right tensors are a vision transformer's.
    options
        For the reading.
    """

    build: Callable[[State], Any]
    reader: str
    encoder: str
    also: tuple[str, ...] = ()
    vit: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def _dino(right: State) -> dict[str, Any]:
    teacher = {**behind("backbone.", right), **linear("head.mlp.", 0, 2)}
    student = behind("module.", {**behind("backbone.", other(right)), **linear("head.mlp.", 0, 2)})
    return {
        "student": student,
        "teacher": teacher,
        "optimizer": numpy_scalars(),
        "epoch": 100,
        "args": Namespace(arch="vit_small", lr=0.0005),
        "dino_loss": {"center": torch.zeros(1, 4)},
        "fp16_scaler": None,
    }


_NO_HEAD = ("timm", "dino", "barlow_twins", "vicreg")

FAKES: dict[str, Fake] = {
    "hcsc": Fake(lambda right: training({**moco(right), "module.queue_index": torch.zeros(64, dtype=torch.long)}), "hcsc", "query"),
    "hcsc, bare, no optimizer": Fake(
        lambda right: {**moco(right, wrapper=""), "queue_index": torch.zeros(64, dtype=torch.long)}, "hcsc", "query"
    ),
    "hcsc, saved twice": Fake(
        lambda right: training({**moco(right, wrapper="module.module."), "module.module.queue_index": torch.zeros(64)}), "hcsc", "query"
    ),
    "moco v1": Fake(lambda right: training(moco(right, mlp=False)), "moco", "query"),
    "moco v2": Fake(lambda right: training(moco(right)), "moco", "query"),
    "moco v2, one GPU": Fake(lambda right: training(moco(right, wrapper="")), "moco", "query"),
    "moco, key encoder": Fake(lambda right: training(moco(other(right, -1.0))), "moco", "key", options={"encoder": "key"}),
    "pcl": Fake(lambda right: training(moco(right, length=16384)), "pcl", "query", ("moco",)),
    "csml": Fake(
        lambda right: {key: value for key, value in training(moco(right)).items() if key != "arch"},
        "csml",
        "query",
        options={"format": "csml"},
    ),
    "adco": Fake(
        lambda right: training(
            behind("module.", {**behind("encoder_q.", {**right, **linear("fc.", 0, 2)}), **behind("encoder_k.", other(right))}),
            Memory_Bank=torch.randn(4, 8),
            best_acc=torch.tensor(1.0),
        ),
        "adco",
        "query",
    ),
    "moco cifar notebook": Fake(
        lambda right: {
            "epoch": 200,
            "state_dict": {
                **behind("encoder_q.", {**notebook(right), **linear("net.9.")}),
                **behind("encoder_k.", {**notebook(other(right)), **linear("net.9.")}),
                **queue(),
            },
        },
        "moco_cifar",
        "query",
    ),
    "msf": Fake(
        lambda right: {
            "state_dict": {
                **behind("encoder_q.module.", {**right, **linear("fc.", 0, 3)}),
                **behind("encoder_t.module.", other(right)),
                **linear("predict_q.module.", 0, 3),
                **queue(),
            },
            "optimizer": {},
        },
        "msf",
        "query",
    ),
    "moco v3": Fake(
        lambda right: training(
            behind(
                "module.",
                {
                    **behind("base_encoder.", {**right, **linear("fc.", 0, 1, 3, 4)}),
                    **behind("momentum_encoder.", {**other(right), **linear("fc.", 0, 1, 3, 4)}),
                    **linear("predictor.", 0, 1, 3),
                },
            ),
            scaler={"scale": 65536.0},
        ),
        "moco_v3",
        "query",
    ),
    "moco v3, vit": Fake(
        lambda right: training(
            behind(
                "module.",
                {
                    **behind("base_encoder.", {**right, **linear("head.", 0, 1, 3)}),
                    **behind("momentum_encoder.", other(right)),
                    **linear("predictor.", 0),
                },
            )
        ),
        "moco_v3",
        "query",
        vit=True,
    ),
    "contrastive crop, simclr": Fake(
        lambda right: {
            "optimizer_state": {},
            "simclr_state": behind("module.", {**right, **linear("fc.", 0, 2)}),
            "boxes": torch.rand(5, 4),
            "epoch": 500,
        },
        "ccrop_simclr",
        "online",
    ),
    "contrastive crop, moco": Fake(
        lambda right: {"optimizer_state": {}, "moco_state": moco(right), "boxes": torch.rand(5, 4), "epoch": 500}, "ccrop_moco", "query"
    ),
    "contrastive crop, byol": Fake(
        lambda right: {
            "optimizer_state": {},
            "byol_state": behind(
                "module.",
                {
                    **behind("encoder_q.", {**right, **linear("fc.", 0, 1, 3)}),
                    **behind("encoder_k.", other(right)),
                    **linear("predictor.", 0, 1, 3),
                },
            ),
            "boxes": torch.rand(5, 4),
            "epoch": 500,
        },
        "ccrop_byol",
        "query",
    ),
    "contrastive crop, simsiam": Fake(
        lambda right: {
            "optimizer_state": {},
            "simsiam_state": behind(
                "module.", {**behind("encoder.", {**right, **linear("fc.", 0, 1, 3, 4, 6)}), **linear("predictor.", 0, 1, 3)}
            ),
            "boxes": torch.rand(5, 4),
            "epoch": 500,
        },
        "ccrop_simsiam",
        "online",
    ),
    "simsiam": Fake(
        lambda right: training(
            behind("module.", {**behind("encoder.", {**right, **linear("fc.", 0, 1, 3, 4, 6)}), **linear("predictor.", 0, 1, 3)})
        ),
        "simsiam",
        "online",
    ),
    "swav": Fake(
        lambda right: behind("module.", {**right, **linear("projection_head.", 0, 1, 3), "prototypes.weight": torch.randn(3, 4)}),
        "swav",
        "online",
    ),
    "deepcluster v2, own run": Fake(
        lambda right: {
            "epoch": 400,
            "state_dict": behind(
                "module.", {**right, **linear("projection_head.", 0, 1, 3), "prototypes.prototypes0.weight": torch.randn(3, 4)}
            ),
            "optimizer": numpy_scalars(),
        },
        "swav",
        "online",
    ),
    "hirl, baseline": Fake(lambda right: {"model": behind("backbone.", {**right, **linear("fc.", 0, 2)})}, "hirl", "backbone"),
    "hirl": Fake(
        lambda right: {"model": behind("module.", behind("model.backbone.", {**right, **linear("fc.", 0, 2)}))}, "hirl", "backbone"
    ),
    "hirl, full file with aliases": Fake(
        lambda right: {
            "model": behind(
                "module.",
                {
                    **behind("model.backbone.", {**right, **linear("fc.", 0, 2)}),
                    **behind("model.encoder_q.", right),
                    **behind("model.encoder_k.", other(right)),
                    **linear("projections.", 0),
                },
            ),
            "epoch": 200,
            "args": {"lr": 0.1},
        },
        "hirl",
        "backbone",
    ),
    "dino, full, resnet": Fake(lambda right: {**_dino(right), "teacher": behind("module.", _dino(right)["teacher"])}, "dino", "teacher"),
    "dino, full, vit": Fake(_dino, "dino", "teacher", vit=True),
    "dino, student": Fake(lambda right: _dino(other(right, -1.0)), "dino", "student", vit=True, options={"encoder": "student"}),
    "dino, backbone, vit": Fake(lambda right: right, "timm", "raw", ("dino",), vit=True),
    "ibot, backbone": Fake(
        lambda right: {"state_dict": {**right, "masked_embed": torch.zeros(1, 4)}}, "dino", "teacher", vit=True, options={"format": "dino"}
    ),
    "barlow twins": Fake(lambda right: right, "torchvision", "online", _NO_HEAD),
    "barlow twins, full": Fake(
        lambda right: {
            "epoch": 1000,
            "model": behind("module.", {**behind("backbone.", right), **linear("projector.", 0, 1, 3, 4, 6), **linear("bn.")}),
            "optimizer": {},
        },
        "barlow_twins",
        "online",
    ),
    "vicreg, full": Fake(
        lambda right: {"epoch": 1, "model": behind("module.", {**behind("backbone.", right), **linear("projector.", 0, 1, 3)})},
        "barlow_twins",
        "online",
        ("vicreg",),
    ),
    "densecl, published": Fake(
        lambda right: {"state_dict": right, "author": "DenseCL"}, "torchvision", "online", ("timm", "dino", "densecl")
    ),
    "densecl, training": Fake(
        lambda right: {
            "meta": {"epoch": 200, "env": "x"},
            "state_dict": {
                **behind("backbone.", right),
                **behind("encoder_q.0.", right),
                **linear("encoder_q.1.", 0, 2),
                **behind("encoder_k.0.", other(right)),
                **linear("encoder_k.1.", 0, 2),
                **queue(),
                **behind("queue2", {"": torch.randn(4, 8), "_ptr": torch.zeros(1)}),
            },
            "optimizer": {},
        },
        "densecl",
        "query",
    ),
    "mmselfsup, moco": Fake(
        lambda right: {
            "meta": {"cfg": "text", "seed": 0},
            "state_dict": {
                **behind("backbone.", right),
                **linear("neck.mlp.", 0, 2),
                **behind("encoder_k.module.0.", other(right)),
                **linear("encoder_k.module.1.", 0),
                **queue(),
            },
        },
        "mmselfsup",
        "query",
    ),
    "mmselfsup, vit": Fake(
        lambda right: {
            "meta": {"cfg": "text"},
            "state_dict": {
                **behind("backbone.", mmselfsup_vit(right)),
                **linear("neck.", 0),
                **linear("head.", 0),
                **behind("momentum_encoder.module.0.", mmselfsup_vit(other(right))),
            },
        },
        "mmselfsup",
        "query",
        vit=True,
    ),
    "mae, with its decoder": Fake(
        lambda right: {
            "model": {
                **right,
                "mask_token": torch.zeros(1, 1, 4),
                "decoder_pos_embed": torch.zeros(1, 5, 4),
                **linear("decoder_embed."),
                **linear("decoder_blocks.0.mlp.fc1."),
                **linear("decoder_norm."),
                **linear("decoder_pred."),
            },
            "epoch": 799,
            "args": Namespace(model="mae_vit_base_patch16"),
        },
        "mae",
        "online",
        vit=True,
    ),
    "torchvision, vit": Fake(
        lambda right: {**torchvision_vit(right), **linear("heads.head.")}, "torchvision_vit", "online", vit=True
    ),
    "lightly, dino of vits": Fake(
        lambda right: lightning(
            {
                "teacher_backbone.mask_token": torch.zeros(1, 1, 4),
                **behind("teacher_backbone.vit.", {**right, **linear("head.")}),
                **behind("student_backbone.vit.", {**other(right), **linear("head.")}),
                **linear("teacher_head.layers.", 0, 2),
                **linear("student_head.layers.", 0, 2),
            }
        ),
        "lightly_vit",
        "online",
        vit=True,
    ),
    "vissl": Fake(
        lambda right: {
            "phase_idx": 199,
            "classy_state_dict": {
                "base_model": {"model": {"trunk": behind("base_model._feature_blocks.", right), "heads": linear("0.clf.", 0)}, "meta": {}}
            },
        },
        "vissl",
        "online",
    ),
    "vissl, converted": Fake(lambda right: {"model_state_dict": behind("_feature_blocks.", right)}, "vissl", "online"),
    "lightly, tutorial": Fake(
        lambda right: {
            **behind("backbone.", sequential(right)),
            **linear("projection_head.layers.", 0, 2),
            **behind("backbone_momentum.", sequential(other(right))),
            **linear("projection_head_momentum.layers.", 0, 2),
        },
        "lightly",
        "online",
    ),
    "lightly, dino": Fake(
        lambda right: lightning(
            {
                **behind("teacher_backbone.", sequential(right)),
                **behind("student_backbone.", sequential(other(right))),
                **linear("teacher_head.", 0),
                **linear("student_head.", 0),
            }
        ),
        "lightly",
        "online",
    ),
    "lightly, benchmark": Fake(
        lambda right: lightning(
            {
                **behind("backbone.", right),
                **linear("projection_head.layers.", 0, 2),
                **behind("key_backbone.", other(right)),
                **linear("key_projection_head.", 0),
                **linear("online_classifier.linear."),
            },
            hyper_parameters={"batch_size_per_device": 128},
        ),
        "lightly_benchmark",
        "online",
    ),
    "torchvision": Fake(lambda right: {**right, **linear("fc.")}, "torchvision", "online", ("timm", "dino")),
    "linear classifier of moco": Fake(
        lambda right: training(behind("module.", {**right, **linear("fc.")}), best_acc1=torch.tensor(67.7)),
        "torchvision",
        "online",
        ("timm", "dino"),
    ),
    "torch.compile": Fake(
        lambda right: {"state_dict": behind("_orig_mod.module.", right)}, "torchvision", "online", ("timm", "dino", "densecl")
    ),
    "timm, training file": Fake(
        lambda right: {
            "epoch": 3,
            "arch": "vit",
            "state_dict": other(right),
            "state_dict_ema": {**right, **linear("head.")},
            "args": Namespace(lr=1.0),
            "metric": 80.0,
        },
        "timm",
        "ema",
        vit=True,
        options={"encoder": "ema"},
    ),
}
