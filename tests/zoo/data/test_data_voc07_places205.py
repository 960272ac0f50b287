"""PASCAL VOC 2007 and Places205 in their archives' folder layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import message_of, write_image

from zoo.data import check_images, open_data
from zoo.data.sets.voc07 import CLASSES

# Which classes three images show: (sure, only difficult).
SHOWN = {"000005": ({"chair"}, {"person"}), "000007": ({"car"}, set()), "000009": ({"horse", "person", "car"}, set())}


def write_voc07(root: Path, splits: dict[str, list[str]]) -> Path:
    folder = root / "VOCdevkit" / "VOC2007"
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, names in splits.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for one in CLASSES:
            marks = [1 if one in SHOWN[name][0] else 0 if one in SHOWN[name][1] else -1 for name in names]
            # The official lists align their marks: one space before -1, two before 0 and 1.
            (lists / f"{one}_{split}.txt").write_text("".join(f"{n} {m:2d}\n" for n, m in zip(names, marks, strict=True)))
    for seed, name in enumerate(SHOWN):
        write_image(folder / "JPEGImages" / f"{name}.jpg", seed, side=20)
    return folder


def test_voc07_reads_several_labels_of_an_image(tmp_path: Path) -> None:
    folder = write_voc07(tmp_path, {"train": ["000005"], "val": ["000007"], "trainval": ["000005", "000007"], "test": ["000009"]})
    for root in (tmp_path, tmp_path / "VOCdevkit", folder):
        data = open_data(f"voc07:{root}")
        assert data.roles == {"pretrain": "trainval", "train": "trainval", "test": "test"}
        assert set(data.splits) == {"trainval", "train", "val", "test"}
        images = data.role("train")
        assert images.multilabel is not None
        assert images.multilabel.classes == tuple(sorted(CLASSES))
        assert len(CLASSES) == 20
        expected = np.full((2, 20), -1)
        expected[0, CLASSES.index("chair")], expected[0, CLASSES.index("person")], expected[1, CLASSES.index("car")] = 1, 0, 1
        np.testing.assert_array_equal(images.multilabel.values, expected)
        assert images.where(1) == str(folder / "JPEGImages" / "000007.jpg")
        assert images.read(0).size == (20, 20)
    test = data.role("test")
    assert [CLASSES[c] for c in np.flatnonzero(test.multilabel.values[0] == 1)] == ["car", "horse", "person"]
    assert "has no label level 'class'" in message_of(test.level, "class")


def test_voc07_labels_go_with_subsets_and_count_for_the_fingerprint(tmp_path: Path) -> None:
    folder = write_voc07(tmp_path, {"trainval": list(SHOWN)})
    images = open_data(f"voc07:{tmp_path}").role("train")
    part = images.subset(np.array([2, 0]))
    np.testing.assert_array_equal(part.multilabel.values, images.multilabel.values[[2, 0]])
    before = images.fingerprint()
    marks = folder / "ImageSets" / "Main" / "dog_trainval.txt"
    marks.write_text(marks.read_text().replace("000007 -1", "000007  1"))
    assert open_data(f"voc07:{tmp_path}").role("train").fingerprint() != before
    (folder / "JPEGImages" / "000005.jpg").write_bytes(b"no image")
    left = check_images(open_data(f"voc07:{tmp_path}").role("train"), "skip")
    np.testing.assert_array_equal(left.multilabel.values[:, CLASSES.index("dog")], [1, -1])


def test_voc07_mistakes(tmp_path: Path) -> None:
    assert "VOCtrainval_06-Nov-2007.tar" in message_of(open_data, f"voc07:{tmp_path}")
    folder = write_voc07(tmp_path, {"trainval": ["000005", "000007"]})
    data = open_data(f"voc07:{tmp_path}")
    assert "has no labelled test images" in message_of(data.role, "test")
    lists = folder / "ImageSets" / "Main"
    (lists / "cat_trainval.txt").write_text("000005 -1\n")
    assert "has no line for image '000007'" in message_of(data.split, "trainval")
    (lists / "cat_trainval.txt").write_text("000005 -1\n000007 2\n")
    assert "line 2 of" in message_of(data.split, "trainval")
    (lists / "cat_trainval.txt").write_text("000005 -1\n000007 -1\n000009 1\n")
    assert "has 3 images where the split has 2" in message_of(data.split, "trainval")
    (lists / "cat_trainval.txt").unlink()
    assert "cannot be read" in message_of(data.split, "trainval")
    (lists / "trainval.txt").unlink()
    assert "trainval.txt is missing" in message_of(open_data, f"voc07:{tmp_path}")


def write_places205(root: Path, lines: dict[str, list[str]]) -> Path:
    folder = root / "data" / "vision" / "torralba" / "deeplearning" / "images256"
    folder.mkdir(parents=True, exist_ok=True)
    lists = root / "trainvalsplit_places205"
    lists.mkdir(exist_ok=True)
    for split, content in lines.items():
        (lists / f"{split}_places205.csv").write_text("".join(f"{line}\n" for line in content))
        for seed, line in enumerate(content):
            write_image(folder / line.split()[0].lstrip("/"), seed, side=16)
    return folder


def test_places205_has_205_classes_whatever_the_lists_name(tmp_path: Path) -> None:
    lines = {
        "train": ["a/abbey/gsun_1.jpg 0", "y/yard/gsun_2.jpg 204", "c/cathedral/outdoor/gsun_3.jpg 41", "a/abbey/gsun_4.jpg 0"],
        "val": ["y/yard/gsun_9.jpg 204", "/b/bar/gsun_8.jpg 17"],
    }
    folder = write_places205(tmp_path, lines)
    data = open_data(f"places205:{tmp_path}")
    train, val = data.role("train"), data.role("test")
    assert (train.split, val.split) == ("train", "val")
    np.testing.assert_array_equal(train.labels, [0, 204, 41, 0])
    np.testing.assert_array_equal(val.labels, [204, 17])
    assert train.classes == val.classes
    assert len(train.classes) == 205
    assert [train.classes[c] for c in (0, 17, 41, 204)] == ["abbey", "class 17", "cathedral/outdoor", "yard"]
    assert val.where(1) == str(folder / "b" / "bar" / "gsun_8.jpg")
    assert val.read(1).size == (16, 16)


@pytest.mark.parametrize("line", ["a/abbey/1.jpg", "a/abbey/1.jpg 205", "a/abbey/1.jpg -1", "a/abbey/1.jpg,3"])
def test_places205_refuses_lines_that_are_none(line: str, tmp_path: Path) -> None:
    write_places205(tmp_path, {"train": ["a/abbey/0.jpg 0"]})
    data = open_data(f"places205:{tmp_path}")
    with open(tmp_path / "trainvalsplit_places205" / "train_places205.csv", "a") as file:
        file.write(f"{line}\n")
    assert "line 2 of" in message_of(data.role, "train")


def test_places205_says_what_is_missing(tmp_path: Path) -> None:
    assert "imagesPlaces205_resize.tar.gz" in message_of(open_data, f"places205:{tmp_path}")
    folder = tmp_path / "data" / "vision" / "torralba" / "deeplearning" / "images256"
    folder.mkdir(parents=True)
    assert "trainvalsplit_places205.tar.gz" in message_of(open_data, f"places205:{tmp_path}")
    write_places205(tmp_path, {"train": ["a/abbey/0.jpg 0"]})
    assert "has no labelled test images" in message_of(open_data(f"places205:{tmp_path}").role, "test")
    (tmp_path / "trainvalsplit_places205" / "train_places205.csv").write_text("\n")
    assert "is empty" in message_of(open_data(f"places205:{tmp_path}").role, "train")
