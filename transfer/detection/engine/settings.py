"""A config of detectron2's, made ready: checked against the model, fitted to the data, scaled to the processes that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from transfer.detection.config_files import CONFIGS
from transfer.formats.detectron2_config import config_values
from transfer.formats.detectron2_names import is_basic
from zoo.data.boxes.detection_data import DetectionData
from zoo.errors import UserError, did_you_mean, first_line
from zoo.models.model import Model
from zoo.plain_yaml import read_yaml
from zoo.ranges import POSITIVE, SHARE, SIDE, WORKERS, Range
from zoo.reading.outside import told

# Of 255 levels: pixel statistics that differ by less are the same, written with fewer digits.
_PIXEL_TOLERANCE = 0.05
_NORM_KEYS = ("MODEL.RESNETS.NORM", "MODEL.FPN.NORM", "MODEL.ROI_BOX_HEAD.NORM", "MODEL.ROI_MASK_HEAD.NORM")
_SAMPLER = "TrainingSampler"
# The numbers that keys of detectron2's may be: it checks none of them, and some make it wait for ever.
RANGES: Mapping[str, Range] = {
    "SOLVER.IMS_PER_BATCH": Range(1),
    "SOLVER.MAX_ITER": Range(1),
    "SOLVER.CHECKPOINT_PERIOD": Range(1),
    "SOLVER.BASE_LR": Range(0),
    "SOLVER.MOMENTUM": Range(0, 1, below=True),
    "SOLVER.WEIGHT_DECAY": Range(0),
    "SOLVER.WEIGHT_DECAY_NORM": Range(0),
    "SOLVER.GAMMA": POSITIVE,
    "SOLVER.STEPS": Range(0),
    "SOLVER.WARMUP_ITERS": Range(0),
    "SOLVER.WARMUP_FACTOR": SHARE,
    "SOLVER.REFERENCE_WORLD_SIZE": Range(0),
    "TEST.EVAL_PERIOD": Range(0),
    "TEST.DETECTIONS_PER_IMAGE": Range(1),
    "TEST.PRECISE_BN.NUM_ITER": Range(1),
    "DATALOADER.NUM_WORKERS": WORKERS,
    "INPUT.MIN_SIZE_TRAIN": SIDE,
    "INPUT.MAX_SIZE_TRAIN": SIDE,
    # 0: test images keep their size.
    "INPUT.MIN_SIZE_TEST": Range(0, SIDE.most),
    "INPUT.MAX_SIZE_TEST": SIDE,
    "MODEL.PIXEL_STD": POSITIVE,
    "MODEL.BACKBONE.FREEZE_AT": Range(0, 5),
    # The backbones that are transferred have no groups.
    "MODEL.RESNETS.NUM_GROUPS": Range(1, 1),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": Range(1),
    "MODEL.RPN.POSITIVE_FRACTION": SHARE,
    "MODEL.RPN.NMS_THRESH": SHARE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": Range(1),
    "MODEL.RPN.PRE_NMS_TOPK_TEST": Range(1),
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": Range(1),
    "MODEL.RPN.POST_NMS_TOPK_TEST": Range(1),
    "MODEL.ROI_HEADS.NUM_CLASSES": Range(1),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": Range(1),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": SHARE,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": SHARE,
    # detectron2's own pictures, which need its own event writers.
    "VIS_PERIOD": Range(0, 0),
}

# Keys that an option of `transfer detect` decides, with the option; a key that ends in a dot stands for all below it.
OWNED: Mapping[str, str] = {
    "SEED": "--seed",
    "OUTPUT_DIR": "--out",
    "MODEL.WEIGHTS": "--model",
    "MODEL.DEVICE": "--device",
    "DATASETS.": "--data",
}
# Keys that nothing reads in a training of ours, with what is done instead.
UNREAD: Mapping[str, str] = {
    "TEST.AUG.": "test images are shown once, at INPUT.MIN_SIZE_TEST",
    "TEST.EXPECTED_RESULTS": "results are compared by: zoo verify",
    "TEST.KEYPOINT_OKS_SIGMAS": "there are no keypoints",
    "DATALOADER.REPEAT_THRESHOLD": "each image is shown once an epoch",
    "DATALOADER.REPEAT_SQRT": "each image is shown once an epoch",
    "CUDNN_BENCHMARK": "cuDNN chooses its kernels by its own rule",
    "GLOBAL.": "it is detectron2's own",
    "VERSION": "it is the version of the file's form",
}


# The key of a config that names the file it builds on.
_BASE, _MOST_BASES = "_BASE_", 16


@dataclass(frozen=True)
class Scaled:
    """A value of the config and what became of it."""

    key: str
    published: Any
    here: Any


def load_config(name_or_path: str, overrides: Sequence[str] = ()) -> CfgNode:
    """A config by name or path, with ``KEY VALUE`` pairs over it.

    Raises UserError for a file that is no config, a key that does not exist (the nearest is named), a value that does not fit it
    or that lies outside :data:`RANGES`, and a file that sets a key of :data:`UNREAD`.
    """
    cfg = read_config(CONFIGS.find(name_or_path))
    _check_unread(cfg, name_or_path)
    for key, value in _pairs(overrides):
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, AssertionError) as error:
            raise UserError(f"detectron2's configs have no key '{key}'{did_you_mean(key, _keys(cfg))}") from error
        except ValueError as error:
            raise UserError(f"{key} cannot be '{value}' ({first_line(error)})") from error
    for key, within in RANGES.items():
        within.check(key, value_of(cfg, key))
    if cfg.DATALOADER.SAMPLER_TRAIN != _SAMPLER:
        raise UserError(f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN} is not supported; leave it at {_SAMPLER}")
    return cfg


def read_config(path: Path) -> CfgNode:
    """The config in a file, over detectron2's defaults. Raises UserError where it cannot be read.

    Nothing in the file, or in a ``_BASE_`` of it, is run: detectron2 by itself falls back to YAML that names Python calls.
    """
    # The head that MoCo's configs name; imported here, since it registers itself.
    import transfer.detection.engine.heads  # noqa: F401

    _check_files(path)
    cfg = get_cfg()
    try:
        cfg.merge_from_file(str(path), allow_unsafe=False)
    except Exception as error:  # detectron2 and yacs raise nearly anything for a value that they cannot take
        raise UserError(f"{path} is no config that detectron2 reads ({first_line(error)})") from error
    return cfg


def _check_files(path: Path) -> None:
    """Raise UserError where a config, or one that it builds on, is not plain YAML within budgets, or is fetched from elsewhere."""
    seen: list[Path] = []
    while True:
        if path in seen or len(seen) >= _MOST_BASES:
            raise UserError(f"{seen[0]} is no config that detectron2 reads (it builds on itself, or on more than {_MOST_BASES} others)")
        seen.append(path)
        try:
            base = read_yaml(path, "the config").get(_BASE)
        except UserError as error:
            raise UserError(f"{path} is no config that detectron2 reads ({error})") from error
        if base is None:
            return
        if not isinstance(base, str) or "://" in base:
            raise UserError(f"{path} is no config that detectron2 reads ({_BASE} is {told(base)}, and a file is expected)")
        path = path.parent / Path(base).expanduser()


def check_keys(overrides: Sequence[str]) -> None:
    """Raise UserError for a key of :data:`OWNED` or :data:`UNREAD` among ``KEY VALUE`` words."""
    for key, _ in _pairs(overrides):
        if (option := _entry(OWNED, key)) is not None:
            raise UserError(f"{key} is decided by {option}; give that, and leave the key out")
        if (instead := _entry(UNREAD, key)) is not None:
            raise UserError(f"nothing reads {key} here: {instead}; leave it out")


def _entry(table: Mapping[str, str], key: str) -> str | None:
    """What a table says of a key, by itself or by what it lies below."""
    return next((said for name, said in table.items() if key == name or (name.endswith(".") and key.startswith(name))), None)


def _check_unread(cfg: CfgNode, name: str) -> None:
    """Raise UserError where a config sets what nothing reads; those of options may stand in it, as in detectron2's configs."""
    usual = get_cfg()
    for key in _keys(usual):
        value = value_of(cfg, key)
        if value != value_of(usual, key) and (instead := _entry(UNREAD, key)) is not None:
            raise UserError(f"'{name}' sets {key} to {value}, and nothing reads it here: {instead}; take it out of the config")


