"""Sources of views that several tests make."""

from __future__ import annotations

from dataclasses import replace

import pytest
from located_images import BATCH, MEAN, STD, located_pixels
from PIL import Image

from evaluation.views import ViewSource
from zoo.data.base import ArrayImages, FileEntry, FileImages


@pytest.fixture(scope="session")
def located_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("located")
    for number, pixels in enumerate(located_pixels()):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def make_located_source(located_files):
    """A source of views of the located images, by ``kind`` (:data:`located_images.KINDS`)."""

    def make(kind, settings, specs, **options):
        if kind == "in memory":
            images = ArrayImages("test", "train", located_pixels(), {})
        else:
            images = FileImages("test", "train", [FileEntry(str(path)) for path in located_files], {})
        settings = replace(settings, backend="cpu" if kind == "files, cpu" else "device")
        return ViewSource(images, specs, settings, **{"mean": MEAN, "std": STD, "seed": 1, "batch": BATCH, **options})

    return make
