"""Views that follow a survey's boxes, and views with settings of their own, in both ways of making crops and on both backends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from located_images import COUNT, KINDS, MEAN, SIDE, STD, assert_same, expected_view, random_boxes

from evaluation.views import ViewSettings, ViewSpec
from evaluation.views.settings import local_views
from evaluation.views.tables import BOXES, Tables

SPECS = (ViewSpec("query"), ViewSpec("key"))
# Small crops, which a box can hold; no colours, so that a pixel tells where it came from.
PLAIN = ViewSettings(size=16, crop="contrastive_crop", scale=[0.03, 0.1], jitter=0.0, grayscale=0.0, blur=0.0)
TABLE, OTHER = ({BOXES: random_boxes(np.random.default_rng(seed))} for seed in (0, 1))


@pytest.fixture
def make_source(make_located_source):
    return lambda kind="in memory", settings=PLAIN, specs=SPECS, **options: make_located_source(kind, settings, specs, **options)


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


@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_has_its_own_row_of_the_table(make_source, kind):
    source = make_source(kind)
    assert source.follows_boxes
    for epoch in (0, 3):
        for batch in source.batches(epoch, tables=TABLE):
            index = batch.index.numpy()
            for number, view in enumerate(batch.views):
                assert torch.equal(view, expected_view(index, index, PLAIN, epoch, number, TABLE[BOXES][index])[kind])


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
            assert torch.equal(view, expected_view(index, index, own[name], 0, number, TABLE[BOXES][index])[kind])
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
            assert torch.equal(batch.views[number], expected_view(index, index, own, 0, number, None)[kind])


def test_rows_of_tables():
    tables = Tables({"boxes": np.arange(12).reshape(3, 4), "names": np.array(["a", "b", "c"])})
    rows = tables.rows(np.array([2, 0, 2]))
    assert rows["boxes"].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3], [8, 9, 10, 11]]
    assert rows["names"].tolist() == ["c", "a", "c"]
    assert Tables.of(None) == {}
