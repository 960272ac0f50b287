"""COCO's layout: what is read, and what is found broken. Needs no detectron2."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from detection_layouts import as_coco, pictures

from zoo.data.boxes.coco import write_coco
from zoo.data.boxes.detection_data import open_detection_data
from zoo.errors import UserError

NUTS = Path(__file__).parents[5] / "shared" / "data" / "fruits-nuts-coco.tar.gz"


def test_what_was_drawn_is_read(coco_shapes):
    data = open_detection_data(f"coco:{coco_shapes}", strict=True)
    drawn = list(pictures("train", 8))
    assert (data.train.name, data.test.name, data.metric) == ("instances_train", "instances_val", "COCO")
    for image, (_, objects) in zip(data.train.images, drawn, strict=True):
        assert [data.classes[a["category_id"]] for a in image["annotations"]] == [label for label, _, _ in objects]
        assert [tuple(a["bbox"]) for a in image["annotations"]] == [box for _, box, _ in objects]
        assert all(a["segmentation"] for a in image["annotations"])
    assert data.has_masks
    assert not data.has_bitmaps


def edited(root: Path, edit, name: str = "train") -> Path:
    path = root / "annotations" / f"instances_{name}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return root


def test_broken_annotations_are_counted_listed_and_left_out(tmp_path):
    root = as_coco(tmp_path / "set", train=4, test=1)

    def break_it(content):
        a = content["annotations"]
        a[0]["bbox"] = [5, 5, 0, 10]
        a[1]["bbox"] = [70, 5, 10, 10]
        a[2]["bbox"] = [10, 10, 100, 10]
        a[3]["category_id"] = 99
        a[4]["image_id"] = 999
        a[5]["segmentation"] = [[1, 1, 2, 2]]
        a[6]["segmentation"] = [[1, 1, 2, 2], [1, 1, 9, 1, 9, 9]]
        a[7] |= {"iscrowd": 1, "segmentation": {"counts": [0, 4096], "size": [64, 64]}}
        a[8]["bbox"] = [1, 2, 3]
        content["images"].append(content["images"][0])
        (root / "train" / "3.png").unlink()

    data = open_detection_data(f"coco:{edited(root, break_it)}")
    assert data.problems.counts == {
        "images listed twice": 1,
        "boxes of no area": 1,
        "boxes outside the image": 1,
        "boxes reaching beyond the image (cut at its edge)": 1,
        "objects of an unknown class": 1,
        "objects of an image that is not listed": 1,
        "polygons of fewer than three points": 2,
        "crowd regions (not trained on, ignored in the evaluation)": 1,
        "objects without a box of four numbers": 1,
        "missing images": 1,
    }
    assert f"boxes of no area\t{root}/train/0.png (annotation 1): (5, 5, 5, 15)" in data.problems.lines()
    first, second, third = (image["annotations"] for image in data.train.images)
    assert [a["bbox"] for a in first] == [[10, 10, 64, 20]]
    assert ["segmentation" in a for a in second] == [False, True, True]
    assert second[1]["segmentation"] == [[1, 1, 9, 1, 9, 9]]
    assert [a["iscrowd"] for a in second] == [0, 0, 1]
    assert len(third) == 3
    # The crowd's bitmap is no reason to train on bitmaps, and crowds are not counted as objects.
    assert not data.has_bitmaps
    assert sum(data.train.objects(data.classes).values()) == 1 + 2 + 3


def test_strict_accepts_crowds_and_refuses_what_is_broken(tmp_path):
    root = as_coco(tmp_path / "set", train=2, test=1)
    edited(root, lambda content: content["annotations"][0].update(iscrowd=1, segmentation={"counts": [0, 4096], "size": [64, 64]}))
    assert len(open_detection_data(f"coco:{root}", strict=True).train.images) == 2
    edited(root, lambda content: content["annotations"][1].update(bbox=[3, 3, 0, 0]))
    with pytest.raises(UserError, match=r"broken: 1 boxes of no area; the first is .*train/0\.png \(annotation 2\)"):
        open_detection_data(f"coco:{root}", strict=True)


def test_bitmaps_are_seen(tmp_path):
    root = as_coco(tmp_path / "set", train=2, test=1)
    edited(root, lambda content: content["annotations"][0].update(segmentation={"counts": [0, 4096], "size": [64, 64]}))
    assert open_detection_data(f"coco:{root}").has_bitmaps


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
        ("train.json", "test.json"),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
    ],
)
def test_the_usual_places_of_files(coco_shapes, tmp_path, train, test):
    root = tmp_path / "set"
    for ours, theirs, name in ((train, "train", "train"), (test, "val", "val")):
        target = root / ours
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(coco_shapes / "annotations" / f"instances_{name}.json", target)
        images = target.parent if "_annotations" in ours else root / target.stem.removeprefix("instances_")
        images.mkdir(exist_ok=True)
        for picture in (coco_shapes / theirs).iterdir():
            shutil.copy(picture, images)
    (root / "captions.json").write_text("{}")
    data = open_detection_data(f"coco:{root}", strict=True)
    assert (len(data.train.images), len(data.test.images)) == (8, 4)


def test_of_a_single_file_every_fourth_image_is_held_out(coco_shapes, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(coco_shapes / "train", root / "images")
    shutil.copy(coco_shapes / "annotations/instances_train.json", root / "all.json")
    data = open_detection_data(f"coco:{root}")
    assert [Path(image["file_name"]).stem for image in data.test.images] == ["3", "7"]
    assert [Path(image["file_name"]).stem for image in data.train.images] == ["0", "1", "2", "4", "5", "6"]
    assert "every 4th image, by file name, is for testing" in data.notes[0]


def test_a_class_that_no_test_image_shows_is_said(tmp_path):
    root = as_coco(tmp_path / "set", train=8, test=1)
    (note,) = open_detection_data(f"coco:{root}").notes
    assert note.startswith("no test image shows ")
    assert note.endswith(": AP is over the other classes")


def test_what_is_written_for_the_evaluator_says_the_same(coco_shapes, tmp_path):
    data = open_detection_data(f"coco:{coco_shapes}")
    write_coco(tmp_path / "test.json", data.test, data.classes)
    written = json.loads((tmp_path / "test.json").read_text())
    original = json.loads((coco_shapes / "annotations/instances_val.json").read_text())
    names = {category["id"]: category["name"] for category in written["categories"]}
    old_names = {category["id"]: category["name"] for category in original["categories"]}
    for mine, theirs in zip(written["annotations"], original["annotations"], strict=True):
        assert names[mine["category_id"]] == old_names[theirs["category_id"]]
        assert [mine[key] for key in ("bbox", "area", "iscrowd", "segmentation")] == [
            theirs[key] for key in ("bbox", "area", "iscrowd", "segmentation")
        ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("no json", "is not valid JSON"),
        ("[1]", "Expected `object`, got `array`; it must have the form of COCO's annotations"),
        ('{"images": [], "annotations": []}', "missing required field `categories`"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"at `\$.images\[0\]`: Object missing required field `file_name`"),
        ('{"images": [], "annotations": [], "categories": []}', "names no categories"),
    ],
)
def test_an_annotation_file_that_is_not_one(tmp_path, content, sentence):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(UserError, match=sentence) as refusal:
        open_detection_data(f"coco:{tmp_path}")
    assert "\n" not in str(refusal.value)


def test_folders_without_annotations_and_other_classes(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no COCO annotations: no \.json"):
        open_detection_data(f"coco:{tmp_path / 'empty'}")
    root = as_coco(tmp_path / "set", train=2, test=1)
    edited(root, lambda content: [category.update(name=f"other {category['name']}") for category in content["categories"]], "val")
    with pytest.raises(UserError, match=r"instances_val\.json has other classes than .*instances_train\.json"):
        open_detection_data(f"coco:{root}")


@pytest.mark.skipif(not NUTS.exists(), reason="the fruits-nuts archive is not here")
def test_fruits_and_nuts(tmp_path):
    with tarfile.open(NUTS) as archive:
        archive.extractall(tmp_path, filter="data")
    data = open_detection_data(f"coco:{tmp_path / 'fruits-nuts-coco'}", strict=True)
    assert data.classes == ["date", "fig", "hazelnut"]
    assert (len(data.train.images), len(data.test.images)) == (14, 4)
    assert sum(data.train.objects(data.classes).values()) + sum(data.test.objects(data.classes).values()) == 165
    assert data.has_masks