def overruled(cfg: CfgNode) -> list[str]:
    """The keys of a config, not yet made ready, in whose place an option counts: a line to print."""
    usual = get_cfg()
    keys = [(key, _entry(OWNED, key)) for key in _keys(usual) if value_of(cfg, key) != value_of(usual, key)]
    found = [f"{key} (by {option})" for key, option in keys if option is not None]
    return [f"of the config, these do not count: {', '.join(found)}"] if found else []


def given_keys(overrides: Sequence[str]) -> set[str]:
    """The keys of ``KEY VALUE`` pairs. Raises UserError where a value is missing."""
    return {key for key, _ in _pairs(overrides)}


def _pairs(overrides: Sequence[str]) -> list[tuple[str, str]]:
    if len(overrides) % 2:
        raise UserError(f"values are given as KEY VALUE, such as SOLVER.MAX_ITER 2000; '{overrides[-1]}' has no value")
    return list(zip(overrides[::2], overrides[1::2], strict=True))


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value at a dotted key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def check_model(cfg: CfgNode, model: Model, name: str) -> None:
    """Raise UserError, with the right values, where a config contradicts the model: depth, stride, channel order, pixel statistics."""
    values = config_values(model)
    depth = values["MODEL.RESNETS.DEPTH"]
    if depth != cfg.MODEL.RESNETS.DEPTH:
        raise UserError(f"'{name}' is for a ResNet-{cfg.MODEL.RESNETS.DEPTH}, and '{model.name}' is a {model.arch}; take another config")
    if is_basic(depth) and "Res5" in cfg.MODEL.ROI_HEADS.NAME:
        raise UserError(
            f"'{name}' has a C4 head, which is made of bottlenecks, and '{model.name}' is a {model.arch}; take a config with FPN"
        )
    wrong = [key for key, value in values.items() if not _agree(value_of(cfg, key), value)]
    # Without statistics of its own, a model (random weights) takes those of the config.
    if model.mean is None:
        wrong = [key for key in wrong if not key.startswith("MODEL.PIXEL_")]
    if wrong:
        found = ", ".join(f"{key} {value_of(cfg, key)}" for key in wrong)
        right = " ".join(f"{key} '{values[key]}'" if isinstance(values[key], list) else f"{key} {values[key]}" for key in wrong)
        raise UserError(f"'{name}' contradicts '{model.name}': it has {found}; add {right}")


