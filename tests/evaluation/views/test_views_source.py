"""The view source: the same batches for any number of workers, from any step, and over any number of ranks."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from located_images import MEAN, STD, assert_same
from PIL import Image
from torchvision.transforms.v2 import functional

from evaluation.views import ViewSettings, ViewSource, ViewSpec, epoch_order
from evaluation.views.parameters import draw_crops, draw_photometric
from evaluation.views.samplers import make_sampler
from evaluation.views.threads import few_threads
from zoo.data.base import ArrayImages, FileEntry, FileImages
from zoo.errors import UserError
from zoo.randomness import generator

SPECS = (ViewSpec("query"), ViewSpec("key"), ViewSpec("small", size=12))
SETTINGS = ViewSettings(size=16, blur=0.3, channel_permutation=0.2, solarize=0.1, vertical_flip=0.5, invert=0.2)
PLAIN = ViewSettings(size=16, jitter=0.0, grayscale=0.0, blur=0.0)
COUNT, BATCH = 43, 8


def random_pixels(count=COUNT, height=20, width=24):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def write(folder, arrays):
    entries = []
    for number, pixels in enumerate(arrays):
        path = folder / f"{number:03d}.png"
        Image.fromarray(pixels).save(path)
        entries.append(FileEntry(str(path)))
    return FileImages("test", "train", entries, {})


@pytest.fixture(scope="module")
def in_memory():
    return ArrayImages("test", "train", random_pixels(), {})


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Files of many sizes."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 40, (COUNT, 2))
    return write(tmp_path_factory.mktemp("loaded"), [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes])


def make_source(images, settings=SETTINGS, specs=SPECS, **options):
    return ViewSource(images, specs, settings, **{"mean": MEAN, "std": STD, "seed": 1, "batch": BATCH, **options})


def test_epoch_order_is_a_keyed_permutation():
    order = epoch_order(COUNT, BATCH, seed=3, epoch=2)
    assert order.shape == (5, 8)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order.ravel(), generator(3, "shuffle", epoch=2).permutation(COUNT)[:40])
    assert sorted(epoch_order(40, 8, seed=3, epoch=2).ravel()) == list(range(40))
    assert (order != epoch_order(COUNT, BATCH, seed=3, epoch=1)).any()
    assert (order != epoch_order(COUNT, BATCH, seed=4, epoch=2)).any()


def test_too_few_images_for_a_batch(in_memory):
    with pytest.raises(UserError, match="a batch of 64 cannot be filled from 43 training images; set batch to 43 or less"):
        make_source(in_memory, batch=64)


def test_batches_of_images_in_memory(in_memory):
    source = make_source(in_memory)
    batches = list(source.batches(epoch=1))
    assert len(batches) == source.steps_per_epoch == 5
    for step, (batch, index) in enumerate(zip(batches, epoch_order(COUNT, BATCH, seed=1, epoch=1), strict=True)):
        assert batch.step == step
        assert batch.index.tolist() == index.tolist()
        assert [tuple(view.shape) for view in batch.views] == [(8, 3, 16, 16), (8, 3, 16, 16), (8, 3, 12, 12)]
        assert all(view.dtype == torch.float32 and view.is_contiguous() for view in batch.views)


def test_a_view_is_what_its_parameters_say(in_memory):
    """One sample of one view, by torchvision from the pixels on."""
    step, row, number, epoch = 2, 5, 1, 4
    batch = list(make_source(in_memory, PLAIN).batches(epoch))[step]
    index = int(batch.index[row])
    sampler = make_sampler(PLAIN)
    crops = draw_crops(sampler, PLAIN, np.array([[20, 24]]), np.array([index]), seed=1, epoch=epoch, view=number)
    image = torch.from_numpy(in_memory.pixels[index]).permute(2, 0, 1).float() / 255
    view = functional.resized_crop(image, *crops.boxes[0].tolist(), [16, 16], antialias=True)
    view = functional.normalize(functional.horizontal_flip(view) if crops.flip[0] else view, MEAN, STD)
    torch.testing.assert_close(batch.views[number][row], view, atol=1e-4, rtol=0)


def test_colours_are_applied(in_memory):
    settings = ViewSettings(size=16, jitter=0.0, grayscale=0.5, blur=0.0)
    for batch in make_source(in_memory, settings).batches(epoch=0):
        for number, view in enumerate(batch.views):
            gray = draw_photometric(settings, batch.index.numpy(), seed=1, epoch=0, view=number).grayscale
            raw = view * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
            spread = (raw.amax(dim=1) - raw.amin(dim=1)).amax(dim=(1, 2))
            assert ((spread < 1e-5).numpy() == gray).all()


def test_views_and_epochs_differ(in_memory):
    source = make_source(in_memory)
    one, other = next(source.batches(0)), next(source.batches(1))
    assert not torch.equal(one.views[0], one.views[1])
    assert not torch.equal(one.index, other.index)


@pytest.mark.parametrize("backend", ["device", "cpu"])
def test_any_number_of_workers(loaded, backend):
    settings = replace(SETTINGS, backend=backend)
    alone = make_source(loaded, settings)
    for workers in (1, 2):
        source = make_source(loaded, settings, workers=workers)
        for epoch in (0, 1):
            assert_same(source.batches(epoch), alone.batches(epoch))


@pytest.mark.parametrize("kind", ["in_memory", "loaded"])
def test_entering_an_epoch_at_a_step(kind, request):
    source = make_source(request.getfixturevalue(kind))
    assert_same(source.batches(2, first_step=3), islice(source.batches(2), 3, None))
    assert list(source.batches(2, first_step=source.steps_per_epoch)) == []


def test_leaving_an_epoch_early_with_workers(loaded):
    source = make_source(loaded, workers=2)
    first = next(source.batches(0))
    assert_same([first], islice(make_source(loaded).batches(0), 1))
    assert_same(source.batches(1, first_step=2), make_source(loaded).batches(1, first_step=2))


@pytest.mark.parametrize("kind", ["in_memory", "loaded"])
def test_ranks_share_the_batch(kind, request):
    images = request.getfixturevalue(kind)
    whole = list(make_source(images).batches(0))
    halves = [list(make_source(images, rank=rank, world_size=2).batches(0)) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        parts = [half[step] for half in halves]
        assert torch.equal(torch.cat([part.index for part in parts]), batch.index)
        for number, view in enumerate(batch.views):
            torch.testing.assert_close(torch.cat([part.views[number] for part in parts]), view, atol=1e-5, rtol=0)


def test_ranks_that_cannot_share_the_batch(in_memory):
    with pytest.raises(UserError, match="a batch of 8 cannot be shared equally by 3 processes; make it a multiple of 3"):
        make_source(in_memory, world_size=3)


def test_files_give_the_views_of_pixels_in_memory(tmp_path, in_memory):
    """Up to Pillow's rounding to whole levels, the two paths are one augmentation."""
    files = write(tmp_path, in_memory.pixels)
    for one, other in zip(make_source(in_memory, PLAIN).batches(0), make_source(files, PLAIN).batches(0), strict=True):
        assert torch.equal(one.index, other.index)
        for a, b in zip(one.views, other.views, strict=True):
            assert (a - b).abs().max() <= 1.5 / 255 / min(STD)


