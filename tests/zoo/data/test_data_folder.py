"""Image folders: order and labels as torchvision's, roles, what is held in memory, fingerprints."""

import os

import numpy as np
import pytest
from data_files import message_of, noise, write_image
from torchvision.datasets import ImageFolder

from zoo.data import ArrayImages, FileImages, open_data
from zoo.data import memory as memory_module


def labelled(root, side=8, seed=0):
    """Two classes, three training and two test images of each."""
    for split, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            for index in range(count):
                write_image(root / split / name / f"{index}.png", seed + 100 * (split == "val") + 10 * label + index, side)
    return root


def test_order_and_labels_are_those_of_torchvision(tmp_path):
    # Names that sort differently as text, as numbers and with folders in between; upper case, nesting, foreign files, a link.
    names = ["b/10.png", "b/9.png", "b/a/2.PNG", "b/a-1/1.png", "b/a.png", "B/z.jpeg", "é/x.bmp", "a b/1.webp", "10/x.tif", "9/x.ppm"]
    for seed, name in enumerate(names):
        write_image(tmp_path / "train" / name, seed, side=100)
    (tmp_path / "train" / "b" / "notes.txt").write_text("no image")
    elsewhere = tmp_path / "elsewhere"
    write_image(elsewhere / "linked.png", 50, side=100)
    (tmp_path / "train" / "c").symlink_to(elsewhere, target_is_directory=True)
    images = open_data(f"folder:{tmp_path}").role("train")
    expected = ImageFolder(tmp_path / "train")
    assert images.classes == tuple(expected.classes)
    assert [images.where(index) for index in range(len(images))] == [path for path, _ in expected.samples]
    np.testing.assert_array_equal(images.labels, expected.targets)
    for index, (image, _) in enumerate(expected):
        np.testing.assert_array_equal(np.asarray(images.read(index)), np.asarray(image))


def test_hidden_files_and_loose_images_are_not_part_of_the_set(tmp_path):
    labelled(tmp_path)
    write_image(tmp_path / "train" / "cat" / ".thumb.png", 77)
    write_image(tmp_path / "train" / ".cache" / "x.png", 78)
    write_image(tmp_path / "train" / "overview.png", 79)
    train = open_data(f"folder:{tmp_path}").role("train")
    assert train.classes == ("cat", "dog")
    assert len(train) == 6


def test_a_link_that_leads_back_up_is_not_followed(tmp_path):
    write_image(tmp_path / "a" / "1.png", 1)
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_data(f"folder:{tmp_path}").role("pretrain")) == 1


