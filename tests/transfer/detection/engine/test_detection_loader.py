# ruff: noqa: NPY002 - augmentations draw from the global generators
"""Training batches: their law is detectron2's, and each depends on its place alone. Only one test needs detectron2."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch

from transfer.detection.engine.loader import KeyedBatches, KeyedImages, TrainLoader, global_randomness, step_seed
from transfer.presence import has_detectron2, install_line
from zoo.errors import UserError
from zoo.randomness import generator


def first(batches, count):
    return list(itertools.islice(iter(batches), count))


def indices(batches, count):
    return [index for batch in first(batches, count) for _, index in batch]


def test_every_pass_is_a_shuffle_of_the_whole_set():
    order = indices(KeyedBatches(10, 5, seed=3), 6)
    passes = [order[start : start + 10] for start in (0, 10, 20)]
    for epoch, found in enumerate(passes):
        assert found == generator(3, "detection train order", epoch=epoch).permutation(10).tolist()
    assert passes[0] != passes[1]
    assert indices(KeyedBatches(10, 5, seed=4), 2) != passes[0]


@pytest.mark.parametrize("grouped", [False, True])
def test_a_run_that_starts_later_goes_on_with_the_same_batches(grouped):
    wide = np.arange(11) % 3 == 0 if grouped else None
    whole = first(KeyedBatches(11, 4, wide=wide, seed=1), 40)
    for start in (1, 7, 29):
        assert first(KeyedBatches(11, 4, wide=wide, seed=1, start=start), 40 - start) == whole[start:]


def test_the_processes_share_the_stream():
    whole = [key for batch in first(KeyedBatches(7, 1, seed=2), 42) for key in batch]
    shares = [[key for batch in first(KeyedBatches(7, 1, seed=2, rank=rank, world=3), 14) for key in batch] for rank in range(3)]
    assert [key for row in zip(*shares, strict=True) for key in row] == whole


@pytest.mark.skipif(not has_detectron2(), reason=f"detectron2 is not installed: {install_line()}")
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 3)])
def test_images_are_grouped_as_detectron2_groups_them(rank, world):
    from detectron2.data.common import AspectRatioGroupedDataset

    wide = generator(0, "test").random(13) < 0.4
    stream = (int(i) for epoch in range(8) for i in generator(5, "detection train order", epoch=epoch).permutation(13))
    records = [{"index": index, "width": 2 if wide[index] else 1, "height": 1} for index in itertools.islice(stream, rank, None, world)]
    theirs = [[record["index"] for record in batch] for batch in AspectRatioGroupedDataset(records, 3)]
    batches = KeyedBatches(13, 3, wide=wide, seed=5, rank=rank, world=world)
    assert [[index for _, index in batch] for batch in first(batches, len(theirs))] == theirs
    assert len(theirs) > 8


def drawn(record):
    """What an augmentation draws, from both generators."""
    return record["name"], np.random.uniform(), random.random()


RECORDS = [{"name": str(number), "file_name": f"{number}.png"} for number in range(6)]


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentations_depend_on_the_position_alone(workers):
    images, batches = KeyedImages(RECORDS, drawn, seed=1), KeyedBatches(6, 2, seed=1)
    whole = first(TrainLoader(images, batches, workers), 8)
    again = first(TrainLoader(images, KeyedBatches(6, 2, seed=1, start=5), workers), 3)
    assert again == whole[5:]
    with global_randomness(1, "detection train augmentation", 7):
        expected = np.random.uniform(), random.random()
    # Position 7 is the second image of the fourth batch.
    assert whole[3][1][1:] == expected
    assert len({value for batch in whole for _, value, _ in batch}) == 16


def test_the_callers_random_numbers_are_left_alone():
    np.random.seed(9)
    random.seed(9)
    wanted = np.random.uniform(), random.random()
    np.random.seed(9)
    random.seed(9)
    KeyedImages(RECORDS, drawn, seed=1)[(0, 0)]
    assert (np.random.uniform(), random.random()) == wanted


def test_the_loader_leaves_torchs_generator_to_the_step():
    state = torch.get_rng_state()
    first(TrainLoader(KeyedImages(RECORDS, drawn, seed=1), KeyedBatches(6, 2), 0), 1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_made_ready_is_named(workers):
    def fail(record):
        if record["name"] == "3":
            raise OSError("image file is truncated\nmore")
        return record

    loader = TrainLoader(KeyedImages(RECORDS, fail, seed=0), KeyedBatches(6, 2, seed=0), workers)
    with pytest.raises(UserError, match=r"^3\.png cannot be trained on \(image file is truncated\); mend the image") as refusal:
        first(loader, 3)
    assert "\n" not in str(refusal.value)


def test_each_step_and_process_has_seeds_of_its_own():
    seeds = [step_seed(seed, step, rank) for seed in (0, 1) for step in range(5) for rank in range(3)]
    assert len(set(seeds)) == 30
    assert seeds[0] == step_seed(0, 0, 0)
