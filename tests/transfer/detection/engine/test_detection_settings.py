"""Configs: what they say, what detectron2 reads, what contradicts a model or the data, and how they are scaled."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import pytest

from transfer.detection.config_files import CONFIGS
from transfer.presence import has_detectron2, install_line
from zoo.data.boxes.annotations import Problems, Split
from zoo.data.boxes.detection_data import DetectionData
from zoo.errors import UserError
from zoo.model_spec import open_model as open_anew

if not has_detectron2():
    pytest.skip(f"detectron2 is not installed: {install_line()}", allow_module_level=True)

import detectron2
from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY

from transfer.detection.engine.settings import (
    RANGES,
    check_keys,
    check_model,
    check_network,
    doubtful,
    fit_to_data,
    fit_to_device,
    load_config,
    overruled,
    scale_to,
    value_of,
)

open_model = cache(open_anew)
THEIRS = os.path.join(os.path.dirname(detectron2.__file__), "model_zoo", "configs")


def theirs(name):
    cfg = get_cfg()
    cfg.merge_from_file(os.path.join(THEIRS, name))
    return cfg


@pytest.mark.parametrize("name", CONFIGS.names())
def test_plain_detectron2_reads_every_config(name):
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS.folder / f"{name}.yaml"))
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is False
    assert cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.12, 57.375]
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0
    assert cfg.TEST.PRECISE_BN.ENABLED
    assert CONFIGS.summary(name)
    text = (CONFIGS.folder / f"{name}.yaml").read_text()
    assert all(word in text for word in ("# Hardware", "ublished", f"transfer detect {name} --model"))


MOCO_VOC = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeadsExtraNorm",
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.RESNETS.DEPTH": 50,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.BASE_LR": 0.02,
    "MODEL.MASK_ON": False,
    "MODEL.ROI_HEADS.NUM_CLASSES": 20,
    "INPUT.MIN_SIZE_TRAIN": [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800],
    "INPUT.MIN_SIZE_TEST": 800,
    "DATASETS.TRAIN": ["voc_2007_trainval", "voc_2012_trainval"],
    "DATASETS.TEST": ["voc_2007_test"],
    "SOLVER.STEPS": [18000, 22000],
    "SOLVER.MAX_ITER": 24000,
    "SOLVER.WARMUP_ITERS": 100,
}
MOCO_COCO_2X = {
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeadsExtraNorm",
    "MODEL.MASK_ON": True,
    "MODEL.ROI_HEADS.NUM_CLASSES": 80,
    "INPUT.MIN_SIZE_TRAIN": [640, 672, 704, 736, 768, 800],
    "SOLVER.STEPS": [120000, 160000],
    "SOLVER.MAX_ITER": 180000,
    "SOLVER.WARMUP_ITERS": 1000,
    "DATASETS.TRAIN": ["coco_2017_train"],
}


@pytest.mark.parametrize(("name", "wanted"), [("voc0712_r50_c4_24k", MOCO_VOC), ("coco_r50_c4_2x", MOCO_COCO_2X)])
def test_mocos_protocol(name, wanted):
    cfg = load_config(name)
    assert {key: list(value) if isinstance(value := value_of(cfg, key), tuple) else value for key in wanted} == wanted


def test_the_fpn_configs_are_detectron2s_own_but_for_what_the_weights_need():
    ours, published = load_config("coco_r50_fpn_1x"), theirs("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")

    def leaves(node, prefix=""):
        for key, value in node.items():
            if hasattr(value, "items"):
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value

    a, b = dict(leaves(ours)), dict(leaves(published))
    assert {key for key in a if a[key] != b[key]} == {
        "MODEL.WEIGHTS",
        "MODEL.PIXEL_MEAN",
        "MODEL.PIXEL_STD",
        "MODEL.BACKBONE.FREEZE_AT",
        "MODEL.RESNETS.NORM",
        "MODEL.RESNETS.STRIDE_IN_1X1",
        "MODEL.FPN.NORM",
        "INPUT.FORMAT",
        "SOLVER.REFERENCE_WORLD_SIZE",
        "TEST.PRECISE_BN.ENABLED",
        "TEST.EVAL_PERIOD",
    }


def test_the_head_of_the_c4_configs_is_registered_with_one_more_norm():
    import transfer.detection.engine.heads

    cfg = load_config("voc0712_r50_c4_24k", ["MODEL.RESNETS.NORM", "BN"])
    res5, channels = ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)._build_res5_block(cfg)
    assert ROI_HEADS_REGISTRY.get("Res5ROIHeadsExtraNorm") is transfer.detection.engine.heads.Res5ROIHeadsExtraNorm
    assert [name for name, _ in res5.named_children()] == ["0", "1", "2", "norm"]
    assert (channels, res5.norm.num_features, type(res5.norm).__name__) == (2048, 2048, "BatchNorm2d")


@pytest.mark.parametrize(
    ("gpus", "batch", "rate", "steps", "iterations"), [(8, 16, 0.02, (18000, 22000), 24000), (1, 2, 0.0025, (144000, 176000), 192000)]
)
def test_scaling_is_linear_and_detectron2s_own(gpus, batch, rate, steps, iterations):
    cfg = load_config("voc0712_r50_c4_24k")
    detectron2s = DefaultTrainer.auto_scale_workers(load_config("voc0712_r50_c4_24k"), gpus)
    scaled = scale_to(cfg, gpus, set(), published=16)
    found = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER
    assert found == (batch, rate, steps, iterations)
    for key in ("SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR", "SOLVER.STEPS", "SOLVER.MAX_ITER", "SOLVER.WARMUP_ITERS", "TEST.EVAL_PERIOD"):
        assert value_of(cfg, key) == value_of(detectron2s, key)
    assert bool(scaled) == (gpus != 8)
    assert DefaultTrainer.auto_scale_workers(cfg, gpus) is cfg


def test_what_was_given_is_not_scaled_and_the_rest_follows_the_batch():
    overrides = ["SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "1000"]
    cfg = load_config("voc0712_r50_c4_24k", overrides)
    scaled = scale_to(cfg, 2, {"SOLVER.IMS_PER_BATCH", "SOLVER.MAX_ITER"}, published=16)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS) == (4, 0.005, 1000, 400)
    assert [(change.key, change.published, change.here) for change in scaled][:2] == [
        ("SOLVER.IMS_PER_BATCH", 16, 4),
        ("SOLVER.BASE_LR", 0.02, 0.005),
    ]
    with pytest.raises(UserError, match=r"SOLVER\.IMS_PER_BATCH 4 is not a multiple of 3 processes; change it, or --gpus"):
        scale_to(load_config("voc0712_r50_c4_24k", overrides), 3, {"SOLVER.IMS_PER_BATCH"}, published=16)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["INPUT.FORMAT", "BGR"], r"contradicts 'random:resnet50:0': it has INPUT\.FORMAT BGR; add INPUT\.FORMAT RGB$"),
        (["MODEL.RESNETS.STRIDE_IN_1X1", "True"], r"it has MODEL\.RESNETS\.STRIDE_IN_1X1 True; add MODEL\.RESNETS\.STRIDE_IN_1X1 False$"),
        (
            ["MODEL.PIXEL_STD", "[1.0,1.0,1.0]"],
            r"it has MODEL\.PIXEL_STD \[1\.0, 1\.0, 1\.0\]; add MODEL\.PIXEL_STD '\[51\.0, 63\.75, 76\.5\]'$",
        ),
        ([], r"it has MODEL\.PIXEL_MEAN .*; add MODEL\.PIXEL_MEAN '\[127\.5, 102\.0, 76\.5\]' MODEL\.PIXEL_STD '\[51"),
        (["MODEL.RESNETS.DEPTH", "101"], "is for a ResNet-101, and 'random:resnet50:0' is a resnet50; take another config"),
    ],
)
def test_a_config_that_contradicts_the_model_is_refused_with_the_right_values(overrides, sentence):
    model = replace(open_model("random:resnet50"), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    right = [] if not overrides else ["MODEL.PIXEL_MEAN", "[127.5,102,76.5]"]
    right += [] if not overrides or "MODEL.PIXEL_STD" in overrides else ["MODEL.PIXEL_STD", "[51,63.75,76.5]"]
    with pytest.raises(UserError, match=sentence) as refusal:
        check_model(load_config("voc0712_r50_c4_24k", [*right, *overrides]), model, "voc0712_r50_c4_24k")
    assert "\n" not in str(refusal.value)


def test_models_without_statistics_take_the_configs_and_basic_blocks_no_c4_head():
    check_model(load_config("voc0712_r50_c4_24k", ["MODEL.PIXEL_STD", "[1,1,1]"]), open_model("random:resnet50"), "x")
    small = open_model("random:resnet18")
    check_model(load_config("coco_r18_fpn_1x"), small, "x")
    c4 = load_config("voc0712_r50_c4_24k", ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"])
    with pytest.raises(UserError, match=r"'x' has a C4 head, which is made of bottlenecks, and .* resnet18; take a config with FPN"):
        check_model(c4, small, "x")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["SOLVER.MAX_ITR", "5"], r"no key 'SOLVER\.MAX_ITR'; did you mean 'SOLVER\.MAX_ITER'\?"),
        (["SOLVER.MAX_ITER", "many"], r"SOLVER\.MAX_ITER cannot be 'many'"),
        (["SOLVER.MAX_ITER"], r"given as KEY VALUE, .*; 'SOLVER\.MAX_ITER' has no value"),
        (["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"], "SAMPLER_TRAIN RepeatFactorTrainingSampler is not supported"),
    ],
)
def test_values_that_do_not_fit(overrides, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        load_config("small_r18_fpn", overrides)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "sentence"), [("a: [", "no config that detectron2 reads"), ("FLOAT32_PRECISIN: high", "no config that detectron2")]
)
def test_a_file_that_is_no_config(tmp_path, text, sentence):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_config(str(tmp_path / "mine.yaml"))
    with pytest.raises(UserError, match="there is no config file"):
        load_config(str(tmp_path / "none.yaml"))


def data_of(kind="coco", segmentation=None, classes=("a", "b")):
    annotation = {"bbox": [0, 0, 1, 1], "category_id": 0, "iscrowd": 0} | ({"segmentation": segmentation} if segmentation else {})
    image = {"file_name": "a.png", "image_id": 0, "height": 2, "width": 2, "annotations": [annotation]}
    return DetectionData(f"{kind}:x", kind, list(classes), Split("train", [image]), Split("test", [image]), Problems())


def test_the_data_decides_classes_and_form_of_masks():
    cfg = load_config("coco_r50_fpn_1x")
    fit_to_data(cfg, data_of(segmentation=[[0, 0, 1, 0, 1, 1]]), set(), "x")
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.INPUT.MASK_FORMAT) == (2, "polygon")
    fit_to_data(cfg, data_of(segmentation={"counts": [0, 4], "size": [2, 2]}), set(), "x")
    assert cfg.INPUT.MASK_FORMAT == "bitmask"
    with pytest.raises(UserError, match=r"'x' trains masks, and 'coco:x' has none; add MODEL\.MASK_ON False"):
        fit_to_data(load_config("coco_r50_fpn_1x"), data_of(), set(), "x")
    given = load_config("small_r18_fpn", ["MODEL.ROI_HEADS.NUM_CLASSES", "7"])
    with pytest.raises(UserError, match=r"NUM_CLASSES 7 was given, and 'voc:x' has 2; leave it out"):
        fit_to_data(given, data_of("voc"), {"MODEL.ROI_HEADS.NUM_CLASSES"}, "x")


def test_what_a_cpu_cannot_do():
    cfg = load_config("voc0712_r50_c4_24k")
    assert fit_to_device(cfg, "cpu", 1) == ["MODEL.RESNETS.NORM: SyncBN is BN in one process on the CPU"]
    assert cfg.MODEL.RESNETS.NORM == "BN"
    with pytest.raises(UserError, match=r"SOLVER\.AMP\.ENABLED: mixed precision .* needs a GPU"):
        fit_to_device(load_config("small_r18_fpn", ["SOLVER.AMP.ENABLED", "True"]), "cpu", 1)
    with pytest.raises(UserError, match="SyncBN does not run between CPU processes"):
        fit_to_device(cfg, "cpu", 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SOLVER.IMS_PER_BATCH", "0"], "SOLVER.IMS_PER_BATCH must be at least 1, not 0"),
        (["SOLVER.CHECKPOINT_PERIOD", "0"], "SOLVER.CHECKPOINT_PERIOD must be at least 1, not 0"),
        (["SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER must be at least 1, not 0"),
        (["SOLVER.BASE_LR", "-0.1"], "SOLVER.BASE_LR must be at least 0, not -0.1"),
        (["VIS_PERIOD", "1"], "VIS_PERIOD must be 0, not 1"),
        (["MODEL.RESNETS.NUM_GROUPS", "2"], "MODEL.RESNETS.NUM_GROUPS must be 1, not 2"),
        (["MODEL.PIXEL_STD", "[1.0,0.0,1.0]"], "MODEL.PIXEL_STD must be above 0, not 0.0"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_the_range(words, message):
    with pytest.raises(UserError) as caught:
        load_config("small_r18_fpn", words)
    assert str(caught.value) == message


def test_every_key_with_a_range_is_one_of_detectron2s_and_its_default_lies_in_it():
    cfg = get_cfg()
    for key, within in RANGES.items():
        within.check(key, value_of(cfg, key))


def test_a_network_that_detectron2_cannot_build_is_refused_in_one_sentence():
    check_network(load_config("small_r18_fpn"), "small_r18_fpn")
    with pytest.raises(UserError, match="detectron2 cannot build the network of 'small_r18_fpn'"):
        check_network(load_config("small_r18_fpn", ["MODEL.FPN.IN_FEATURES", "['res3','res4','res5']"]), "small_r18_fpn")


@pytest.mark.parametrize("through_a_base", [False, True])
def test_yaml_that_names_a_call_is_refused_and_not_run(tmp_path, through_a_base):
    traitor, ran = tmp_path / "traitor.yaml", tmp_path / "ran"
    traitor.write_text(f"VERSION: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{ran}]]\n")
    read = traitor
    if through_a_base:
        read = tmp_path / "innocent.yaml"
        read.write_text("_BASE_: traitor.yaml\n")
    with pytest.raises(UserError, match="is no config that detectron2 reads"):
        load_config(str(read))
    assert not ran.exists()


def test_what_hardly_anyone_means_is_said():
    random = open_model("random:resnet18:0")
    cfg = load_config("small_r18_fpn")
    assert doubtful(cfg, random) == []
    frozen = load_config("small_r18_fpn", ["MODEL.RESNETS.NORM", "FrozenBN"])
    (line,) = doubtful(frozen, random)
    assert line.startswith("MODEL.RESNETS.NORM is FrozenBN and the weights are random")
    assert doubtful(frozen, replace(random, kind="zoo")) == []
    for iterations, said in ((50, 1), (51, 0)):
        cfg = load_config("small_r18_fpn", ["SOLVER.MAX_ITER", str(iterations)])
        assert [line.startswith("SOLVER.WARMUP_ITERS 50 is no less than") for line in doubtful(cfg, random)] == [True] * said


def test_masks_are_wanted_of_test_objects_too():
    box = {"bbox": [0, 0, 9, 9], "category_id": 0, "iscrowd": 0}
    masked = {**box, "segmentation": [[0, 0, 9, 0, 9, 9]]}
    train, test = (Split(name, [{"annotations": [one]}]) for name, one in (("train", masked), ("test", box)))
    data = DetectionData("coco:x", "coco", ["a"], train, test, Problems())
    with pytest.raises(UserError, match=r"no test object of 'coco:x' has one; add MODEL\.MASK_ON False"):
        fit_to_data(load_config("small_r18_fpn", ["MODEL.MASK_ON", "True"]), data, set(), "small_r18_fpn")
    problems = Problems({"masks that are none": ["here"]})
    data = DetectionData("coco:x", "coco", ["a"], test, test, problems)
    with pytest.raises(UserError, match=r"has none that can be used \(1 masks that are none\)"):
        fit_to_data(load_config("small_r18_fpn", ["MODEL.MASK_ON", "True"]), data, set(), "small_r18_fpn")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("SEED", "3", "SEED is decided by --seed; give that, and leave the key out"),
        ("OUTPUT_DIR", "here", "OUTPUT_DIR is decided by --out"),
        ("MODEL.WEIGHTS", "r50.pkl", "MODEL.WEIGHTS is decided by --model"),
        ("MODEL.DEVICE", "cpu", "MODEL.DEVICE is decided by --device"),
        ("DATASETS.TRAIN", "('mine',)", "DATASETS.TRAIN is decided by --data"),
        ("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST", "5", "is decided by --data"),
        ("TEST.AUG.ENABLED", "True", "nothing reads TEST.AUG.ENABLED here: test images are shown once"),
        ("TEST.AUG.MIN_SIZES", "(400,)", "nothing reads TEST.AUG.MIN_SIZES here"),
        ("DATALOADER.REPEAT_THRESHOLD", "0.5", "each image is shown once an epoch"),
        ("CUDNN_BENCHMARK", "True", "nothing reads CUDNN_BENCHMARK here"),
        ("GLOBAL.HACK", "2.0", "nothing reads GLOBAL.HACK here"),
    ],
)
def test_keys_of_options_and_keys_that_nothing_reads_are_refused(key, value, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        check_keys(["SOLVER.MAX_ITER", "5", key, value])
    assert "\n" not in str(refusal.value)


def test_a_config_of_detectron2s_may_name_what_options_decide_and_not_what_nothing_reads(tmp_path):
    assert overruled(load_config("small_r18_fpn")) == []
    path = tmp_path / "mine.yaml"
    path.write_text("MODEL:\n  WEIGHTS: detectron2://r50.pkl\nDATASETS:\n  TRAIN: [coco_2017_train]\n")
    assert overruled(load_config(str(path))) == [
        "of the config, these do not count: MODEL.WEIGHTS (by --model), DATASETS.TRAIN (by --data)"
    ]
    path.write_text("TEST:\n  AUG:\n    ENABLED: true\n")
    with pytest.raises(UserError, match=r"mine.yaml' sets TEST.AUG.ENABLED to True, and nothing reads it here"):
        load_config(str(path))