def test_roles_of_a_labelled_set(tmp_path):
    data = open_data(f"folder:{labelled(tmp_path)}")
    assert data.roles == {"pretrain": "train", "train": "train", "test": "val"}
    train, test = data.role("train"), data.role("test")
    assert isinstance(train, ArrayImages)
    assert data.image_size == 8
    np.testing.assert_array_equal(train.labels, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(test.pixels[3], noise(100 + 10 + 1))
    assert test.where(3) == str(tmp_path / "val" / "dog" / "1.png")


def test_test_folder_is_used_where_val_is_absent_or_without_labels(tmp_path):
    labelled(tmp_path)
    os.rename(tmp_path / "val", tmp_path / "test")
    assert open_data(f"folder:{tmp_path}").roles["test"] == "test"
    write_image(tmp_path / "val" / "withheld.png", 5)
    assert open_data(f"folder:{tmp_path}").roles["test"] == "test"
    labelled(tmp_path)
    assert open_data(f"folder:{tmp_path}").roles["test"] == "val"


def test_images_without_splits_can_only_be_pretrained_on(tmp_path):
    for index, name in enumerate(["x/b.png", "x/y/a.png", "c.png"]):
        write_image(tmp_path / name, index)
    data = open_data(f"folder:{tmp_path}")
    images = data.role("pretrain")
    assert data.roles == {"pretrain": "all"}
    assert images.labels is None
    assert [images.where(index) for index in range(3)] == [str(tmp_path / name) for name in ("c.png", "x/b.png", "x/y/a.png")]
    np.testing.assert_array_equal(images.pixels, [noise(2), noise(0), noise(1)])
    assert "no labelled test images" in message_of(data.role, "test")


def test_a_flat_train_folder_has_no_labels(tmp_path):
    write_image(tmp_path / "train" / "1.png", 1)
    data = open_data(f"folder:{tmp_path}")
    assert data.roles == {"pretrain": "train"}
    assert "no labelled train images" in message_of(data.role, "train")


def test_what_is_held_in_memory(tmp_path, monkeypatch):
    assert isinstance(open_data(f"folder:{labelled(tmp_path / 'small', side=96)}").role("train"), ArrayImages)
    large = open_data(f"folder:{labelled(tmp_path / 'large', side=97)}")
    assert isinstance(large.role("train"), FileImages)
    assert large.image_size is None
    write_image(tmp_path / "oblong" / "1.png", noise(1)[:6])
    assert isinstance(open_data(f"folder:{tmp_path / 'oblong'}").role("pretrain"), FileImages)
    monkeypatch.setattr(memory_module, "MEMORY_LIMIT", 6 * 96 * 96 * 3 - 1)
    data = open_data(f"folder:{tmp_path / 'small'}")
    assert isinstance(data.role("train"), FileImages)
    assert isinstance(data.role("test"), ArrayImages)
    assert data.image_size is None


def test_one_image_of_another_size_among_many_keeps_the_split_on_disk(tmp_path):
    for index in range(200):
        write_image(tmp_path / f"{index:03d}.png", index, side=9 if index == 102 else 8)
    images = open_data(f"folder:{tmp_path}").role("pretrain")
    # Image 102 is not among the headers that are read first, so this is found while decoding.
    assert 102 not in np.linspace(0, 199, memory_module._HEADERS_READ).astype(int)
    assert isinstance(images, FileImages)
    assert images.read(102).size == (9, 9)


@pytest.mark.parametrize("side", [8, 100])
def test_the_same_images_in_memory_and_on_disk_have_one_fingerprint(tmp_path, side):
    root = labelled(tmp_path, side=side)
    images = open_data(f"folder:{root}").role("train")
    pixels = np.stack([np.asarray(images.read(index)) for index in range(len(images))])
    assert ArrayImages("folder", "train", pixels, images.levels).fingerprint() == images.fingerprint()


def test_fingerprint_changes_with_a_pixel_a_label_a_class_name_and_the_order(tmp_path):
    images = open_data(f"folder:{labelled(tmp_path)}").role("train")
    original = images.fingerprint()
    assert original == open_data(f"folder:{tmp_path}").role("train").fingerprint()
    swapped = images.subset(np.array([1, 0, 2, 3, 4, 5]))
    pixel = images.subset(np.arange(6))
    pixel.pixels[5, 7, 7, 2] ^= 1
    label = images.subset(np.arange(6))
    label.levels["class"].labels[5] = 0
    os.rename(tmp_path / "train" / "cat", tmp_path / "train" / "cow")
    os.rename(tmp_path / "val" / "cat", tmp_path / "val" / "cow")
    renamed = open_data(f"folder:{tmp_path}").role("train")
    prints = {original, swapped.fingerprint(), pixel.fingerprint(), label.fingerprint(), renamed.fingerprint()}
    assert len(prints) == 5


def test_subset_keeps_labels_names_and_original_positions(tmp_path):
    images = open_data(f"folder:{labelled(tmp_path)}").role("train")
    part = images.subset(np.array([4, 1])).subset(np.array([1, 0]))
    assert [part.where(0), part.where(1)] == [images.where(1), images.where(4)]
    np.testing.assert_array_equal(part.labels, [0, 1])
    digits = open_data("digits").role("test").subset(np.array([7, 3]))
    assert digits.where(1) == "digits test #3"


def test_bad_folders(tmp_path):
    root = labelled(tmp_path)
    (root / "train" / "empty").mkdir()
    assert str(root / "train" / "empty") in message_of(open_data, f"folder:{root}")
    (root / "train" / "empty").rmdir()
    for name in ("wolf", "yak"):
        write_image(root / "val" / name / "1.png", 1)
    message = message_of(open_data, f"folder:{root}")
    assert "'wolf', 'yak'" in message
    assert "training split lacks" in message


def test_empty_folders(tmp_path):
    assert f"{tmp_path} has no images" in message_of(open_data, f"folder:{tmp_path}")
    (tmp_path / "val").mkdir()
    assert "'val' but no 'train'" in message_of(open_data, f"folder:{tmp_path}")
    (tmp_path / "train").mkdir()
    assert f"{tmp_path / 'train'} has no images" in message_of(open_data, f"folder:{tmp_path}")
    write_image(tmp_path / "train" / "a" / "1.png")
    assert f"{tmp_path / 'val'} has no images" in message_of(open_data, f"folder:{tmp_path}")


def test_unknown_splits_are_listed(tmp_path):
    data = open_data(f"folder:{labelled(tmp_path)}")
    assert "has no split 'test'; it has: train, val" in message_of(data.split, "test")
