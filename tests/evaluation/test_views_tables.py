"""Views that follow a survey's boxes, and views with settings of their own, in both ways of making crops and on both backends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.views import ViewSettings, ViewSource, ViewSpec
from evaluation.views.parameters import draw_crops, draw_photometric
from evaluation.views.photometric import apply_photometric_, normalise_
from evaluation.views.pillow import apply_photometric, cut
from evaluation.views.resample import resample, to_planes
from evaluation.views.samplers import make_sampler
from evaluation.views.settings import local_views
from evaluation.views.tables import BOXES, Tables
from zoo.data.base import ArrayImages, FileEntry, FileImages

SPECS = (ViewSpec("query"), ViewSpec("key"))
# Small crops, which a box can hold; no colours, so that a pixel tells where it came from.
PLAIN = ViewSettings(size=16, crop="contrastive_crop", scale=[0.03, 0.1], jitter=0.0, grayscale=0.0, blur=0.0)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
COUNT, BATCH, SIDE = 26, 8, 40
KINDS = ("held", "files", "files, cpu")


def located_pixels():
    """Red is the row, green the column, blue the image."""
    rows, columns = np.mgrid[:SIDE, :SIDE] * 6
    return np.stack([np.stack([rows, columns, np.full_like(rows, 9 * n)], axis=-1) for n in range(COUNT)]).astype(np.uint8)


def random_table(seed):
    """A box of a fifth to a half of each side, anywhere in its image."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.2, 0.5, (COUNT, 2))
    corner = rng.uniform(0, 1 - size)
    return {BOXES: np.concatenate([corner, corner + size], axis=1).astype(np.float32)}


TABLE, OTHER = random_table(0), random_table(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("located")
    for number, pixels in enumerate(located_pixels()):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture
def make_source(folder):
    def make(kind="held", settings=PLAIN, specs=SPECS, **options):
        if kind == "held":
            images = ArrayImages("test", "train", located_pixels(), {})
        else:
            images = FileImages("test", "train", [FileEntry(str(path)) for path in sorted(folder.iterdir())], {})
        settings = replace(settings, backend="cpu" if kind == "files, cpu" else "device")
        return ViewSource(images, specs, settings, **{"mean": MEAN, "std": STD, "seed": 1, "batch": BATCH, **options})

    return make


def assert_same(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others) > 0
    for one, other in zip(batches, others, strict=True):
        assert torch.equal(one.index, other.index)
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=True))


