"""Layouts of people's own folders: names of splits, what is used, what is held out, what is said of the rest."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from data_files import message_of, noise, write_image
from PIL import Image, features

from zoo.data import open_data
from zoo.data.own.holdout import Share, part


def labelled(root, train="train", test="val", classes=("cat", "dog"), counts=(3, 2), side=8):
    for split, count in ((train, counts[0]), (test, counts[1])):
        for label, name in enumerate(classes):
            for index in range(count):
                write_image(root / split / name / f"{index}.png", 100 * (split == test) + 10 * label + index, side)
    return root


@pytest.mark.parametrize(
    ("train", "test", "role"),
    [
        ("train", "valid", "val"),
        ("train", "validation", "val"),
        ("Train", "Test", "test"),
        ("training", "testing", "test"),
        ("TRAIN", "dev", "val"),
    ],
)
@pytest.mark.parametrize("below", ["", "birds-v2"])
def test_other_names_of_splits_give_what_train_and_val_give(tmp_path, train, test, role, below):
    usual = open_data(f"folder:{labelled(tmp_path / 'usual')}")
    labelled(tmp_path / "other" / below, train, test)
    data = open_data(f"folder:{tmp_path / 'other'}")
    assert data.roles == {"pretrain": "train", "train": "train", "test": role}
    for name in ("train", "test"):
        assert data.role(name).fingerprint() == usual.role(name).fingerprint()
    assert any("is the train split" in decision for decision in data.decisions)


def test_val_goes_before_test_and_an_unused_split_blocks_nothing(tmp_path):
    root = labelled(tmp_path)
    write_image(root / "test" / "wolf" / "1.png", 5)
    (root / "test" / "empty").mkdir()
    data = open_data(f"folder:{root}")
    assert data.roles["test"] == "val"
    assert len(data.role("test")) == 4
    assert any("the test role goes to val" in decision for decision in data.decisions)
    assert "has the classes 'empty', 'wolf', which the training split lacks" in message_of(data.split, "test")


def test_two_folders_for_one_split_are_refused(tmp_path):
    labelled(tmp_path)
    write_image(tmp_path / "Valid" / "cat" / "1.png", 1)
    assert "two folders for 'val', Valid and val" in message_of(open_data, f"folder:{tmp_path}")


def test_a_class_that_is_called_train_is_no_split_one_level_down(tmp_path):
    for name in ("train", "bus", "car"):
        write_image(tmp_path / "vehicles" / name / "1.png", 1)
    assert open_data(f"folder:{tmp_path}").roles == {"pretrain": "all"}


def test_a_refusal_shows_what_was_found_beside_what_works(tmp_path):
    write_image(tmp_path / "val" / "cat" / "1.png", 1)
    message = message_of(open_data, f"folder:{tmp_path}")
    assert "found: val/ (cat/)" in message
    assert "what works: train/CLASS/* with val/CLASS/*" in message


def test_folders_of_classes_are_parted_by_class(tmp_path):
    for label, name in enumerate("abc"):
        for index in range(20):
            write_image(tmp_path / name / f"{index:02d}.png", 100 * label + index, side=32)
    spec = f"folder:{tmp_path},holdout=0.2"
    data = open_data(spec)
    assert data.roles == {"pretrain": "train", "train": "train", "test": "test"}
    train, test = data.role("train"), data.role("test")
    assert np.bincount(train.labels).tolist() == [16, 16, 16]
    assert np.bincount(test.labels).tolist() == [4, 4, 4]
    names = [{images.where(index) for index in range(len(images))} for images in (train, test)]
    assert len(names[0] | names[1]) == 60
    assert data.role("pretrain") is train
    assert open_data(spec).role("test").fingerprint() == test.fingerprint()
    assert open_data(f"{spec},seed=1").role("test").fingerprint() != test.fingerprint()
    assert "0.2 of each class is held out for testing, drawn by seed 0: 12 of 60 images" in data.decisions[-1]


def test_without_holdout_the_way_to_labels_is_told(tmp_path):
    for name in "ab":
        write_image(tmp_path / name / "1.png", 1)
    data = open_data(f"folder:{tmp_path}")
    assert "add ,holdout=0.2" in message_of(data.role, "test")


def test_near_duplicates_stay_on_one_side(tmp_path):
    for index in range(12):
        pixels = np.asarray(Image.fromarray(noise(index // 3, 8)).resize((96, 96), Image.Resampling.BICUBIC))
        write_image(tmp_path / "a" / f"{index:02d}.png", np.clip(pixels.astype(int) + index % 3, 0, 255).astype(np.uint8))
    for seed in range(4):
        data = open_data(f"folder:{tmp_path},holdout=0.25,seed={seed}")
        parts = [data.role("train"), data.role("test")]
        sides = [{int(os.path.basename(images.where(i))[:2]) // 3 for i in range(len(images))} for images in parts]
        assert not sides[0] & sides[1]
        assert len(data.role("test")) == 3
        assert "4 groups of near duplicates stay on one side each" in data.decisions[-1]


def test_parting_against_a_count_by_hand():
    labels = np.repeat([0, 1, 2], [10, 5, 1])
    groups = np.full(16, -1)
    groups[:4] = 0
    held, whole = part(labels, groups, Share(0.4, 0))
    assert [int(held[labels == label].sum()) for label in range(3)] == [4, 2, 0]
    assert whole == 1
    assert held[:4].all() or not held[:4].any()


def test_what_cannot_be_held_out(tmp_path):
    assert "has a split to test on, 'val'" in message_of(open_data, f"folder:{labelled(tmp_path / 'split')},holdout=0.2")
    write_image(tmp_path / "flat" / "1.png", 1)
    assert "has no class folders" in message_of(open_data, f"folder:{tmp_path / 'flat'},holdout=0.2")
    for value in ("0", "1", "x", "nan"):
        assert "takes a share between 0 and 1" in message_of(open_data, f"folder:{tmp_path / 'flat'},holdout={value}")
    write_image(tmp_path / "one" / "a" / "1.png", 1, side=32)
    assert "no class has two images" in message_of(open_data, f"folder:{tmp_path / 'one'},holdout=0.2")
    assert "has a seed but no holdout=" in message_of(open_data, f"folder:{tmp_path / 'flat'},seed=3")


def test_every_image_is_used_or_named(tmp_path):
    pytest.importorskip("pillow_heif", reason="the extra 'heif' is not installed")
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    import pillow_heif

    for index in range(20):
        write_image(tmp_path / f"{index:02d}.png", index, side=100)
    image = Image.fromarray(noise(50, 100))
    for index, ending in enumerate(("jfif", "gif", "avif", "heic") * 2):
        path = tmp_path / f"other{index}.{ending}"
        if ending == "heic":
            pillow_heif.from_pillow(image).save(path)
        else:
            image.save(path, format={"jfif": "JPEG"}.get(ending, ending.upper()))
    data = open_data(f"folder:{tmp_path}")
    images = data.role("pretrain")
    assert len(images) + len(data.unused) == 28
    assert len(images) == 28
    for index in range(28):
        assert images.read(index).size == (100, 100)


def test_what_is_not_read_is_named(tmp_path, monkeypatch):
    write_image(tmp_path / "1.png", 1)
    shutil.copy(tmp_path / "1.png", tmp_path / "2")
    shutil.copy(tmp_path / "1.png", tmp_path / "3.jpg_large")
    (tmp_path / "4.dng").write_bytes(b"II*\0")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07")
    monkeypatch.setattr("zoo.data.own.folder.read_endings", lambda: (".png",))
    shutil.copy(tmp_path / "1.png", tmp_path / "5.avif")
    unused = {os.path.basename(one.path): one.reason for one in open_data(f"folder:{tmp_path}").unused}
    assert set(unused) == {"2", "3.jpg_large", "4.dng", "5.avif"}
    assert unused["2"] == "it holds a PNG image, but it has no ending; rename it"
    assert unused["3.jpg_large"] == "it holds a PNG image, but its ending is .jpg_large; rename it"
    assert "images that end in .dng are not read" in unused["4.dng"]


def test_images_beside_class_folders_are_named(tmp_path):
    write_image(labelled(tmp_path) / "train" / "overview.png", 9)
    (one,) = open_data(f"folder:{tmp_path}").unused
    assert (one.path, one.reason) == (str(tmp_path / "train" / "overview.png"), "it lies beside class folders, in none of them")


def test_names_are_compared_in_one_form_of_unicode(tmp_path):
    names = ("café", "zebra")
    other = tuple(unicodedata.normalize("NFD", name) for name in names)
    assert other != names
    plain = open_data(f"folder:{labelled(tmp_path / 'plain', classes=names)}")
    root = labelled(tmp_path / "mixed", classes=names)
    shutil.move(root / "val" / names[0], root / "val" / other[0])
    mixed = open_data(f"folder:{root}")
    assert mixed.role("test").classes == names
    for role in ("train", "test"):
        assert mixed.role(role).fingerprint() == plain.role(role).fingerprint()
    os.mkdir(root / "train" / other[0])
    assert "twice, in two ways of writing the same letters" in message_of(open_data, f"folder:{root}")


def test_photographs_are_turned_in_own_folders_and_not_in_research_sets(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = noise(1, 100)[:60]
    for split in ("train", "val"):
        folder = tmp_path / split / "n01440764"
        folder.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "1.png", exif=exif)
        Image.fromarray(noise(2, 100)).save(folder / "2.png")
    upright = np.rot90(pixels, -1)
    own, ignored = open_data(f"folder:{tmp_path}").role("train"), open_data(f"folder:{tmp_path},exif=ignore").role("train")
    np.testing.assert_array_equal(np.asarray(own.read(0)), upright)
    np.testing.assert_array_equal(np.asarray(ignored.read(0)), pixels)
    assert own.fingerprint() != ignored.fingerprint()
    straight = [images.subset(np.array([1])).fingerprint() for images in (own, ignored)]
    assert straight[0] == straight[1]
    np.testing.assert_array_equal(np.asarray(open_data(f"imagenet:{tmp_path}").role("train").read(0)), pixels)
    np.testing.assert_array_equal(np.asarray(open_data(f"imagenet:{tmp_path},exif=apply").role("train").read(0)), upright)


def test_a_folder_with_a_comma_and_a_mistyped_option(tmp_path):
    write_image(tmp_path / "cats, dogs" / "1.png", 1)
    assert len(open_data(f"folder:{tmp_path}/cats, dogs").role("pretrain")) == 1
    message = message_of(open_data, f"folder:{tmp_path}/cats, dogs,exfi=ignore")
    assert "is missing; data 'folder' has no option 'exfi', did you mean 'exif'" in message
