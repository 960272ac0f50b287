"""Making a zoo model of somebody else's checkpoint."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.backbones import SMALL_STEM_NAMES, native_size
from zoo.catalogue import CatalogueEntry
from zoo.errors import UserError
from zoo.files import check_new_folder
from zoo.formats.beside import Preprocessing, images_beside, settings_beside, weights_file
from zoo.formats.engine import AUTO, Reading, read_backbone
from zoo.hashing import file_sha256
from zoo.model_folder.folder import write_zoo_model
from zoo.model_folder.licences import check_stated
from zoo.model_folder.manifest import MANIFEST_FILE, Manifest
from zoo.models.selection import Hints, Selection
from zoo.models.transforms import INTERPOLATION, usual_crop_pct
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD, three_channels
from zoo.ranges import SIDE, Range
from zoo.reading.outside import open_file, told
from zoo.results.provenance import software_versions, toolkit_commit

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    folder
        The zoo model.
    reading
        What was recognised, and where every tensor went.
    assumed
        What nobody stated and was taken to be as usual, in words.
    """

    folder: Path
    reading: Reading
    assumed: tuple[str, ...]


def import_checkpoint(
    path: str | Path,
    out: str | Path,
    *,
    format: str = AUTO,
    arch: str | None = None,
    encoder: str | None = None,
    name: str | None = None,
    licence: str | None = None,
    licence_link: str | None = None,
    method: str | None = None,
    epochs: int | None = None,
    data: str | None = None,
    preprocessing: Preprocessing | None = None,
    entry: CatalogueEntry | None = None,
    url: str | None = None,
    origin: Mapping[str, Any] | None = None,
    hints: Hints = Hints(),
    selection: Selection | None = None,
    trust_pickle: bool = False,
    overwrite: bool = False,
) -> Imported:
    """Write the zoo model folder ``out`` of the backbone in a checkpoint file.

    Parameters
    ----------
    path
        What ``torch.save`` wrote, or safetensors, or a folder of transformers.
    format, arch, encoder, hints, selection, trust_pickle
        As in :func:`zoo.formats.engine.read_backbone`.
    name
        None: the entry's, else architecture and file name.
    licence, licence_link, method, epochs, data
        What is known of the weights; None: what the entry says, else what the layout tells.
    preprocessing
        Of images; what it leaves open is taken from what transformers wrote beside the file, the entry, the layout, or as usual.
    entry
        The row of the catalogue that the file is the weights of; the file's hash is compared where the entry has one.
    url
        Where the file is from, for the record.
    origin
        More of that, which ``source`` in zoo.json then holds.

    Raises
    ------
    UserError
        Whatever keeps the file from becoming a model; ``out`` is then as it was.
    """
    check_stated(licence, licence_link)
    given = Path(path)
    path = weights_file(given)
    check_new_folder(out, overwrite=overwrite, marker=MANIFEST_FILE)
    if entry is not None and format == AUTO and not selection:
        format = entry.reader or AUTO
    stated = preprocessing or Preprocessing()
    if settings_beside(path) is not None:
        stated = stated.over(images_beside(path))
    reading = read_backbone(
        path,
        format=format,
        arch=arch or (entry.arch if entry else None),
        encoder=encoder,
        image_size=stated.image_size,
        hints=hints,
        selection=selection,
        trust_pickle=trust_pickle,
    )
    sha256 = check_hash(path, entry) if entry else file_sha256(path)
    images, assumed = _completed(reading, stated, entry)
    manifest = Manifest(
        name=name or (entry.name if entry else f"{reading.architecture.name}.{_tag(given)}"),
        arch=reading.architecture.name,
        image_size=images.image_size,
        normalisation={"mean": list(images.mean), "std": list(images.std)},
        interpolation=images.interpolation,
        crop_pct=images.crop_pct,
        method=method or (entry.method if entry else reading.method),
        encoder=reading.encoder if len(reading.reader.parts) != 1 else None,
        epochs=epochs or (entry.epochs if entry else reading.epochs),
        data=data or (entry.data if entry else None),
        source={
            "checkpoint": path.name,
            "sha256": sha256,
            "format": reading.reader.name,
            "format_confirmed": reading.reader.confirmed or bool(entry and entry.confirmed),
            **({"url": url} if url else {}),
            **(origin or {}),
            **({"selection": _spelled(selection)} if selection else {}),
            **({"model_args": reading.function.arguments} if reading.function.arguments else {}),
            **({"resized": reading.resized} if reading.resized else {}),
            **({"assumed": list(assumed)} if assumed else {}),
            "commit": toolkit_commit(),
            "versions": software_versions(),
        },
        licence=licence or (entry.licence if entry else None),
        licence_link=licence_link,
    )
    return Imported(write_zoo_model(out, reading.backbone, manifest, overwrite=overwrite, release=True), reading, assumed)


