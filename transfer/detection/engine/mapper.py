"""Images for detectron2 by the toolkit's own image layer, so that detection sees the pictures that every other room sees.

detectron2's reader cuts grey images of 16 bits at 255, which makes most of them white, and knows no other range, bands or formats.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import check_image_size, convert_PIL_to_numpy
from numpy.typing import NDArray

from zoo.data.boxes.annotations import Record
from zoo.data.entries import FileEntry
from zoo.data.images import Reading


class LayerMapper(DatasetMapper):
    """detectron2's mapper, with the same augmentations in the same order, of images that :mod:`zoo.data.images` reads.

    Boxes belong to the picture as the reading gives it. Semantic masks and proposals are not mapped: no data here has any.

    Attributes
    ----------
    reading
        How images become RGB.
    """

    def __init__(self, cfg: Any, *, is_train: bool, reading: Reading) -> None:
        super().__init__(cfg, is_train=is_train)
        self.reading = reading

    @classmethod
    def of_dataset(cls, cfg: Any, name: str, *, is_train: bool) -> LayerMapper:
        """The mapper of a registered data set (:func:`transfer.detection.engine.catalog.register`)."""
        return cls(cfg, is_train=is_train, reading=MetadataCatalog.get(name).reading)

    def __call__(self, record: Record) -> Record:
        record = copy.deepcopy(record)
        pixels = read_pixels(record, self.reading, self.image_format)
        check_image_size(record, pixels)
        augmented = T.AugInput(pixels)
        transforms = self.augmentations(augmented)
        record["image"] = torch.as_tensor(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))
        annotations = record.get("annotations")
        if not self.is_train:
            record.pop("annotations", None)
        elif annotations is not None:
            self._transform_annotations(record, transforms, augmented.image.shape[:2])
        return record


def read_pixels(record: Record, reading: Reading, channels: str = "RGB") -> NDArray[Any]:
    """The image of a record, (H, W, 3), its channels in detectron2's order ``channels`` (``"RGB"``, ``"BGR"``, ...).

    Raises :class:`~zoo.data.images.BadImageError`, and OSError.
    """
    with FileEntry(record["file_name"]).decoded(reading) as made:
        pixels: NDArray[Any] = convert_PIL_to_numpy(made.image, channels)
        return pixels
