"""Whatever stands in a file that somebody else wrote, the answer is data or one sentence that names the file."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_files import message_of, noise, write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.data import open_data
from zoo.data.boxes.annotations import IN_BOTH
from zoo.data.boxes.detection_data import open_detection_data
from zoo.data.outside import read_table, whole_number
from zoo.errors import UserError
from zoo.reading.outside import typed_json

# Entities that would fill the memory.
ENTITIES = b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 999 + b'"><!ENTITY c "' + b"&b;" * 999 + b'">]><a>' + b"&c;" * 999 + b"</a>"
DEEP = b"[" * 100_000 + b"]" * 100_000
# As a whole file.
BROKEN = {
    "null": b"null",
    "a number": b"7",
    "NaN": b'{"images": NaN, "kind": NaN}',
    "1e400": b'{"images": 1e400, "kind": 1e400}',
    "deep": DEEP,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "not UTF-8": b'{"kind": "\xff\xfe"}',
    "UTF-16": '{"kind": {}}'.encode("utf-16"),
    "5,000 digits": b'{"kind": ' + b"9" * 5000 + b"}",
    "empty": b"",
    "half": b'{"kind": {"a": ["cat"',
    "zero bytes": bytes(100),
}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TYPED = [None, 7, 1.5, True, "x", [], {}, ["x"], {"x": 1}, [None], [[["x"]]]]


def attempt(function, *arguments):
    """What a call gives and an empty text, or None and its UserError."""
    try:
        return function(*arguments), ""
    except UserError as error:
        return None, str(error)


def labelled(root):
    for split in ("train", "val"):
        for label, name in enumerate(("cat", "dog")):
            write_image(root / split / name / "0.png", 10 * label)
    return root


@pytest.mark.parametrize("what", BROKEN)
def test_a_hierarchy_that_is_none(tmp_path, what):
    path = labelled(tmp_path) / "hierarchy.json"
    path.write_bytes(BROKEN[what])
    message = message_of(open_data, f"folder:{tmp_path}")
    assert message.startswith(str(path))
    assert len(message) < 500


@pytest.mark.parametrize("value", TYPED, ids=repr)
def test_values_of_other_types_in_a_hierarchy(tmp_path, value):
    labelled(tmp_path)
    for content in (value, {"kind": value}, {"kind": {"a": value}}, {"kind": {"a": [value]}}):
        (tmp_path / "hierarchy.json").write_text(json.dumps(content))
        if content == {}:
            assert list(open_data(f"folder:{tmp_path}").role("train").levels) == ["class"]
        else:
            assert message_of(open_data, f"folder:{tmp_path}").startswith(str(tmp_path / "hierarchy.json"))


def coco(root, **changes):
    """A whole set of one image, with changes of its annotation file."""
    write_image(root / "0.png", noise(0, 16))
    content = {
        "images": [{"id": 1, "file_name": "0.png", "width": 16, "height": 16}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 8], "area": 64, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    for split in ("train", "test"):
        (root / f"{split}.json").write_text(json.dumps(content | (changes if split == "train" else {})))
    return f"coco:{root}"


@pytest.mark.parametrize("what", BROKEN)
def test_annotations_of_coco_that_are_none(tmp_path, what):
    spec = coco(tmp_path)
    (tmp_path / "train.json").write_bytes(BROKEN[what])
    assert message_of(open_detection_data, spec).startswith(str(tmp_path / "train.json"))


@pytest.mark.parametrize("value", [None, 1.5, True, [], {}, "x", -1, 0, 10**30, -(10**30), float("nan")], ids=repr)
@pytest.mark.parametrize(
    ("part", "field"),
    [
        *(("images", field) for field in ("id", "file_name", "width", "height")),
        *(("categories", field) for field in ("id", "name")),
        *(("annotations", field) for field in ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")),
    ],
)
def test_one_value_of_coco_that_is_another(tmp_path, part, field, value):
    spec = coco(tmp_path)
    content = json.loads((tmp_path / "train.json").read_text())
    content[part][0][field] = value
    (tmp_path / "train.json").write_text(json.dumps(content))
    data, error = attempt(open_detection_data, spec)
    if data is None:
        assert "\n" not in error
        assert str(tmp_path) in error
    else:
        for annotation in data.train.images[0]["annotations"]:
            assert np.isfinite(annotation["bbox"]).all()
        data.train.fingerprint()


def test_the_place_of_a_wrong_value_is_named(tmp_path):
    spec = coco(tmp_path)
    content = json.loads((tmp_path / "train.json").read_text())
    content["images"] = content["images"] * 3
    content["images"][2] = {**content["images"][2], "height": "tall"}
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert f"{tmp_path / 'train.json'}: at `$.images[2].height`: Expected" in message_of(open_detection_data, spec)


def test_masks_that_are_none_cost_themselves(tmp_path):
    for mask in ([[1, 2, 3]], [["a"] * 6], [None], "x", 7, {"counts": 3}, {"size": [1], "counts": "x"}, [[1e300] * 6]):
        spec = coco(tmp_path)
        content = json.loads((tmp_path / "train.json").read_text())
        content["annotations"][0]["segmentation"] = mask
        (tmp_path / "train.json").write_text(json.dumps(content))
        data = open_detection_data(spec)
        assert "segmentation" not in data.train.images[0]["annotations"][0]
        # The set's one image is in both splits.
        assert sum(count for kind, count in data.problems.counts.items() if kind != IN_BOTH) == 1


def voc(root, xml):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    good = "<annotation><size><width>16</width><height>16</height></size><object><name>thing</name><bndbox>" + "".join(
        f"<{corner}>{value}</{corner}>" for corner, value in (("xmin", 2), ("ymin", 2), ("xmax", 9), ("ymax", 9))
    ) + "</bndbox></object></annotation>"
    for name in ("a", "b", "c"):
        Image.fromarray(noise(1, 16)).save(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(good)
    (root / "Annotations" / "b.xml").write_bytes(xml if isinstance(xml, bytes) else good.replace(*xml).encode())
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (root / "ImageSets/Main/val.txt").write_text("c\n")
    return f"voc:{root}"


def test_a_size_of_nothing_is_measured(tmp_path):
    data = open_detection_data(voc(tmp_path, ("<width>16", "<width>0")))
    assert [(image["width"], image["height"]) for image in data.train.images] == [(16, 16), (16, 16)]
    assert [image["annotations"][0]["bbox"] for image in data.train.images] == [[1.0, 1.0, 9.0, 9.0]] * 2


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        (b"", "annotation files that cannot be read"),
        (b"\xff\xfe", "annotation files that cannot be read"),
        (b"<annotation>\xff</annotation>", "annotation files that cannot be read"),
        (b"<a>" * 100_000 + b"</a>" * 100_000, "annotation files that cannot be read"),
        (ENTITIES, "annotation files that cannot be read"),
        (("<width>16", "<width>" + "9" * 5000), "annotation files that cannot be read"),
        (("<width>16", "<width>wide"), "annotation files that cannot be read"),
        (("<xmin>2", "<xmin>nan"), "objects without a box of four numbers"),
        (("<xmin>2", "<xmin>1e400"), "objects without a box of four numbers"),
        (("<name>thing", "<difficult>maybe</difficult><name>thing"), "flags that are neither 0 nor 1"),
    ],
)
def test_annotations_of_voc_that_are_none_cost_themselves(tmp_path, xml, problem):
    data = open_detection_data(voc(tmp_path, xml))
    assert any(problem in kind for kind in data.problems.counts), data.problems.counts
    assert any("b.xml" in case for cases in data.problems.cases.values() for case in cases)


def test_lists_that_are_not_utf_8(tmp_path):
    spec = voc(tmp_path, ("", ""))
    (tmp_path / "ImageSets/Main/train.txt").write_bytes(b"a\n\xe9\n")
    data = open_detection_data(spec)
    # By the last resort, Latin-1, it names an image that is not there.
    assert [Path(image["file_name"]).name for image in data.train.images] == ["a.jpg"]
    assert any("\xe9" in case for cases in data.problems.cases.values() for case in cases)


@pytest.mark.parametrize("line", ["x.JPEG " + "9" * 5000, "x.JPEG ²", "x.JPEG -1", "x.JPEG 1 2", "\xff"])
def test_lists_of_imagenet(tmp_path, line):
    for number in range(1000):
        (tmp_path / "train" / f"n{number:08d}").mkdir(parents=True)
    write_image(tmp_path / "val" / "x.png", 1)
    (tmp_path / "val.txt").write_bytes(line.encode("latin-1"))
    message = message_of(open_data(f"imagenet:{tmp_path}").split, "val")
    assert "val.txt" in message
    assert len(message) < 400


def test_a_label_of_places_beyond_any_number(tmp_path):
    (tmp_path / "data/vision/torralba/deeplearning/images256").mkdir(parents=True)
    (tmp_path / "trainvalsplit_places205").mkdir()
    (tmp_path / "trainvalsplit_places205" / "train_places205.csv").write_text("a/x.jpg " + "9" * 5000)
    message = message_of(open_data(f"places205:{tmp_path}").role, "train")
    assert message.startswith("line 1 of ")
    assert len(message) < 400


def test_whole_numbers():
    assert [whole_number(text) for text in ("0", "007", "", "-1", "+1", "1.0", "²", "٣", "1" * 18, "1" * 19)] == [
        0,
        7,
        *[None] * 6,
        int("1" * 18),
        None,
    ]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_one_sentence(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    def read():
        columns, rows = read_table(tmp_path / "t.csv")
        return columns, list(rows)

    found, error = attempt(read)
    if found is None:
        assert str(tmp_path / "t.csv") in error
    else:
        assert all(len(cells) == len(found[0]) for _, cells in found[1])


@settings(max_examples=200, deadline=None)
@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_is_of_the_type_or_one_sentence(value):
    kind = dict[str, list[int]]
    found, error = attempt(typed_json, json.dumps(value).encode(), kind, "FILE")
    assert error.startswith("FILE") if found is None else found == value
