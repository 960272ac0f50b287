"""Perceptual hashes, and the search for images that are there twice."""

from __future__ import annotations

import io

import numpy as np
import pytest
from data_files import noise, shared_data
from PIL import Image

from zoo.data.inspection.duplicates import LEAST_CORRELATION, MOST_BITS, find_duplicates, near_pairs
from zoo.data.inspection.thumbnails import correlations, differing_bits, grey_of, perceptual_hashes, thumbnail


def smooth(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    """A picture of soft blobs, as a photograph has them."""
    return Image.fromarray(noise(seed, 6)).resize((width, height), Image.Resampling.BICUBIC)


def thumbnails_of(images: list[Image.Image]) -> np.ndarray:
    return np.stack([grey_of(np.asarray(thumbnail(image.convert("RGB")))) for image in images])


def digests_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16), dtype=np.uint8)


def test_a_thumbnail_weighs_pixels_by_triangles_that_overlap():
    pixels = noise(3, 90)
    centres = 10 * np.arange(9) + 5
    weights = np.maximum(0, 1 - np.abs(np.arange(90) + 0.5 - centres[:, None]) / 10)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.einsum("ia,jb,abc->ijc", weights, weights, pixels.astype(float))
    assert np.abs(np.asarray(thumbnail(Image.fromarray(pixels))) - expected).max() < 1.1  # rounded once in each direction


def test_a_large_image_is_sampled_with_little_loss():
    image = smooth(5, 900, 700)
    whole = np.asarray(image.resize((9, 9), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(np.asarray(thumbnail(image)).astype(int) - whole).max() <= 4


def test_grey_is_pillows():
    pixels = noise(4, 50)
    assert np.array_equal(grey_of(pixels), np.asarray(Image.fromarray(pixels).convert("L")))


def test_a_hash_compares_neighbours():
    small = np.random.default_rng(1).integers(0, 256, (5, 9, 9), dtype=np.uint8)
    for picture, value in zip(small, perceptual_hashes(small), strict=True):
        rows = [int(picture[r, c] > picture[r, c + 1]) for r in range(8) for c in range(8)]
        columns = [int(picture[r, c] > picture[r + 1, c]) for r in range(8) for c in range(8)]
        assert np.unpackbits(value.view(np.uint8)).tolist() == rows + columns


def test_differing_bits_and_correlations_are_those_of_plain_python():
    small = np.random.default_rng(2).integers(0, 256, (6, 9, 9), dtype=np.uint8)
    hashes = perceptual_hashes(small)
    one, other = np.array([0, 1, 2]), np.array([3, 4, 5])
    pairs = list(zip(one, other, strict=True))
    bits = [sum(f"{int(a) ^ int(b):b}".count("1") for a, b in zip(hashes[i], hashes[j], strict=True)) for i, j in pairs]
    assert differing_bits(hashes[one], hashes[other]).tolist() == bits
    expected = [np.corrcoef(small[i].ravel(), small[j].ravel())[0, 1] for i, j in pairs]
    assert correlations(small, one, other) == pytest.approx(expected, abs=1e-5)


def encoded(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, 50),
        lambda image: image.resize((image.width // 2, image.height // 2)),
        lambda image: encoded(image.resize((333, 250)), 80),
        lambda image: image.point(lambda value: min(255, value + 20)),
        lambda image: image.convert("L"),
    ],
    ids=["JPEG of quality 50", "half the size", "larger, as JPEG", "brighter", "grey"],
)
def test_a_changed_copy_is_found_and_nothing_else(change):
    images = [smooth(seed) for seed in range(40)]
    small = thumbnails_of([*images, change(images[7])])
    assert near_pairs(small).tolist() == [[7, 40]]


def test_the_search_finds_what_comparing_all_pairs_finds():
    generator = np.random.default_rng(3)
    images = [smooth(seed, 64, 64) for seed in range(300)]
    copies = [encoded(images[index], int(generator.integers(20, 90))) for index in range(0, 300, 3)]
    small = thumbnails_of([*images, *copies])
    first, second = np.triu_indices(len(small), 1)
    hashes = perceptual_hashes(small)
    alike = (differing_bits(hashes[first], hashes[second]) <= MOST_BITS) & (correlations(small, first, second) >= LEAST_CORRELATION)
    expected = set(zip(first[alike].tolist(), second[alike].tolist(), strict=True))
    assert len(expected) >= 100
    assert set(map(tuple, near_pairs(small).tolist())) == expected


def test_groups_are_numbered_by_their_first_images():
    digests = digests_of(6)
    digests[4] = digests[1]
    small = thumbnails_of([smooth(0), smooth(1), smooth(2), encoded(smooth(0), 60), smooth(1), smooth(5)])
    found = find_duplicates(digests, small)
    assert found.exact.tolist() == [-1, 0, -1, -1, 0, -1]
    assert found.near.tolist() == [0, 1, -1, 0, 1, -1]
    assert not found.uniform.any()


def test_images_of_one_colour_are_no_near_duplicates():
    small = thumbnails_of([Image.new("RGB", (64, 64), (value, value, value)) for value in (10, 11, 250, 250)])
    found = find_duplicates(digests_of(4), small)
    assert found.uniform.all()
    assert found.near.tolist() == [-1] * 4


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images(count):
    small = thumbnails_of([smooth(seed) for seed in range(count)]) if count else np.empty((0, 9, 9), np.uint8)
    found = find_duplicates(digests_of(count), small)
    assert found.exact.tolist() == found.near.tolist() == [-1] * count


def test_a_thousand_times_the_same_picture_is_one_group():
    found = find_duplicates(digests_of(1000), np.repeat(thumbnails_of([smooth(0)]), 1000, axis=0))
    assert found.near.tolist() == [0] * 1000


def test_real_photographs_are_told_apart_and_their_copies_found(tmp_path):
    import tarfile

    with tarfile.open(shared_data() / "imagenet-sample-1000-256.tar.gz") as archive:
        members = [member for member in archive if member.name.lower().endswith((".jpg", ".jpeg"))][:300]
        images = [Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB") for member in members]
    copies = [encoded(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS), 75) for image in images[::3]]
    pairs = near_pairs(thumbnails_of([*images, *copies])).tolist()
    assert pairs == [[3 * number, 300 + number] for number in range(100)]
