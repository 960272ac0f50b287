"""Features in ``.npz`` files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluation.extraction.features import Features
from evaluation.extraction.splits import ROLES, LazySplits
from evaluation.tasks.feature_file.presets import TASK, FeaturePreset
from evaluation.tasks.measurement import made_ready, measurement
from evaluation.tasks.runtime import Runtime
from zoo.data.base import Data, Images
from zoo.errors import UserError
from zoo.files import check_can_write, replace_file, safe_name
from zoo.hashing import file_sha256
from zoo.results import Result
from zoo.results.provenance import software_versions, toolkit_commit

if TYPE_CHECKING:
    from zoo.models.model import Model


def run_features(
    model: Model,
    data: Data | LazySplits,
    *,
    preset: FeaturePreset,
    image_size: int | None = None,
    runtime: Runtime | None = None,
) -> Result:
    """Write the features of splits, each into a file ``MODEL.SPLIT.npz`` (:func:`write_features`).

    Parameters
    ----------
    model, image_size, runtime
        As in :func:`evaluation.tasks.knn.run.run_knn`.
    data
        As :func:`zoo.data.open_data` gives it, or prepared by :func:`evaluation.extraction.splits.lazy_splits`. Labels are not needed.
    preset
        ``FEATURE_PRESETS["bicubic"].change(npz=FOLDER)``.

    Raises
    ------
    UserError
        No such split, a file that exists, a disk that is full; what extraction refuses.
    """
    splits, chosen, runtime = made_ready(TASK, data, preset, runtime)
    if chosen.npz is None:
        raise UserError("say into which folder features shall be written (--npz DIR)")
    names = _split_names(chosen, splits)
    stem = safe_name(model.name)
    paths = {name: chosen.npz / f"{stem}.{re.sub(r'[^A-Za-z0-9_.+-]+', '-', name)}.npz" for name in names}
    exists = next((path for path in paths.values() if path.exists()), None)
    if exists is not None:
        raise UserError(f"{exists} exists already; choose another --npz, or remove it")
    for path in paths.values():
        check_can_write(path)
    used = splits.used({name: name for name in names})
    measured = measurement(TASK, model, used, chosen, image_size, runtime)

    def write(name: str, features: Features) -> dict[str, str]:
        provenance = {
            "model": {
                "name": model.name,
                "arch": model.arch,
                "layer": model.layer,
                "tensors_sha256": model.tensors_sha256,
                "file_sha256": model.file_sha256,
            },
            "data": {"spec": used.data.spec, "split": name, "fingerprint": used.facts.splits[name].fingerprint},
            "transform": measured.transform.describe(),
            "dtype": measured.runtime.dtype,
            "versions": software_versions(),
            "commit": toolkit_commit(),
        }
        write_features(paths[name], features, used.images[name], provenance, root=used.data.root)
        return {"file": str(paths[name]), "sha256": file_sha256(paths[name])}

    written: dict[str, Any] = {}
    width = 0
    with measured.timed("features"):
        for name in names:
            features = measured.features(name)
            width = features.features.shape[1]
            written[name] = runtime.processes.from_main(partial(write, name, features))
    return measured.result(
        protocol={"splits": names, "source": chosen.source},
        headline="feature_width",
        metrics={"feature_width": float(width), **{f"images_{name}": float(len(images)) for name, images in used.images.items()}},
        details={"files": written},
    )


def write_features(
    path: str | Path, features: Features, images: Images, provenance: Mapping[str, Any], *, root: Path | None = None
) -> None:
    """Write a ``.npz`` file that ``numpy.load`` reads without pickles, whole or not at all.

    It holds ``features`` float32 (N, D); ``names`` (N,), the images' files, below ``root`` without it; for each label level
    ``labels_LEVEL`` int64 (N,) and ``classes_LEVEL`` (C,); where images have several labels ``multilabel`` int8 (N, C) and
    ``multilabel_classes``; and ``provenance``, a JSON text.
    """
    arrays: dict[str, NDArray[Any]] = {
        "features": features.features.numpy(),
        "names": np.array([_name(images.where(index), root) for index in range(len(images))]),
        "provenance": np.array(json.dumps(provenance, sort_keys=True)),
    }
    for name, level in images.levels.items():
        arrays[f"labels_{name}"], arrays[f"classes_{name}"] = level.labels, np.array(level.classes)
    if images.multilabel is not None:
        arrays["multilabel"], arrays["multilabel_classes"] = images.multilabel.values, np.array(images.multilabel.classes)

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    replace_file(path, write)


def _name(where: str, root: Path | None) -> str:
    return where.removeprefix(f"{root}/") if root is not None else where


def _split_names(preset: FeaturePreset, data: LazySplits) -> list[str]:
    """The data's own names of the splits that are wanted."""
    roles = data.data.roles
    if preset.split is None:
        return list(dict.fromkeys(roles[role] for role in ("train", "test") if role in roles)) or [roles["pretrain"]]
    if preset.split in ROLES and (ROLES[preset.split] in roles or preset.split == "train"):
        return [data.name(ROLES[preset.split])]
    data.split(preset.split)
    return [preset.split]
