"""Every format that is read from outside: small good examples of it, how they are changed, and the reader that `zoo`, `evaluate` and the
others use for it."""

from __future__ import annotations

import copy
import io
import json
import pickle
import tarfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detection_layouts import as_coco, as_voc
from fuzz_mutations import (
    PICKLE,
    WORDS,
    XML,
    YAML,
    Mutate,
    either,
    in_archive,
    of_bytes,
    of_json,
    of_json_lines,
    of_png,
    of_safetensors,
    of_tar,
)
from PIL import Image
from safetensors.torch import save

from zoo.data.images import BadImageError
from zoo.errors import UserError

ARCH = "resnet10_small"


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    file
        The file that is changed, below the folder that :attr:`prepare` made.
    prepare
        Makes everything around the file, in a folder of its own; returns good examples of the file, and its reader.
    mutate
        How an example is changed.
    refusals
        How a reader may refuse.
    needs_detectron2
        Whether the reader is there only with detectron2.
    """

    file: str
    prepare: Callable[[Path], tuple[list[bytes], Callable[[Path], object]]]
    mutate: Mutate
    refusals: tuple[type[Exception], ...] = (UserError,)
    needs_detectron2: bool = False


def _saved(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _state() -> dict[str, torch.Tensor]:
    """A network of few tensors by names that readers of layouts know; small, so that a change meets something."""
    names = ("conv1.weight", "bn1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "fc.weight")
    return {f"module.encoder_q.{name}": torch.arange(12.0).reshape(3, 4) for name in names} | {"module.queue": torch.zeros(2, 2)}


def _contents() -> list[Any]:
    from argparse import Namespace

    state = _state()
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": np.float64(0.1), "params": [0]}]}
    return [
        {"epoch": 3, "arch": "resnet50", "state_dict": state, "optimizer": optimizer, "args": Namespace(lr=0.1, path=Path("x"))},
        {name.removeprefix("module.encoder_q."): torch.nn.Parameter(tensor) for name, tensor in state.items()},
        {"model": state, "numbers": np.arange(5), "by number": {1: 2, (3, "x"): [None, True, 1.5, {1, 2}]}},
    ]


def _open_checkpoint(path: Path) -> object:
    from zoo.formats.engine import read_backbone
    from zoo.reading.checkpoint_file import open_checkpoint

    for trust in (False, True):
        try:
            found = open_checkpoint(path, trust_pickle=trust)
        except UserError:
            if trust:
                raise
            continue
        # What is read can be walked through: some of it is shown in messages, hashed or copied.
        copy.deepcopy(found.content)
    with suppress(UserError):
        read_backbone(path, trust_pickle=True)
    return found


def _checkpoints(legacy: bool) -> Callable[[Path], tuple[list[bytes], Callable[[Path], object]]]:
    return lambda _folder: ([_saved(content, legacy) for content in _contents()], _open_checkpoint)


def _safetensors(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    state = {"conv1.weight": torch.ones(3, 4), "bn1.weight": torch.ones(3), "half": torch.ones(5, dtype=torch.float16)}
    return [save(state, {"format": "pt"}), save({"a": torch.zeros(0, 3)})], _open_checkpoint


def _run(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.models.runs import CHECKPOINT_FORMAT, backbone_state, read_newest_checkpoint

    content = {
        "format": CHECKPOINT_FORMAT,
        "step": 10,
        "epoch": 1,
        "arch": ARCH,
        "image_size": 32,
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
        "data": "shapes",
        "encoders": {"query": "encoder_q."},
        "model": {"encoder_q.conv1.weight": torch.ones(3)},
        "tables": {},
    }

    def read(path: Path) -> object:
        checkpoint = read_newest_checkpoint(path.parent.parent).content
        return backbone_state(checkpoint), checkpoint["image_size"] + checkpoint["step"], max(checkpoint["mean"])

    return [_saved(content)], read


def _detectron2_pickle(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from transfer.formats.detectron2_file import FACTS, open_file
    from zoo.reading.plain_pickle import load_plain_pickle

    def read(path: Path) -> object:
        found = load_plain_pickle(path)
        copy.deepcopy(found)
        with suppress(UserError):
            open_file(path)
        return found
    from transfer.formats.detectron2_names import expected_names

    # Of the right names, so that values matter; the shapes are none of a ResNet's.
    arrays = {name: np.arange(4, dtype=np.float32) for name in sorted(expected_names(_depths()[0]))}
    facts = {"name": "x", "mean": [0.5] * 3, "std": [0.2] * 3, "num_batches_tracked": {"bn1.num_batches_tracked": 3}}
    content = {"model": arrays, "__author__": "x", "matching_heuristics": True, FACTS: facts}
    plain = {"model": {"stem.conv1.weight": np.zeros((2, 3), ">f4")}, "list": [1, (2, None), {"a": "b"}]}
    return [*(pickle.dumps(content, protocol) for protocol in (2, 4, 5)), pickle.dumps(plain, 2), pickle.dumps(plain, 0)], read


def _depths() -> list[Any]:
    from transfer.formats.detectron2_names import DEPTHS

    return list(DEPTHS.values())


def _manifest() -> Any:
    from zoo.model_folder.manifest import Manifest

    return Manifest(
        name="test_resnet.moco_2ep",
        arch="test_resnet",
        method="moco",
        image_size=32,
        normalisation={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
        interpolation="bilinear",
        crop_pct=1.0,
        epochs=2,
        steps=10,
        data="cifar10",
        recipe={"lr": 0.03, "method": {"name": "moco"}},
        source={"run": "x", "versions": {"torch": "2.9"}},
        licence="mit",
        file_sha256="a" * 64,
        tensors_sha256="b" * 64,
        results=(_result(),),
    )


def _result() -> Any:
    from zoo.results import DataFacts, Headline, ModelFacts, Result, SplitFacts

    curves = {"k": {"10": 0.5}, "per_class": {"names": ["a", "b"], "total": [5, 5], "correct": [1, 2]}}
    return Result(
        task="knn",
        preset="dino@32",
        protocol={"k": [10, 20], "temperature": 0.07, "changed": ["k"], "layer": None},
        headline=Headline("top1_k20", 57.25),
        metrics={"top1_k10": 56.25, "top1_k20": 57.25},
        counts={"correct_k20": 572},
        model=ModelFacts("run", "test_resnet", "run", "b" * 64, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), spec="runs/x"),
        data=DataFacts("cifar10:/somebody/data", "cifar10", "class", 10, {"test": SplitFacts("test", 1000, 2, "c" * 64)}),
        seeds={"sample": 0},
        versions={"torch": "2.9"},
        device="cpu",
        dtype="float32",
        processes=1,
        seconds={"features": 1.5},
        date="2026-11-21T10:00:00+00:00",
        details=curves,
    )


def _zoo_json(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.model_folder.manifest import read_manifest

    def read(path: Path) -> object:
        manifest = read_manifest(path.parent)
        return manifest.to_json(), manifest.mean, manifest.std, manifest.arguments

    return [_manifest().to_json().encode()], read


def _config_json(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.backbones import read_arguments
    from zoo.model_folder.manifest import read_config

    settings = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.2] * 3, "interpolation": "bilinear", "crop_pct": 1.0, "tag": "x"}
    content = {"architecture": "test_resnet", "num_classes": 0, "model_args": {"num_heads": 3}, "pretrained_cfg": settings}
    return [json.dumps(content).encode()], lambda path: read_arguments(read_config(path.parent).model_args, str(path))


def _results(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from evaluation.report.curves import curves_of
    from evaluation.report.entries import read_entries

    def read(path: Path) -> object:
        entries = read_entries([path.parent]).entries
        return [(entry.result.to_json(), list(curves_of(entry.result, "x"))) for entry in entries]

    return [_result().to_json().encode()], read


def _recipe(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from pretrain.recipe_files import RECIPES
    from pretrain.recipes import load_recipe

    seeds = [RECIPES.find(name).read_bytes() for name in RECIPES.names()[:6]]
    return [*seeds, b"base: shapes_demo\noptimizer: {lr: 0.1}\n"], lambda path: load_recipe(str(path))


def _detectron2_yaml(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from transfer.detection.config_files import CONFIGS
    from transfer.detection.engine.settings import load_config

    for base in CONFIGS.folder.glob("base_*.yaml"):
        (folder / base.name).write_bytes(base.read_bytes())
    return [CONFIGS.find(name).read_bytes() for name in CONFIGS.names()[:4]], lambda path: load_config(str(path))


def _log(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from evaluation.report.curves import _log_curves
    from evaluation.training.log import Log, read_log
    from pretrain.runs.curve import draw_curve

    rows = [{"step": step, "epoch": step // 5, "loss": 5.0 / (step + 1), "lr": 0.1, "seconds": 0.01} for step in range(8)]
    rows[5]["knn_top1"] = 0.4

    def read(path: Path) -> object:
        found = list(_log_curves(read_log(path)))
        with Log(path, step=5) as log:
            log.write({"step": 5, "loss": 1.0})
        # A picture takes a quarter of a second: of every eighth.
        return draw_curve(path.parent, steps=5, title="x") if zlib.crc32(path.read_bytes()) % 8 == 0 else found

    return ["".join(json.dumps(row) + "\n" for row in rows).encode()], read


def _features(name: str) -> Callable[[Path], tuple[list[bytes], Callable[[Path], object]]]:
    def prepare(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
        from evaluation.extraction.cache import FeatureCache

        rows = torch.arange(24.0).reshape(3, 8)
        FeatureCache(folder / "kept").get({"model": "a"}, lambda: rows)
        (place,) = (folder / "kept").glob("*/*")
        good = (place / name).read_bytes()

        def read(path: Path) -> object:
            (place / name).write_bytes(path.read_bytes())
            found = FeatureCache(folder / "kept").look_up({"model": "a"})
            assert found is None or torch.equal(found, rows)
            return found

        return [good], read

    return prepare


def _split_state(folder: Path) -> Any:
    from zoo.data import open_data
    from zoo.data.inspection.files_state import FilesState

    for number in range(4):
        _picture(folder / "images" / f"{number}.png")
    images: Any = open_data(f"folder:{folder / 'images'}").role("pretrain")
    return images, FilesState.of(images)


def _picture(path: Path, side: int = 110) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), 7, np.uint8)).save(path)


def _findings(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.data.inspection.kept import facts_file, read_kept
    from zoo.data.inspection.scan import scan_images

    images, state = _split_state(folder)
    scan_images(images)

    def read(path: Path) -> object:
        table, known = read_kept(path, state)
        # As a look uses them: words by their positions.
        return [table.word(column, int(index)) for index in np.flatnonzero(known) for column in ("format", "mode", "reason", "note")]

    return [facts_file(images, images.reading).read_bytes()], read


def _identity(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.data.identity import Identity, difference, identify
    from zoo.data.inspection.scan import scan_images

    images, _ = _split_state(folder)
    identify(images, scan_images(images), folder).save(folder / "saved.npz")
    return [(folder / "saved.npz").read_bytes()], lambda path: difference(Identity.load(path), images, folder)


def _look(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.data.inspection.kept import look_file
    from zoo.data.inspection.look import kept_look, look_at

    _split_state(folder)
    spec = f"folder:{folder / 'images'}"
    look_at(spec)
    good = look_file(spec).read_bytes()

    def read(path: Path) -> object:
        look_file(spec).write_bytes(path.read_bytes())
        return kept_look(spec)

    return [good], read


def _coco(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.data.boxes.detection_data import open_detection_data

    root = as_coco(folder / "coco", 2, 1)
    (train,) = root.glob("annotations/*train*.json")

    def read(path: Path) -> object:
        train.write_bytes(path.read_bytes())
        return open_detection_data(f"coco:{root}")

    return [train.read_bytes()], read


def _voc(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.data.boxes.detection_data import open_detection_data

    root = as_voc(folder / "voc", 6, 1)
    first = sorted((root / "Annotations").glob("trainval*.xml"))[0]

    def read(path: Path) -> object:
        first.write_bytes(path.read_bytes())
        return open_detection_data(f"voc:{root}")

    return [first.read_bytes()], read


def _table(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.data import open_data

    for number in range(4):
        _picture(folder / f"{number}.png", 8)
    lines = [("image", "label", "split"), *((f"{number}.png", "ab"[number % 2], ("train", "test")[number // 2]) for number in range(4))]
    seeds = [separator.join(["\n".join(separator.join(line) for line in lines)]).encode() for separator in ",;\t"]
    return seeds, lambda path: open_data(f"csv:{path},image=image,label=label,split=split", "skip")


def _shard(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.data import open_data

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(2):
            picture = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(picture, "PNG")
            for name, data in ((f"{number}.png", picture.getvalue()), (f"{number}.cls", b"1"), (f"{number}.json", b'{"label": 1}')):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return [buffer.getvalue()], lambda path: open_data(f"wds:{path}", "skip")


def _lists(name: str, text: str) -> Callable[[Path], tuple[list[bytes], Callable[[Path], object]]]:
    def prepare(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
        from zoo.data.hierarchy import read_groupings
        from zoo.data.sets.imagenet_lists import read_val_list

        if name in ("hierarchy.json", "classes.tsv"):
            return [text.encode()], lambda path: read_groupings(path.parent, ["a", "b"])
        images = ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"]
        return [text.encode()], lambda path: read_val_list(path.parent, path.parent / "val", images, ["n01440764", "n01443537"])

    return prepare


def _labelled(folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from evaluation.tasks.semi.label_lists import read_label_list

    images, _ = _split_state(folder)
    return [b"0\n1\n3\n", b"0.png\n2.png\n"], lambda path: read_label_list(path, images)


def _catalogue(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.catalogue.files import BUILTIN_FILE, read_catalogue_file

    # The projects, and a few of the models.
    parts = BUILTIN_FILE.read_text(encoding="utf-8").split("[[model]]")[:3]
    return ["[[model]]".join(parts).encode()], lambda path: [entry.to_dict() for entry in read_catalogue_file(path).values()]


def _pins(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
    from zoo.hub.pins import Pins

    content = {"schema": 1, "pins": {"alice/a@main": {"files": {"x": {"size": 3, "sha256": "a" * 64}}, "commit": "b" * 40, "date": "x"}}}
    return [json.dumps(content).encode()], lambda path: (Pins(path).get("alice/a@main"), Pins(path).of_commit("alice/a", "b" * 40))


def _images(*kinds: str) -> Callable[[Path], tuple[list[bytes], Callable[[Path], object]]]:
    def prepare(_folder: Path) -> tuple[list[bytes], Callable[[Path], object]]:
        from zoo.data.images import AS_SEEN, decode_rgb, read_facts

        seeds = []
        for kind in kinds:
            for mode in ("RGB", "L", "P", "RGBA", "I;16", "CMYK"):
                image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 10, 3), np.uint8))
                image = image.convert(mode) if mode != "I;16" else Image.fromarray(np.arange(120, dtype=np.uint16).reshape(12, 10) * 500)
                for options in ({}, {"save_all": True, "append_images": [image]}) if kind in ("TIFF", "WEBP", "GIF", "PNG") else ({},):
                    buffer = io.BytesIO()
                    try:
                        image.save(buffer, kind, **options)
                    except (OSError, ValueError, KeyError):
                        continue
                    seeds.append(buffer.getvalue())

        def read(path: Path) -> object:
            data = path.read_bytes()
            read_facts(data)
            return decode_rgb(data, AS_SEEN)

        return seeds, read

    return prepare


_BYTES = of_bytes()
_JSON_BYTES = of_bytes(*WORDS)
FORMATS: dict[str, Format] = {
    "checkpoint (zip), bytes": Format("a.pth", _checkpoints(False), _BYTES),
    "checkpoint (zip), its pickle": Format("a.pth", _checkpoints(False), in_archive("data.pkl", mutate=of_bytes(*PICKLE))),
    "checkpoint (legacy)": Format("a.pth", _checkpoints(True), of_bytes(*PICKLE)),
    "safetensors": Format("a.safetensors", _safetensors, either(_BYTES, of_safetensors)),
    "checkpoint of a run": Format(
        "run/checkpoints/step_00000010.pt", _run, either(_BYTES, in_archive("data.pkl", mutate=of_bytes(*PICKLE)))
    ),
    "detectron2's .pkl": Format("a.pkl", _detectron2_pickle, of_bytes(*PICKLE)),
    "zoo.json": Format("zoo.json", _zoo_json, of_json),
    "config.json": Format("config.json", _config_json, of_json),
    "result": Format("result.json", _results, of_json),
    "recipe (YAML)": Format("a.yaml", _recipe, of_bytes(*YAML)),
    "detectron2's YAML": Format("a.yaml", _detectron2_yaml, of_bytes(*YAML), needs_detectron2=True),
    "log.jsonl": Format("log.jsonl", _log, of_json_lines),
    "cached features (.npy)": Format("a.npy", _features("features.npy"), of_bytes(b"|O", b"'<f8'", b"(10000000000, 8)", b"PK\x03\x04")),
    "cached features (entry)": Format("a.json", _features("entry.json"), of_json),
    "kept findings": Format("a.npz", _findings, either(_BYTES, in_archive(".npy", mutate=of_bytes(b"|O", b"(99999999999,)")))),
    "identity of a run's images": Format("a.npz", _identity, either(_BYTES, in_archive(".npy", mutate=of_bytes(b"|O", b"(9, 9)")))),
    "kept look": Format("a.json", _look, of_json),
    "COCO (JSON)": Format("a.json", _coco, of_json),
    "VOC (XML)": Format("a.xml", _voc, of_bytes(*XML)),
    "table (CSV)": Format("a.csv", _table, _JSON_BYTES),
    "WebDataset (tar)": Format("a.tar", _shard, either(of_tar, _BYTES)),
    "hierarchy.json": Format("hierarchy.json", _lists("hierarchy.json", '{"animals": {"x": ["a"], "y": ["b"]}}'), of_json),
    "classes.tsv": Format("classes.tsv", _lists("classes.tsv", "class\tgroup\na\tx\nb\ty\n"), _JSON_BYTES),
    "ImageNet's list": Format(
        "val.txt", _lists("val.txt", "ILSVRC2012_val_00000001.JPEG n01440764\nILSVRC2012_val_00000002.JPEG n01443537\n"), _JSON_BYTES
    ),
    "list of labelled images": Format("a.txt", _labelled, _JSON_BYTES),
    "catalogue (TOML)": Format("a.toml", _catalogue, of_bytes(b"[[model]]", b"[model]", b"=", b"9" * 5000, b"[" * 2000, b"a." * 500)),
    "lock file of the hub": Format("zoo.lock.json", _pins, of_json),
    "JPEG": Format("a.jpg", _images("JPEG", "MPO"), _BYTES, (BadImageError,)),
    "PNG": Format("a.png", _images("PNG"), either(of_png, _BYTES), (BadImageError,)),
    "TIFF": Format("a.tif", _images("TIFF"), _BYTES, (BadImageError,)),
    "WebP, GIF, BMP and others": Format(
        "a.img", _images("WEBP", "GIF", "BMP", "PPM", "TGA", "PCX", "JPEG2000", "AVIF"), _BYTES, (BadImageError,)
    ),
}
