"""Opening a backbone in somebody else's checkpoint file, as it lies there."""

from __future__ import annotations

from pathlib import Path

from zoo.backbones import SMALL_STEM_NAMES, spelled
from zoo.formats.engine import read_backbone
from zoo.hashing import file_sha256
from zoo.models.model import Model
from zoo.models.selection import Selection
from zoo.normalisation import IMAGENET_MEAN, IMAGENET_STD


def open_file(
    path: Path, encoder: str | None, image_size: int | None, *, heads: int | None = None, selection: Selection | None = None
) -> Model:
    """The backbone in a checkpoint of any known layout (``docs/formats.md``).

    Its images are taken to be normalised as its layout says, else as ImageNet's; those of a network with the small-image stem, by the
    statistics of the data it meets. ``zoo import`` makes a zoo model of it, with what is known of its training.

    Parameters
    ----------
    encoder
        Which network of the file; None: the one that the method's authors evaluate.
    heads, selection
        As in :func:`zoo.formats.engine.read_backbone`.

    Raises
    ------
    UserError
        As :func:`zoo.formats.engine.read_backbone`.
    """
    reading = read_backbone(path, encoder=encoder, image_size=image_size, heads=heads, selection=selection)
    arch, reader = reading.architecture.name, reading.reader
    module = reading.backbone
    usual = (None, None) if arch in SMALL_STEM_NAMES else (IMAGENET_MEAN, IMAGENET_STD)
    return Model.of_backbone(
        module,
        name=path.name,
        kind="file",
        arch=spelled(arch, reading.function.arguments),
        input_size=image_size or reading.architecture.image_size,
        mean=reader.mean or usual[0],
        std=reader.std or usual[1],
        file_sha256=file_sha256(path),
        metadata={
            "format": reader.name,
            "encoder": reading.encoder,
            "recognised by": reading.evidence,
            "model_args": reading.function.arguments,
        },
        notes=tuple(f"{path.name}: {note}" for note in (*reading.function.notes, *([reading.resized] if reading.resized else []))),
    )
