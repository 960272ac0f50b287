"""What the features of a split depend on, in words: the names by which a cache knows them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.data.base import FileImages, Images
from zoo.errors import UserError
from zoo.models.transforms import EvalTransform

# Raised when what is computed changes, so that features kept by earlier versions are not used.
_FEATURE_FORMAT = 1
# Libraries whose version may change a feature's last digits.
_FEATURE_VERSIONS = ("torch", "torchvision", "timm", "pillow")
# Bytes hashed at a time.
_BLOCK = 1 << 24


def describe_features(
    images: Images,
    data: str,
    transform: EvalTransform,
    *,
    tensors_sha256: str,
    arch: str,
    kind: str,
    layer: str | None,
    dtype: str,
    device: str,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that the features of a split depend on, by which a :class:`evaluation.extraction.cache.FeatureCache` names them.

    A result holds it all but ``data`` (:func:`data_key`), so features can be looked up without the model.
    """
    how = transform.describe()
    if images.pixels is not None and images.pixels.shape[1:3] == (transform.resize, transform.resize):
        del how["interpolation"]  # nothing is resized, whatever the preset says
    return {
        "format": _FEATURE_FORMAT,
        "tensors_sha256": tensors_sha256,
        "arch": arch,
        "kind": kind,
        "layer": layer,
        "data": [images.name, images.split, len(images), data],
        "transform": how,
        "dtype": dtype,
        "device": device,
        "versions": {name: versions.get(name) for name in _FEATURE_VERSIONS},
    }


def data_key(images: Images, fingerprint: str | None = None) -> str:
    """What a description says of a split; ``fingerprint`` is the split's where it is known. Raises UserError where a file is missing."""
    return f"{fingerprint or images.fingerprint()} {state_of(images)}"


def state_of(images: Images) -> str:
    """sha256 (hex) over what a fingerprint's sample may miss: all pixels in memory, or every file's path, size and time of change.

    Raises UserError where a file is missing.
    """
    digest = hashlib.sha256(f"{images.name}\0{images.split}\0{len(images)}".encode(errors="surrogateescape"))
    if images.pixels is not None:
        step = max(1, _BLOCK // max(1, images.pixels[:1].nbytes))
        for start in range(0, len(images.pixels), step):
            digest.update(np.ascontiguousarray(images.pixels[start : start + step]).data)
    elif isinstance(images, FileImages):
        path = file = ""
        for entry in images.entries:
            if entry.path != path:  # the images of a shard follow one another
                path, file = entry.path, _file_state(entry.path)
            digest.update(f"{file}\0{entry.offset}\0{entry.size}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _file_state(path: str) -> str:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise UserError(f"image file {path} cannot be read ({error.strerror}); mend or remove it") from error
    return f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}"