def _spelled(selection: Selection) -> dict[str, Any]:
    """A selection as zoo.json keeps it, by the names of the options."""
    renames = [f"{pattern}={replacement}" for pattern, replacement in selection.renames]
    facts = {"key": selection.key, "prefix": selection.prefix, "rename": renames, "drop": list(selection.drop)}
    return {name: value for name, value in facts.items() if value}


def check_hash(path: str | Path, entry: CatalogueEntry) -> str:
    """The sha256 of a file that should be the one at the entry's home.

    Raises UserError where the entry has a hash of it (whole, or the first digits that its authors print), and it is another.
    """
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open_file(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
    home = entry.home
    known = (
        ("sha256", entry.sha256, sha256.hexdigest()),
        ("sha256", home.sha256_prefix if home else None, sha256.hexdigest()),
        ("md5", home.md5_prefix if home else None, md5.hexdigest()),
    )
    for kind, wanted, found in known:
        if wanted is not None and not found.startswith(wanted):
            raise UserError(
                f"{path} is not the file of '{entry.name}': its {kind} is {found[:12]}..., and it should begin with {wanted[:12]}"
            )
    return sha256.hexdigest()


@dataclass(frozen=True)
class _CompletePreprocessing:
    """:class:`Preprocessing` with nothing left open."""

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_pct: float


def _completed(reading: Reading, stated: Preprocessing, entry: CatalogueEntry | None) -> tuple[_CompletePreprocessing, tuple[str, ...]]:
    """The preprocessing as stated, else by the entry, the layout, ImageNet's way; and which of it was assumed, in words."""
    own = reading.facts if reading.reader.name == "ours" else {}
    if own.get("image_size") is not None and (type(own["image_size"]) is not int or own["image_size"] not in SIDE):
        raise UserError(f"{reading.path} has as its image_size {told(own['image_size'])}, and a side in pixels that is {SIDE} is expected")
    mean = stated.mean or (entry.mean if entry else None) or reading.reader.mean or _three(own.get("mean"))
    std = stated.std or (entry.std if entry else None) or reading.reader.std or _three(own.get("std"))
    size = stated.image_size or reading.architecture.image_size or (entry.image_size if entry else None) or own.get("image_size")
    if reading.architecture.name in SMALL_STEM_NAMES and (mean is None or std is None or size is None):
        raise UserError(
            f"{reading.path} is a {reading.architecture.name}, and it does not say how its images were preprocessed: give --image-size, "
            "--mean and --std (for CIFAR-10: 32, 0.4914,0.4822,0.4465 and 0.2023,0.1994,0.2010, or what it was trained with)"
        )
    assumed = []
    if size is None:
        size = native_size(reading.backbone)
        assumed.append(f"images of {size} px")
    if mean is None or std is None:
        mean, std = mean or IMAGENET_MEAN, std or IMAGENET_STD
        assumed.append("ImageNet's mean and standard deviation")
    interpolation = stated.interpolation or (entry.interpolation if entry else None)
    crop_pct = stated.crop_pct or (entry.crop_pct if entry else None)
    if interpolation is None or crop_pct is None:
        interpolation = interpolation or INTERPOLATION
        crop_pct = crop_pct or (usual_crop_pct(int(size)))
        if not own:
            assumed.append(f"{interpolation} resizing and a centre crop of {crop_pct:g} of the side")
    return _CompletePreprocessing(int(size), mean, std, interpolation, crop_pct), tuple(assumed)


def _three(values: object) -> tuple[float, float, float] | None:
    if not isinstance(values, Sequence) or len(values) != 3 or not all(value in Range() for value in values):
        return None
    return three_channels(values)


def _tag(path: Path) -> str:
    """A model's tag made of a file name."""
    stem = path.name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-") or "imported"
