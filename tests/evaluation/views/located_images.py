"""Images whose pixels tell where they are, views of them, and what these must be."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from evaluation.views.parameters import draw_crops, draw_photometric
from evaluation.views.photometric import apply_photometric_, normalise_
from evaluation.views.pillow import apply_photometric, cut
from evaluation.views.resample import resample, to_planes
from evaluation.views.samplers import make_sampler

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
COUNT, BATCH, SIDE = 26, 8, 40
KINDS = ("in memory", "files", "files, cpu")


def located_pixels():
    """Red is the row, green the column, blue the image."""
    rows, columns = np.mgrid[:SIDE, :SIDE] * 6
    return np.stack([np.stack([rows, columns, np.full_like(rows, 9 * n)], axis=-1) for n in range(COUNT)]).astype(np.uint8)


def random_boxes(rng):
    """float32 (COUNT, 4): of a fifth to a half of each side, anywhere in their images."""
    size = rng.uniform(0.2, 0.5, (COUNT, 2))
    corner = rng.uniform(0, 1 - size)
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def assert_same(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others) > 0
    for one, other in zip(batches, others, strict=True):
        assert one.step == other.step
        assert torch.equal(one.index, other.index)
        assert len(one.views) == len(other.views)
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def expected_view(index, images, settings, epoch, number, boxes):
    """One view of the samples ``index``, which shows ``images``, from its parameters on, as each kind makes it."""
    address = {"seed": 1, "epoch": epoch, "view": number}
    pixels = located_pixels()[images]
    crops = draw_crops(make_sampler(settings), settings, np.full((len(index), 2), SIDE), index, **address, boxes=boxes)
    colours = draw_photometric(settings, index, **address)
    boxes, flip, vertical_flip = (torch.from_numpy(array) for array in (crops.boxes, crops.flip, crops.vertical_flip))
    in_memory = resample(to_planes(torch.from_numpy(pixels)), boxes, flip, settings.size, vertical_flip=vertical_flip)
    files = [cut(Image.fromarray(image), crops, row, settings.size, "bilinear") for row, image in enumerate(pixels)]
    cpu = [apply_photometric(image, colours, row) for row, image in enumerate(files)]
    views = {"in memory": apply_photometric_(in_memory, colours, settings.blur_sigma[1])}
    stacked = to_planes(torch.from_numpy(np.stack([np.asarray(image) for image in files]))).div_(255)
    views["files"] = apply_photometric_(stacked, colours, settings.blur_sigma[1])
    views["files, cpu"] = to_planes(torch.from_numpy(np.stack([np.asarray(image) for image in cpu]))).div_(255)
    return {kind: normalise_(view, torch.tensor(MEAN), torch.tensor(STD)) for kind, view in views.items()}
