"""Views that show a neighbour of their sample: which, how, how often it is decoded, and that batches are the same however they are made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from located_images import BATCH, COUNT, KINDS, MEAN, STD, assert_same, expected_view, random_boxes

from evaluation.views import ViewSettings, ViewSpec
from evaluation.views.loaded import DECODED_AT_ONCE
from evaluation.views.shown import draw_neighbours
from evaluation.views.tables import BOXES, NEIGHBOURS, Tables
from zoo.data.base import FileImages
from zoo.randomness import generator

OWN = (ViewSpec("query"), ViewSpec("key"))
SPECS = (*OWN, ViewSpec("neighbour_query", source="neighbour"), ViewSpec("neighbour_key", source="neighbour"))
PLAIN = ViewSettings(size=16, jitter=0.0, grayscale=0.0, blur=0.0)
K = 3


def random_tables(seed):
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng)
    others = np.stack([rng.permutation(np.delete(np.arange(COUNT), image))[:K] for image in range(COUNT)])
    return {NEIGHBOURS: others, BOXES: boxes}


TABLES, OTHER = random_tables(0), random_tables(1)


@pytest.fixture
def make_source(make_located_source):
    return lambda kind="in memory", settings=PLAIN, specs=SPECS, **options: make_located_source(kind, settings, specs, **options)


def seen_images(view):
    """Which image each row of a view shows, by its blue."""
    blue = (view[:, 2] * STD[2] + MEAN[2]) * 255
    return (blue.mean(dim=(1, 2)) / 9).round().long().numpy()


def drawn_by_hand(index, epoch):
    return np.array([TABLES[NEIGHBOURS][i][int(generator(1, "neighbour", i, epoch).random() * K)] for i in index], dtype=np.int64)


@pytest.mark.parametrize("kind", KINDS)
def test_a_neighbour_is_drawn_at_the_anchors_address_and_shown_by_both_its_views(make_source, kind):
    source = make_source(kind)
    assert source.shows_neighbours
    shown = []
    for epoch in (0, 5):
        for batch in source.batches(epoch, tables=TABLES):
            index = batch.index.numpy()
            expected = drawn_by_hand(index, epoch)
            assert [seen_images(view).tolist() for view in batch.views] == [index.tolist()] * 2 + [expected.tolist()] * 2
            shown.append(expected)
    assert not np.array_equal(shown[0], shown[3])  # the same anchors stand elsewhere in another epoch, with other neighbours


def test_all_neighbours_are_equally_likely_and_none_else_is_shown():
    tables = Tables({NEIGHBOURS: TABLES[NEIGHBOURS]})
    index = np.arange(COUNT)
    counts = np.zeros((COUNT, COUNT))
    epochs = 600
    for epoch in range(epochs):
        counts[index, draw_neighbours(tables, index, seed=0, epoch=epoch)] += 1
    mine = np.zeros_like(counts, dtype=bool)
    mine[index[:, None], TABLES[NEIGHBOURS]] = True
    assert (counts[~mine] == 0).all()
    # Five standard deviations of a binomial law.
    assert np.abs(counts[mine] - epochs / K).max() < 5 * np.sqrt(epochs / K * (1 - 1 / K))
    # It depends on nothing but the address.
    assert np.array_equal(draw_neighbours(tables, index[::-2], seed=0, epoch=3), draw_neighbours(tables, index, seed=0, epoch=3)[::-2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_neighbours_crop_follows_its_own_box_and_all_else_is_the_anchors_draw(make_source, kind):
    settings = ViewSettings(size=16, crop="contrastive_crop", scale=[0.03, 0.3], blur=0.3, solarize=0.2)
    for batch in make_source(kind, settings).batches(2, tables=TABLES):
        index = batch.index.numpy()
        neighbours = drawn_by_hand(index, 2)
        for number, view in enumerate(batch.views):
            images = index if number < 2 else neighbours
            assert torch.equal(view, expected_view(index, images, settings, 2, number, TABLES[BOXES][images])[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_views_of_neighbours_leave_the_others_as_they_were(make_source, kind):
    for one, other in zip(make_source(kind).batches(0, tables=TABLES), make_source(kind, specs=OWN).batches(0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.views, other.views, strict=False))
    assert not make_source(kind, specs=OWN).shows_neighbours


@pytest.mark.parametrize("kind", KINDS)
def test_before_there_are_any_neighbours_an_image_is_its_own(make_source, kind):
    for batch in make_source(kind).batches(0):
        assert all(np.array_equal(seen_images(view), batch.index.numpy()) for view in batch.views)


@pytest.mark.parametrize("kind", ["files", "files, cpu"])
def test_workers_that_stay_see_new_neighbours_in_the_next_epoch(make_source, kind):
    """Equal bit for bit for 0, 1 and 2 workers, with one table and then another."""
    alone, sources = make_source(kind), [make_source(kind, workers=workers) for workers in (1, 2)]
    for epoch, tables in enumerate((TABLES, OTHER)):
        batches = list(alone.batches(epoch, tables=tables))
        for source in sources:
            assert_same(source.batches(epoch, tables=tables), batches)
    assert not torch.equal(next(alone.batches(1, tables=TABLES)).views[2], batches[0].views[2])


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_entered_at_a_step_and_a_share_of_the_batch(make_source, kind):
    source = make_source(kind)
    whole = list(source.batches(1, tables=TABLES))
    assert_same(source.batches(1, first_step=2, tables=TABLES), whole[2:])
    halves = [list(make_source(kind, rank=rank, world_size=2).batches(1, tables=TABLES)) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        for number, view in enumerate(batch.views):
            torch.testing.assert_close(torch.cat([half[step].views[number] for half in halves]), view, atol=1e-5, rtol=0)


def test_each_distinct_image_of_a_batch_is_decoded_once(make_source, monkeypatch):
    """Anchors that are neighbours of others too, and a batch of more images than are decoded at a time."""
    assert DECODED_AT_ONCE > BATCH
    monkeypatch.setattr("evaluation.views.loaded.DECODED_AT_ONCE", 5)
    reads = []
    decode = FileImages.decode
    monkeypatch.setattr(FileImages, "decode", lambda images, index: (reads.append(index), decode(images, index))[1])
    expected = list(make_source("in memory").batches(0, tables=TABLES))
    for batch, held in zip(make_source("files").batches(0, tables=TABLES), expected, strict=True):
        index = batch.index.numpy()
        distinct = set(index) | set(drawn_by_hand(index, 0))
        assert sorted(reads) == sorted(distinct)
        assert len(distinct) < 2 * BATCH
        reads.clear()
        for one, other in zip(batch.views, held.views, strict=True):
            assert (one - other).abs().max() <= 1.5 / 255 / min(STD)
