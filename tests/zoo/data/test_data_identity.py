"""The identity of images: what it covers, and that a difference is named."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from data_files import message_of, noise, write_image

from zoo.data import ArrayImages, FileImages, without_bad_images
from zoo.data.entries import FileEntry
from zoo.data.identity import Identity, difference, identify
from zoo.data.inspection.scan import scan_images
from zoo.data.scan import bad_images


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    for number in range(6):
        write_image(tmp_path / "set" / "deep" / f"{number}.bmp", number)  # so that all have the same number of bytes
    return tmp_path / "set"


def images_of(root) -> FileImages:
    return FileImages("folder", "all", [FileEntry(str(path)) for path in sorted(root.rglob("*.bmp"))], {})


def identity_of(root) -> Identity:
    images = images_of(root)
    return identify(images, scan_images(images), root)


def test_names_are_relative_to_the_data(root):
    identity = identity_of(root)
    assert identity.names == [f"deep/{number}.bmp" for number in range(6)]
    assert identity.sizes.tolist() == [(root / "deep" / "0.bmp").stat().st_size] * 6


def test_the_same_images_elsewhere_are_the_same(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    then = identity_of(root)
    assert identity_of(tmp_path / "copy").digest() == then.digest()
    assert difference(then, images_of(tmp_path / "copy"), tmp_path / "copy") is None


def test_one_image_for_another_of_the_same_size_is_named(root):
    then = identity_of(root)
    write_image(root / "deep" / "3.bmp", 88)
    assert difference(then, images_of(root), root) == "1 image has other content: 'deep/3.bmp'"
    write_image(root / "deep" / "4.bmp", 89)
    assert difference(then, images_of(root), root) == "2 images have other content: 'deep/3.bmp', 'deep/4.bmp'"


def test_an_image_outside_the_sample_is_named_too(root):
    for number in range(6, 300):
        write_image(root / "deep" / f"{number}.bmp", number)
    then = identity_of(root)
    write_image(root / "deep" / "151.bmp", 888)
    assert difference(then, images_of(root), root) == "1 image has other content: 'deep/151.bmp'"


def test_a_touched_file_is_the_same(root):
    then = identity_of(root)
    os.utime(root / "deep" / "2.bmp", ns=(3, 3))
    assert difference(then, images_of(root), root) is None


def test_a_file_of_other_length_is_named_whatever_its_time(root):
    then = identity_of(root)
    path = root / "deep" / "1.bmp"
    time = path.stat().st_mtime_ns
    write_image(path, 1, side=9)
    os.utime(path, ns=(time, time))
    assert difference(then, images_of(root), root) == "1 image has other content: 'deep/1.bmp'"


def test_names_that_come_and_go(root):
    then = identity_of(root)
    os.rename(root / "deep" / "2.bmp", root / "deep" / "x.bmp")
    write_image(root / "deep" / "y.bmp", 7)
    assert difference(then, images_of(root), root) == "1 is gone: 'deep/2.bmp'; 2 are new: 'deep/x.bmp', 'deep/y.bmp'"


def test_another_order_is_named(root):
    then = identity_of(root)
    turned = images_of(root).subset(np.array([1, 0, 2, 3, 4, 5]))
    assert difference(then, turned, root) == "they are in another order: image 0 was 'deep/0.bmp' and is 'deep/1.bmp'"


def test_a_decoder_that_gives_other_pixels_is_told_from_other_files(root):
    then = identity_of(root)
    other = Identity(then.names, then.sizes, then.times, then.contents, then.pixels ^ np.uint8(1))
    assert "decode to other pixels, though the files are the same" in difference(other, images_of(root), root)


def test_bad_images_are_no_part_of_it(root):
    before = identity_of(root)
    (root / "deep" / "torn.bmp").write_bytes(b"BM torn")
    images = images_of(root)
    scan = scan_images(images)
    good = without_bad_images(images, bad_images(scan))
    assert identify(good, scan, root).digest() == before.digest()


def test_images_in_memory(tmp_path):
    pixels = np.stack([noise(number) for number in range(200)])
    then = identify(ArrayImages("own", "train", pixels, {}), None, None)
    assert difference(then, ArrayImages("own", "train", pixels.copy(), {}), None) is None
    pixels[77, 1, 1, 1] ^= 1
    assert difference(then, ArrayImages("own", "train", pixels, {}), None) == "1 image has other content: 'own train #77'"


def test_saved_and_loaded(root, tmp_path):
    identity = identity_of(root)
    identity.save(tmp_path / "images.npz")
    loaded = Identity.load(tmp_path / "images.npz")
    assert loaded.digest() == identity.digest()
    assert loaded.names == identity.names
    assert np.array_equal(loaded.times, identity.times)
    (tmp_path / "images.npz").write_bytes(b"PK nonsense")
    assert "is damaged" in message_of(Identity.load, tmp_path / "images.npz")


@pytest.mark.parametrize("part", ["names", "sizes", "contents", "pixels"])
def test_the_digest_covers_every_part(root, part):
    identity = identity_of(root)
    values = {name: getattr(identity, name) for name in ("names", "sizes", "times", "contents", "pixels")}
    values[part] = [*identity.names[:-1], "other"] if part == "names" else getattr(identity, part) + 1
    assert Identity(**values).digest() != identity.digest()