def _agree(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(abs(a - b) <= _PIXEL_TOLERANCE for a, b in zip(found, wanted, strict=True))
    return bool(found == wanted)


def fit_to_data(cfg: CfgNode, data: DetectionData, given: set[str], name: str) -> None:
    """Set what the data decides: the number of classes, the form of masks. Raises UserError where a given value contradicts it."""
    count = len(data.classes)
    if "MODEL.ROI_HEADS.NUM_CLASSES" in given and count != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
        wrong = f"MODEL.ROI_HEADS.NUM_CLASSES {cfg.MODEL.ROI_HEADS.NUM_CLASSES}"
        raise UserError(f"{wrong} was given, and '{data.spec}' has {count}; leave it out")
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = count
    if cfg.MODEL.MASK_ON:
        if not data.has_masks:
            broken = ", ".join(f"{count} {kind}" for kind, count in data.problems.counts.items() if "mask" in kind or "polygon" in kind)
            found = f" that can be used ({broken})" if broken else ""
            raise UserError(f"'{name}' trains masks, and '{data.spec}' has none{found}; add MODEL.MASK_ON False")
        if data.kind == "voc":
            raise UserError(f"'{name}' trains masks, which VOC's layout has no place for; add MODEL.MASK_ON False, or give coco: data")
        if not any("segmentation" in annotation for image in data.test.images for annotation in image["annotations"]):
            raise UserError(f"'{name}' trains masks, and no test object of '{data.spec}' has one; add MODEL.MASK_ON False")
        if data.has_bitmaps:
            cfg.INPUT.MASK_FORMAT = "bitmask"
    if cfg.MODEL.KEYPOINT_ON or cfg.MODEL.LOAD_PROPOSALS or cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN":
        raise UserError(f"'{name}' is no Faster or Mask R-CNN with proposals of its own, which is all that `transfer detect` trains")


def fit_to_device(cfg: CfgNode, device: str, processes: int) -> list[str]:
    """Set the device, and what it decides; gives lines to print. Raises UserError for what it cannot do."""
    cfg.MODEL.DEVICE = device
    if device == "cuda":
        return []
    if cfg.SOLVER.AMP.ENABLED:
        raise UserError("SOLVER.AMP.ENABLED: mixed precision of detectron2's needs a GPU, and this runs on the CPU; leave it out")
    if processes > 1:
        raise UserError("several processes need as many GPUs: SyncBN does not run between CPU processes")
    changed = []
    for key in _NORM_KEYS:
        if value_of(cfg, key) == "SyncBN":
            cfg.merge_from_list([key, "BN"])
            changed.append(key)
    return [f"{', '.join(changed)}: SyncBN is BN in one process on the CPU"] if changed else []


def scale_to(cfg: CfgNode, processes: int, given: set[str], *, published: int) -> list[Scaled]:
    """Scale batch, rate and steps from the processes that the config is for to those that are there, linearly.

    The batch is what was given, or else in proportion to the processes; rate and steps follow the batch (Goyal et al., arXiv 1706.02677,
    section 2.1), except those that were given, which are taken as they are. detectron2's own scaling is left nothing to do.

    Parameters
    ----------
    given
        Keys whose values are as they shall be.
    published
        The batch that the other values of the config are for.

    Raises UserError where the batch cannot be shared by the processes.
    """
    solver, reference = cfg.SOLVER, cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference and "SOLVER.IMS_PER_BATCH" not in given:
        solver.IMS_PER_BATCH = max(processes, round(published * processes / reference))
    if solver.IMS_PER_BATCH % processes:
        batch = f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH}"
        raise UserError(f"{batch} is not a multiple of {processes} processes; change it, or --gpus")
    solver.REFERENCE_WORLD_SIZE = 0
    return [] if not reference else _scale(cfg, solver.IMS_PER_BATCH, published, given)


