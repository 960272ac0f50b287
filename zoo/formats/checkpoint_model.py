"""Opening a backbone in somebody else's checkpoint file, as it lies there."""

from __future__ import annotations

from pathlib import Path

from zoo.backbones import SMALL_STEM_NAMES, spelled
from zoo.formats.beside import Preprocessing, images_beside, settings_beside, weights_file
from zoo.formats.engine import read_backbone
from zoo.hashing import file_sha256
from zoo.models.model import Model
from zoo.models.selection import Hints, Selection
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD


def open_file(
    path: Path,
    encoder: str | None,
    image_size: int | None,
    *,
    hints: Hints = Hints(),
    selection: Selection | None = None,
    trust_pickle: bool = False,
) -> Model:
    """The backbone in a checkpoint of any known layout (``docs/formats.md``), or in a folder of transformers.

    Its images are prepared as transformers wrote it beside the file, else normalised as its layout says, else as ImageNet's; those of a
    network with the small-image stem, by the statistics of the data it meets. ``zoo import`` makes a zoo model of it, with what is known
    of its training.

    Parameters
    ----------
    encoder
        Which network of the file; None: the one that the method's authors evaluate.
    hints, selection, trust_pickle
        As in :func:`zoo.formats.engine.read_backbone`.

    Raises
    ------
    UserError
        As :func:`zoo.formats.engine.read_backbone`.
    """
    name, path = path.name, weights_file(path)
    images = images_beside(path) if settings_beside(path) is not None else Preprocessing()
    image_size = image_size or images.image_size
    reading = read_backbone(path, encoder=encoder, image_size=image_size, hints=hints, selection=selection, trust_pickle=trust_pickle)
    arch, reader = reading.architecture.name, reading.reader
    module = reading.backbone
    usual = (None, None) if arch in SMALL_STEM_NAMES else (IMAGENET_MEAN, IMAGENET_STD)
    return Model.of_backbone(
        module,
        name=name,
        kind="file",
        arch=spelled(arch, reading.function.arguments),
        input_size=image_size or reading.architecture.image_size,
        mean=images.mean or reader.mean or usual[0],
        std=images.std or reader.std or usual[1],
        interpolation=images.interpolation,
        crop_pct=images.crop_pct,
        file_sha256=file_sha256(path),
        metadata={
            "format": reader.name,
            "encoder": reading.encoder,
            "recognised by": reading.evidence,
            "model_args": reading.function.arguments,
        },
        notes=tuple(f"{name}: {note}" for note in (*reading.function.notes, *([reading.resized] if reading.resized else []))),
    )
