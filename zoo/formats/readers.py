"""The layouts that are known. Sources: the code that writes or reads such files, as ``docs/formats.md`` lists it; free of torch.

``confirmed`` ones have been tried on a file that their own code wrote, or that their authors published; the others are as that code
would write them.
"""

from __future__ import annotations

from typing import Any

from zoo.errors import UserError, did_you_mean
from zoo.formats.reader import Part, Reader
from zoo.models.selection import Place

# The readers that work by no layout: a file of our own says where its networks are; of the general one the user or the only prefix does.
OURS, GENERAL = "ours", "general"

# What a network of timm's or torchvision's names begins with.
_BACKBONE = r"(conv1\.|cls_token|pos_embed|patch_embed\.)"
_HEADS = (r"fc\.", r"head\.")
_BARE: Place = ()
_STATE: Place = ("state_dict",)
_MODEL: Place = ("model",)

_MOCO_PARTS = (
    Part("query", (_STATE, _BARE), ("encoder_q.",)),
    Part("key", (_STATE, _BARE), ("encoder_k.",)),
)
_MOCO_OTHERS = (r"encoder_q\.", r"encoder_k\.", r"queue", r"queue_ptr")
_MOCO: dict[str, Any] = {
    "parts": _MOCO_PARTS,
    "needs": (rf"encoder_[qk]\.{_BACKBONE}", r"queue"),
    "lacks": (r"queue_index", r"backbone\.", r"predictor\."),
    "drop": _HEADS,
    "others": _MOCO_OTHERS,
}
# torchvision's ResNet as a torch.nn.Sequential of its children.
_SEQUENTIAL = ((r"0\.", "conv1."), (r"1\.", "bn1."), (r"4\.", "layer1."), (r"5\.", "layer2."), (r"6\.", "layer3."), (r"7\.", "layer4."))
_MMSELFSUP_VIT = (
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"layers\.(\d+)\.ln([12])\.", r"blocks.\1.norm\2."),
    (r"layers\.(\d+)\.attn\.", r"blocks.\1.attn."),
    (r"layers\.(\d+)\.ffn\.layers\.0\.0\.", r"blocks.\1.mlp.fc1."),
    (r"layers\.(\d+)\.ffn\.layers\.1\.", r"blocks.\1.mlp.fc2."),
    (r"ln1\.", "norm."),
)
_TORCHVISION_VIT = (
    (r"class_token$", "cls_token"),
    (r"conv_proj\.", "patch_embed.proj."),
    (r"encoder\.pos_embedding$", "pos_embed"),
    (r"encoder\.ln\.", "norm."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(0|linear_1)\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(3|linear_2)\.", r"blocks.\1.mlp.fc2."),
)
_OPENMMLAB_VIT = r"(backbone\.)?layers\.\d"
# What masked image modelling has instead of the patches it hides: no part of the network that is used.
_MASKS = (r"mask_token$", r"masked_embed$")


def _ccrop(method: str, encoders: tuple[tuple[str, str], ...], others: tuple[str, ...], needs: tuple[str, ...]) -> Reader:
    place: Place = (f"{method}_state",)
    return Reader(
        f"ccrop_{method}",
        f"ContrastiveCrop's {method} checkpoint",
        tuple(Part(encoder, (place,), (prefix,)) for encoder, prefix in encoders),
        needs=needs,
        drop=(r"fc\.",),
        others=others,
        method={"moco": "moco"}.get(method, method),
        epochs="epoch",  # the last one that was finished, counted from 1
    )


READERS: tuple[Reader, ...] = (
    Reader(
        OURS,
        "a checkpoint of a run of this toolkit",
        (),  # the file says itself where its encoders are
        beside=("format", "encoders", "model"),
        epochs="epoch",
        confirmed=True,
    ),
    Reader(
        "hcsc",
        "HCSC pre-training checkpoint",
        _MOCO_PARTS,
        needs=(rf"encoder_[qk]\.{_BACKBONE}", r"queue_index"),
        drop=_HEADS,
        others=(*_MOCO_OTHERS, r"queue_index"),
        method="hcsc",
        epochs="epoch",
    ),
    Reader("pcl", "PCL v1 or v2 pre-training checkpoint", shapes={r"queue$": (None, 16384)}, **_MOCO),
    Reader("moco", "MoCo v1 or v2 pre-training checkpoint", epochs="epoch", **_MOCO),
    Reader("csml", "CSML pre-training checkpoint", without=("arch",), method="csml", note="no weights of it are published", **_MOCO),
    Reader(
        "adco",
        "AdCo pre-training checkpoint",
        _MOCO_PARTS,
        needs=(rf"encoder_[qk]\.{_BACKBONE}",),
        lacks=(r"queue", r"backbone\.", r"predictor\."),
        drop=_HEADS,
        others=_MOCO_OTHERS,
        beside=("Memory_Bank",),
        method="adco",
    ),
    Reader(
        "moco_cifar",
        "MoCo's CIFAR notebook",
        (Part("query", (_STATE,), ("encoder_q.net.",)), Part("key", (_STATE,), ("encoder_k.net.",))),
        needs=(r"encoder_[qk]\.net\.0\.",),
        drop=(r"9\.",),
        others=_MOCO_OTHERS,
        renames=((r"0\.", "conv1."), (r"1\.", "bn1."), (r"3\.", "layer1."), (r"4\.", "layer2."), (r"5\.", "layer3."), (r"6\.", "layer4.")),
        method="moco_v2",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    ),
    Reader(
        "msf",
        "MSF pre-training checkpoint",
        (Part("query", (_STATE,), ("encoder_q.module.",)), Part("target", (_STATE,), ("encoder_t.module.",))),
        needs=(rf"encoder_q\.module\.{_BACKBONE}",),
        drop=(r"fc\.",),
        others=(r"encoder_[qt]\.", r"predict_q\.", r"queue"),
        method="msf",
    ),
    Reader(
        "moco_v3",
        "MoCo v3 pre-training checkpoint",
        (Part("query", (_STATE, _BARE), ("base_encoder.",)), Part("key", (_STATE, _BARE), ("momentum_encoder.",))),
        needs=(rf"(base|momentum)_encoder\.{_BACKBONE}",),
        drop=_HEADS,
        others=(r"base_encoder\.", r"momentum_encoder\.", r"predictor\."),
        method="moco_v3",
    ),
    _ccrop("simclr", (("online", ""),), (), (_BACKBONE,)),
    _ccrop("moco", (("query", "encoder_q."), ("key", "encoder_k.")), _MOCO_OTHERS, (rf"encoder_[qk]\.{_BACKBONE}",)),
    _ccrop("byol", (("query", "encoder_q."), ("key", "encoder_k.")), (r"encoder_[qk]\.", r"predictor\."), (rf"encoder_[qk]\.{_BACKBONE}",)),
    _ccrop("simsiam", (("online", "encoder."),), (r"predictor\.",), (rf"encoder\.{_BACKBONE}",)),
    Reader(
        "simsiam",
        "SimSiam pre-training checkpoint",
        (Part("online", (_STATE, _BARE), ("encoder.",)),),
        needs=(rf"encoder\.{_BACKBONE}", r"predictor\."),
        drop=(r"fc\.",),
        others=(r"predictor\.",),
        method="simsiam",
    ),
    Reader(
        "swav",
        "SwAV, DeepCluster-v2 or SeLa-v2",
        (Part("online", (_BARE, _STATE), ("",)),),
        needs=(_BACKBONE, r"projection_head\.", r"prototypes"),
        drop=(r"projection_head\.", r"prototypes"),
    ),
    Reader(
        "hirl",
        "HIRL or one of its baselines",
        (Part("backbone", (_MODEL, _STATE, _BARE), ("model.backbone.", "backbone.")),),
        needs=(rf"(model\.)?backbone\.{_BACKBONE}",),
        lacks=(_OPENMMLAB_VIT, r"projector\.", r"neck\.", r"classifier\.", r"momentum_backbone\.", r"projection_head\.", r"encoder_q\.0\."),
        drop=(*_HEADS, *_MASKS),
        others=(
            r"(model\.)?(encoder|encoder_q|encoder_k|predictor|prototypes|queue|queue_ptr|projections|teacher|student|head)(\.|$|\d)",
            r"projections\.",
        ),
        aliases=tuple(front + name for front in ("", "model.") for name in ("encoder_q.", "encoder.", "teacher.backbone.")),
        note="in files of DINO and iBOT the part called backbone is the teacher, else the trained network",
    ),
    Reader(
        "torchvision",
        "torchvision's ResNet names, nothing in front of them",
        (Part("online", (_BARE, _STATE, _MODEL), ("",)),),
        needs=(r"conv1\.weight$", r"layer4\."),
        lacks=(r"projection_head\.", r"prototypes", r"encoder", r"backbone\.", r"queue"),
        drop=(r"fc\.",),
        confirmed=True,
    ),
    Reader(
        "timm",
        "timm's names, nothing in front of them",
        (
            Part("raw", (_STATE, _MODEL, _BARE), ("",)),
            Part("ema", (("state_dict_ema",), ("model_ema",)), ("",)),
        ),
        needs=(r"(conv1|cls_token|pos_embed|patch_embed|stem|conv_stem)\b",),
        lacks=(r"projection_head\.", r"prototypes", r"encoder", r"backbone\.", r"queue", r"fc\.[0-9]", r"decoder_"),
        drop=(r"fc\.", r"head\.", r"head_dist\.", r"classifier\.", *_MASKS),
        ask=True,
        confirmed=True,
    ),
    Reader(
        "torchvision_vit",
        "torchvision's vision transformers",
        (Part("online", (_BARE, _STATE, _MODEL), ("",)),),
        needs=(r"class_token$", r"conv_proj\."),
        drop=(r"heads\.",),
        renames=_TORCHVISION_VIT,
    ),
    Reader(
        "transformers",
        "a model of transformers: ViT, DeiT, DINOv2, DINOv3, I-JEPA, BEiT, ResNet or ConvNeXt",
        (Part("online", (_BARE, _STATE, _MODEL), ("",)),),
        needs=(r"(\w+\.)?(embeddings\.patch_embeddings|embedder\.embedder)\.",),
        confirmed=True,
    ),
    Reader(
        "torchvision_features",
        "torchvision's ConvNeXts and Swin transformers",
        (Part("online", (_BARE, _STATE, _MODEL), ("",)),),
        needs=(r"features\.0\.0\.weight$", r"features\.1\.0\.(layer_scale|attn\.relative_position_bias_table)$"),
        confirmed=True,
    ),
    Reader(
        "convnext",
        "ConvNeXt's own names, which DINOv3's have too",
        (Part("online", (_BARE, _STATE, _MODEL), ("",)),),
        needs=(r"downsample_layers\.0\.0\.weight$", r"stages\.0\.0\.dwconv\.weight$"),
        lacks=(r"\w+\.downsample_layers",),
    ),
    Reader(
        "ijepa",
        "I-JEPA pre-training checkpoint",
        (Part("target", (("target_encoder",),), ("",)), Part("context", (("encoder",),), ("",))),
        needs=(r"pos_embed$", r"patch_embed\."),
        beside=("target_encoder", "predictor"),
        method="ijepa",
        epochs="epoch",
    ),
    Reader(
        "msn",
        "MSN pre-training checkpoint",
        (Part("target", (("target_encoder",),), ("",)), Part("anchor", (("encoder",),), ("",))),
        needs=(r"cls_token$", r"patch_embed\."),
        beside=("target_encoder", "prototypes"),
        drop=(r"fc\.", r"pred\."),
        method="msn",
        epochs="epoch",
    ),
    Reader(
        "mae",
        "MAE with its decoder",
        (Part("online", (_MODEL, _STATE, _BARE), ("",)),),
        needs=(r"cls_token$", r"patch_embed\.", r"decoder_embed\.", r"decoder_blocks\."),
        drop=(*_HEADS, *_MASKS, r"decoder_"),
        method="mae",
    ),
    Reader(
        "dino",
        "DINO or iBOT, backbone or full checkpoint",
        (
            Part("teacher", (("teacher",), _STATE, _BARE), ("backbone.", "")),
            Part("student", (("student",),), ("backbone.",)),
        ),
        needs=(rf"(backbone\.)?{_BACKBONE}",),
        lacks=(_OPENMMLAB_VIT, r"projector\.", r"encoder", r"projection_head\.", r"prototypes", r"neck\.", r"queue", r"decoder_"),
        drop=(*_HEADS, *_MASKS),
        others=(r"head\.",),
    ),
    Reader(
        "barlow_twins",
        "Barlow Twins, backbone or full checkpoint",
        (Part("online", (_BARE, _MODEL), ("backbone.", "")),),
        needs=(rf"(backbone\.)?{_BACKBONE}",),
        lacks=(r"fc\.", r"encoder", r"projection_head\.", r"prototypes", r"neck\.", r"queue", r"cls_token", r"backbone\.fc\."),
        others=(r"projector\.", r"bn\."),
        method="barlow_twins",
    ),
    Reader(
        "vicreg",
        "VICReg, backbone or full checkpoint",
        (Part("online", (_BARE, _MODEL), ("backbone.", "")),),
        needs=(rf"(backbone\.)?{_BACKBONE}",),
        lacks=(r"fc\.", r"bn\.", r"encoder", r"projection_head\.", r"prototypes", r"neck\.", r"queue", r"cls_token", r"backbone\.fc\."),
        others=(r"projector\.",),
        method="vicreg",
        note="its networks of double width are wide in every layer, and no timm network is",
    ),
    Reader(
        "densecl",
        "DenseCL or OpenSelfSup, training or published checkpoint",
        (
            Part("query", (_STATE,), ("backbone.", "encoder_q.0.", "")),
            Part("key", (_STATE,), ("encoder_k.0.",)),
        ),
        needs=(rf"(backbone\.|encoder_q\.0\.)?{_BACKBONE}",),
        lacks=(
            _OPENMMLAB_VIT,
            r"encoder_k\.module\.",
            r"target_net\.",
            r"momentum_encoder\.",
            r"momentum_backbone\.",
            r"encoder_q\.conv1\.",
            r"projection_head\.",
            r"prototypes",
            r"fc\.",
            r"projector\.",
            r"classifier\.",
        ),
        others=(r"encoder_[qk]\.[01]\.", r"queue", r"neck\.", r"head\."),
        aliases=("encoder_q.0.",),
    ),
    Reader(
        "mmselfsup",
        "MMSelfSup or MMPretrain checkpoint",
        (
            Part("query", (_STATE,), ("backbone.",)),
            Part("key", (_STATE,), ("encoder_k.module.0.", "target_net.module.0.", "momentum_encoder.module.0.")),
        ),
        needs=(r"backbone\.(conv1|stem\.0\.conv|cls_token|patch_embed)",),
        lacks=(r"encoder_q\.", r"momentum_backbone\.", r"projection_head\.", r"projector\.", r"classifier\."),
        beside=("meta",),
        framework=True,
        drop=_MASKS,
        others=(r"neck\.", r"head\.", r"encoder_k\.", r"target_net\.", r"momentum_encoder\.", r"queue", r"data_preprocessor\."),
        renames=_MMSELFSUP_VIT,
    ),
    Reader(
        "vissl",
        "VISSL checkpoint",
        (
            Part(
                "online",
                (("classy_state_dict", "base_model", "model", "trunk"), ("model_state_dict",), _BARE),
                ("base_model._feature_blocks.", "_feature_blocks."),
            ),
        ),
        needs=(rf"(base_model\.)?_feature_blocks\.{_BACKBONE}",),
        drop=_HEADS,
    ),
    Reader(
        "solo_learn",
        "solo-learn checkpoint",
        (Part("online", (_STATE,), ("backbone.", "encoder.")), Part("key", (_STATE,), ("momentum_backbone.", "momentum_encoder."))),
        # Every method of it has a classifier beside it; stable-pretraining's have a projector alone.
        needs=(rf"(backbone|encoder)\.{_BACKBONE}", r"classifier\."),
        beside=("pytorch-lightning_version",),
        framework=True,
        drop=_HEADS,
        others=(r"momentum_", r"projector\.", r"predictor\.", r"classifier\.", r"queue", r"prototypes"),
    ),
    Reader(
        "lightly",
        "lightly, examples and tutorials (a ResNet as a sequence of its children)",
        (
            Part("online", (_STATE, _BARE), ("teacher_backbone.", "backbone.")),
            Part("student", (_STATE, _BARE), ("student_backbone.",)),
            Part("key", (_STATE, _BARE), ("backbone_momentum.",)),
        ),
        needs=(r"(teacher_)?backbone\.0\.weight", r"(teacher_)?backbone\.7\."),
        lacks=(r"(teacher_)?backbone\.2\.", r"(teacher_)?backbone\.3\."),
        others=(
            r"(teacher_|student_)?backbone",
            r"(student_|teacher_)?(projection|prediction)_head",
            r"prototypes",
            r"memory_bank",
            r"criterion\.",
            r"(student_|teacher_)?head\.",
        ),
        renames=_SEQUENTIAL,
        note="of DINO's two networks the teacher",
    ),
    Reader(
        "lightly_vit",
        "lightly, vision transformers of its examples and benchmarks",
        (
            Part("online", (_STATE, _BARE), ("teacher_backbone.vit.", "backbone.vit.")),
            Part("student", (_STATE, _BARE), ("student_backbone.vit.",)),
            Part("anchor", (_STATE, _BARE), ("anchor_backbone.vit.",)),
            Part("key", (_STATE, _BARE), ("backbone_momentum.vit.", "momentum_backbone.vit.")),
        ),
        needs=(r"(teacher_)?backbone\.vit\.(cls_token|class_token)$",),
        drop=(r"head\.", r"heads\.", *_MASKS),
        others=(
            r"(\w+_)?backbone(_momentum)?\.",
            r"(\w+_)?(projection|prediction)_head",
            r"(\w+_)?head\.",
            r"decoder",
            r"prototypes",
            r"criterion\.",
            r"online_classifier\.",
            r"knn_classifier\.",
        ),
        renames=_TORCHVISION_VIT,
        note="of DINO's two networks the teacher, of MSN's the target",
    ),
    Reader(
        "lightly_benchmark",
        "lightly's ImageNet benchmarks",
        (
            Part("online", (_STATE,), ("backbone.",)),
            Part("student", (_STATE,), ("student_backbone.",)),
            Part("key", (_STATE,), ("key_backbone.", "teacher_backbone.")),
        ),
        needs=(rf"backbone\.{_BACKBONE}", r"(student_|teacher_)?projection_head\."),
        beside=("pytorch-lightning_version",),
        framework=True,
        drop=_HEADS,
        others=(
            r"(student_|teacher_|key_|query_)?(projection|prediction)_head",
            r"(key|teacher|student)_backbone\.",
            r"online_classifier\.",
            r"knn_classifier\.",
            r"prototypes",
            r"criterion\.",
            r"memory_bank",
        ),
        note="of DINO's two networks the part called backbone is the teacher",
    ),
    Reader(
        "stable_pretraining",
        "stable-pretraining, methods with a teacher",
        (
            Part("teacher", (_STATE,), ("backbone.teacher.", "encoder.teacher.vit.")),
            Part("student", (_STATE,), ("backbone.student.", "encoder.student.vit.")),
        ),
        needs=(rf"(backbone|encoder)\.teacher\.(vit\.)?{_BACKBONE}", r"(backbone|encoder)\.ema_coefficient$"),
        beside=("pytorch-lightning_version",),
        framework=True,
        drop=(*_HEADS, *_MASKS),
        others=(
            r"(backbone|encoder)\.",
            r"(projector|predictor|cls_head|patch_head|head|decoder|prototypes)(\.|$)",
            r"mask_token$",
            r"(cls_|patch_)?(loss|center|centering)",
            r"callbacks_(modules|metrics)\.",
        ),
        confirmed=True,
    ),
    # Where no other layout fits, or where the user says by hand which tensors are the network's.
    Reader(
        GENERAL,
        "one network behind one prefix, or the one that --key and --prefix name",
        (Part("online", (), ()),),
        drop=(*_HEADS, r"heads\.", r"head_dist\.", r"classifier\.", *_MASKS),
        renames=_TORCHVISION_VIT,
        note="no known layout: which network this is, the file does not say",
    ),
)


def reader_names() -> list[str]:
    """What ``--format`` takes besides ``auto``."""
    return [reader.name for reader in READERS]


def get_reader(name: str) -> Reader:
    """The reader called ``name``. Raises UserError, with the nearest names, where there is none."""
    for reader in READERS:
        if reader.name == name:
            return reader
    raise UserError(f"there is no format '{name}'" + (did_you_mean(name, reader_names(), 3) or f"; there is {', '.join(reader_names())}"))