def test_the_cpu_backend_serves_images_in_memory(tmp_path, in_memory):
    settings = ViewSettings(size=16, blur=0.3, backend="cpu")
    files = write(tmp_path, in_memory.pixels)
    assert_same(make_source(in_memory, settings).batches(0), make_source(files, settings).batches(0))


def test_an_image_that_cannot_be_decoded(tmp_path):
    images = write(tmp_path, random_pixels(8))
    (tmp_path / "003.png").write_bytes(b"not an image")
    for workers in (0, 1):
        with pytest.raises(UserError, match=r"003\.png cannot be decoded") as caught:
            list(make_source(images, workers=workers).batches(0))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["in_memory", "loaded"])
def test_torchs_global_generator_is_left_alone(kind, request):
    source = make_source(request.getfixturevalue(kind))
    before = torch.get_rng_state()
    list(source.batches(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_torchs_threads_are_given_back(in_memory):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        for _ in make_source(in_memory).batches(0):
            assert torch.get_num_threads() == 4
        with few_threads(1000):
            assert torch.get_num_threads() == 2
        with few_threads(3 << 20):
            assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        with few_threads(9 << 20):
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_values_without_meaning_are_refused(in_memory):
    with pytest.raises(UserError, match=r"views\.flip"):
        make_source(in_memory, ViewSettings(flip=2.0))
    with pytest.raises(UserError, match="no crop sampler 'other'"):
        make_source(in_memory, specs=(ViewSpec("query", crop="other"),))
    with pytest.raises(ValueError, match="view 'other' has the unknown source 'nowhere'"):
        make_source(in_memory, specs=(ViewSpec("query"), ViewSpec("other", source="nowhere")))


@pytest.mark.cuda
@pytest.mark.parametrize("kind", ["in_memory", "loaded"])
def test_cuda_gives_the_views_of_the_cpu(kind, request):
    images, settings = request.getfixturevalue(kind), ViewSettings(size=16, blur=0.3)
    for one, other in zip(make_source(images, settings).batches(0), make_source(images, settings, device="cuda").batches(0), strict=True):
        assert torch.equal(one.index, other.index.cpu())
        for a, b in zip(one.views, other.views, strict=True):
            torch.testing.assert_close(a, b.cpu(), atol=1e-3, rtol=0)