def levels(view):
    """The values of a normalised view, 0 .. 255."""
    return (view * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255


@pytest.mark.parametrize("kind", KINDS)
def test_crops_have_their_centres_in_the_images_own_box(make_source, kind):
    """Seen in the pixels alone."""
    for batch in make_source(kind).batches(0, tables=TABLE):
        boxes = TABLE[BOXES][batch.index.numpy()] * SIDE
        for view in batch.views:
            centre = levels(view).mean(dim=(2, 3)).numpy()
            np.testing.assert_allclose(centre[:, 2], 9 * batch.index.numpy(), atol=1)
            centre = centre[:, :2] / 6 + 0.5
            # Half of the largest crop's side: how far the image's edge may push the crop away; a pixel for rounding.
            push = np.sqrt(0.1 * 4 / 3) * SIDE / 2
            assert (centre >= np.minimum(boxes[:, :2], SIDE - push) - 1).all()
            assert (centre <= np.maximum(boxes[:, 2:], push) + 1).all()


def expected_view(index, settings, epoch, number, boxes):
    """One view of the images ``index`` from its parameters on, as each kind makes it."""
    address = {"seed": 1, "epoch": epoch, "view": number}
    pixels = located_pixels()[index]
    crops = draw_crops(make_sampler(settings), settings, np.full((len(index), 2), SIDE), index, **address, boxes=boxes)
    colours = draw_photometric(settings, index, **address)
    flips = torch.from_numpy(crops.flip), torch.from_numpy(crops.vertical_flip)
    held = resample(to_planes(torch.from_numpy(pixels)), torch.from_numpy(crops.boxes), flips[0], settings.size, vertical_flip=flips[1])
    files = [cut(Image.fromarray(image), crops, row, settings.size, "bilinear") for row, image in enumerate(pixels)]
    cpu = [apply_photometric(image, colours, row) for row, image in enumerate(files)]
    views = {"held": apply_photometric_(held, colours, settings.blur_sigma[1])}
    stacked = to_planes(torch.from_numpy(np.stack([np.asarray(image) for image in files]))).div_(255)
    views["files"] = apply_photometric_(stacked, colours, settings.blur_sigma[1])
    views["files, cpu"] = to_planes(torch.from_numpy(np.stack([np.asarray(image) for image in cpu]))).div_(255)
    return {kind: normalise_(view, torch.tensor(MEAN), torch.tensor(STD)) for kind, view in views.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_has_its_own_row_of_the_table(make_source, kind):
    source = make_source(kind)
    assert source.follows_boxes
    for epoch in (0, 3):
        for batch in source.batches(epoch, tables=TABLE):
            index = batch.index.numpy()
            for number, view in enumerate(batch.views):
                assert torch.equal(view, expected_view(index, PLAIN, epoch, number, TABLE[BOXES][index])[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_without_boxes_contrastive_crop_is_random_resized_crop(make_source, kind):
    plain = make_source(kind, replace(PLAIN, crop="random_resized_crop"))
    assert not plain.follows_boxes
    for tables in (None, {}, {"prototypes": np.zeros(COUNT)}):
        assert_same(make_source(kind).batches(2, tables=tables), plain.batches(2))
    assert_same(plain.batches(2, tables=TABLE), plain.batches(2))


@pytest.mark.parametrize("kind", ["files", "files, cpu"])
def test_workers_that_stay_see_a_changed_table_in_the_next_epoch(make_source, kind):
    """Epochs without boxes, with a table, with another one: equal bit for bit for 0, 1 and 2 workers."""
    alone, sources = make_source(kind), [make_source(kind, workers=workers) for workers in (1, 2)]
    for epoch, tables in enumerate((None, TABLE, OTHER)):
        batches = list(alone.batches(epoch, tables=tables))
        for source in sources:
            assert_same(source.batches(epoch, tables=tables), batches)
    assert not torch.equal(next(alone.batches(2, tables=TABLE)).views[0], batches[0].views[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_changed_in_place_is_seen_in_the_next_epoch(make_source, kind):
    source, table = make_source(kind, workers=1), {BOXES: TABLE[BOXES].copy()}
    list(source.batches(0, tables=table))
    table[BOXES][:] = OTHER[BOXES]
    assert_same(source.batches(1, tables=table), make_source(kind).batches(1, tables=OTHER))


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_share_the_batch(make_source, kind):
    whole = list(make_source(kind).batches(0, tables=TABLE))
    halves = [list(make_source(kind, rank=rank, world_size=2).batches(0, tables=TABLE)) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        parts = [half[step] for half in halves]
        assert torch.equal(torch.cat([part.index for part in parts]), batch.index)
        for number, view in enumerate(batch.views):
            torch.testing.assert_close(torch.cat([part.views[number] for part in parts]), view, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_entered_at_a_step(make_source, kind):
    source = make_source(kind)
    assert_same(source.batches(1, first_step=2, tables=TABLE), list(source.batches(1, tables=TABLE))[2:])


@pytest.mark.parametrize("kind", KINDS)
def test_simccrop_needs_no_table(make_source, kind):
    settings = replace(PLAIN, crop="simccrop")
    source = make_source(kind, settings)
    assert not source.follows_boxes
    central = {BOXES: np.tile(np.array([0.25, 0.25, 0.75, 0.75], dtype=np.float32), (COUNT, 1))}
    assert_same(source.batches(0), make_source(kind).batches(0, tables=central))
    assert_same(source.batches(0, tables=TABLE), source.batches(0))


@pytest.mark.parametrize("kind", KINDS)
def test_views_with_settings_of_their_own(make_source, kind):
    """BYOL's second view, as it were, beside one of another size with another crop."""
    changes = {"blur": 0.1, "solarize": 0.9, "size": 12, "crop": "random_resized_crop", "scale": [0.5, 1.0]}
    settings = ViewSettings(size=16, crop="contrastive_crop", blur=1.0, blur_sigma=[0.5, 1.0], each={"key": changes})
    own = {"query": replace(settings, each={}), "key": replace(settings, each={}, **changes)}
    seen = set()
    for batch in make_source(kind, settings).batches(0, tables=TABLE):
        index = batch.index.numpy()
        for number, (name, view) in enumerate(zip(own, batch.views, strict=True)):
            assert torch.equal(view, expected_view(index, own[name], 0, number, TABLE[BOXES][index])[kind])
            seen.add((name, view.shape[-1]))
    assert seen == {("query", 16), ("key", 12)}


@pytest.mark.parametrize("kind", KINDS)
def test_local_views_beside_global_ones(make_source, kind):
    """Local views have the published sizes in proportion, ignore the boxes, and leave the global views as they were."""
    source = make_source(kind, PLAIN, (*SPECS, *local_views(PLAIN.size)))
    for batch, alone in zip(source.batches(0, tables=TABLE), make_source(kind).batches(0, tables=TABLE), strict=True):
        index = batch.index.numpy()
        assert [view.shape[-1] for view in batch.views] == [16, 16, 14, 11, 9, 7]
        assert all(torch.equal(a, b) for a, b in zip(batch.views, alone.views, strict=False))
        for number, spec in enumerate(local_views(PLAIN.size), start=2):
            own = replace(PLAIN, crop="random_resized_crop", size=spec.size, scale=list(spec.scale))
            assert torch.equal(batch.views[number], expected_view(index, own, 0, number, None)[kind])


def test_rows_of_tables():
    tables = Tables({"boxes": np.arange(12).reshape(3, 4), "names": np.array(["a", "b", "c"])})
    rows = tables.rows(np.array([2, 0, 2]))
    assert rows["boxes"].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3], [8, 9, 10, 11]]
    assert rows["names"].tolist() == ["c", "a", "c"]
    assert Tables.of(None) == {}