def _scale(cfg: CfgNode, batch: int, published: int, given: set[str]) -> list[Scaled]:
    factor = batch / published
    changes = [Scaled("SOLVER.IMS_PER_BATCH", published, batch)]
    for key in ("SOLVER.BASE_LR", "SOLVER.WARMUP_ITERS", "SOLVER.STEPS", "SOLVER.MAX_ITER", "TEST.EVAL_PERIOD", "SOLVER.CHECKPOINT_PERIOD"):
        if key in given:
            continue
        old = value_of(cfg, key)
        if key == "SOLVER.BASE_LR":
            new: Any = old * factor
        elif isinstance(old, (tuple, list)):
            new = tuple(round(step / factor) for step in old)
        else:
            new = round(old / factor)
        cfg.merge_from_list([key, new])
        changes.append(Scaled(key, old, new))
    return [change for change in changes if change.published != change.here]


def doubtful(cfg: CfgNode, model: Model) -> list[str]:
    """What a config, made ready, does that hardly anyone means: lines to print, which the result holds too."""
    lines = []
    if model.kind == "random" and cfg.MODEL.RESNETS.NORM == "FrozenBN":
        lines.append(
            "MODEL.RESNETS.NORM is FrozenBN and the weights are random: the statistics stay 0 and 1 and normalise nothing; give "
            "MODEL.RESNETS.NORM BN"
        )
    warm, last = cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.MAX_ITER
    if warm >= last:
        lines.append(f"SOLVER.WARMUP_ITERS {warm} is no less than SOLVER.MAX_ITER {last}: the training never reaches its learning rate")
    return lines


def check_network(cfg: CfgNode, name: str) -> None:
    """Build the detector once, and let it go. Raises UserError where detectron2 cannot build it from these values."""
    tried = cfg.clone()
    tried.MODEL.DEVICE = "cpu"
    try:
        build_model(tried)
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"detectron2 cannot build the network of '{name}' ({type(error).__name__}: {first_line(error)}); "
            "undo what was changed under MODEL"
        ) from error


def describe(cfg: CfgNode, name: str) -> dict[str, Any]:
    """What a result says of the protocol."""
    return {
        "config": name,
        "detector": "Mask R-CNN" if cfg.MODEL.MASK_ON else "Faster R-CNN",
        "head": cfg.MODEL.ROI_HEADS.NAME,
        "backbone": f"ResNet-{cfg.MODEL.RESNETS.DEPTH}" + ("-FPN" if "fpn" in cfg.MODEL.BACKBONE.NAME else "-C4"),
        "norm": cfg.MODEL.RESNETS.NORM,
        "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT,
        "batch": cfg.SOLVER.IMS_PER_BATCH,
        "lr": cfg.SOLVER.BASE_LR,
        "steps": list(cfg.SOLVER.STEPS),
        "iterations": cfg.SOLVER.MAX_ITER,
        "warmup": cfg.SOLVER.WARMUP_ITERS,
        "min_size_train": list(cfg.INPUT.MIN_SIZE_TRAIN),
        "min_size_test": cfg.INPUT.MIN_SIZE_TEST,
        "channels": cfg.INPUT.FORMAT,
        "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
        "pixel_std": list(cfg.MODEL.PIXEL_STD),
        "precise_bn": cfg.TEST.PRECISE_BN.NUM_ITER if cfg.TEST.PRECISE_BN.ENABLED else 0,
        "mixed_precision": cfg.SOLVER.AMP.ENABLED,
    }
