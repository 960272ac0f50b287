"""VOC's layout: what is read, and what is found broken. Needs no detectron2."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from detection_layouts import as_voc, pictures, write_xml
from PIL import Image

from zoo.data.boxes.detection_data import open_detection_data
from zoo.data.boxes.voc import VOC_CLASSES
from zoo.errors import UserError

BCCD = Path(__file__).parents[5] / "shared" / "data" / "bccd-voc.tar.gz"


def test_what_was_drawn_is_read(voc_shapes):
    data = open_detection_data(f"voc:{voc_shapes}", strict=True)
    drawn = list(pictures("train", 8))
    assert data.classes == sorted({label for _, objects in drawn for label, _, _ in objects})
    assert (data.train.name, data.test.name, data.metric) == ("trainval", "test", "VOC2012")
    assert (len(data.train.images), len(data.test.images), data.train.skipped) == (8, 4, 0)
    for image, (_, objects) in zip(data.train.images, drawn, strict=True):
        assert [data.classes[a["category_id"]] for a in image["annotations"]] == [label for label, _, _ in objects]
        assert [tuple(a["bbox"]) for a in image["annotations"]] == [box for _, box, _ in objects]
    assert sum(data.train.objects(data.classes).values()) == 32
    assert data.problems.counts == {}
    assert not data.has_masks


@pytest.fixture
def broken(tmp_path):
    """Eight kinds of trouble, each in a picture of its own beside a good box."""
    root = as_voc(tmp_path / "set", train=9, test=2)
    xml, jpeg = root / "Annotations", root / "JPEGImages"
    good = ("circle", (5, 5, 20, 20))
    write_xml(xml / "trainval_000.xml", [good, ("circle", (30, 30, 30, 30))])
    write_xml(xml / "trainval_001.xml", [good, ("circle", (80, 5, 90, 9))])
    write_xml(xml / "trainval_002.xml", [good, ("circle", (50, 50, 70, 60))])
    write_xml(xml / "trainval_003.xml", [good, ("circle", ("", 5, 9, 9))])
    write_xml(xml / "test_000.xml", [good, ("unicorn", (5, 5, 9, 9))])
    write_xml(xml / "test_001.xml", [good])
    (jpeg / "trainval_004.jpg").unlink()
    (jpeg / "trainval_005.jpg").write_bytes(b"no image")
    Image.new("RGB", (64, 48)).save(jpeg / "trainval_006.jpg")
    (xml / "trainval_007.xml").unlink()
    (xml / "trainval_008.xml").write_text("<annotation><size>")
    with open(root / "ImageSets/Main/trainval.txt", "a") as file:
        file.write("trainval_000\n")
    return root


def test_broken_annotations_are_counted_listed_and_left_out(broken):
    data = open_detection_data(f"voc:{broken}")
    assert data.problems.counts == {
        "images listed twice": 1,
        "boxes of no area": 1,
        "boxes outside the image": 1,
        "boxes reaching beyond the image (cut at its edge)": 1,
        "objects without a box of four numbers": 1,
        "missing annotation files": 1,
        "annotation files that cannot be read": 1,
        "missing images": 1,
        "images that cannot be opened": 1,
        "images of another size than their annotation says": 1,
        "objects of an unknown class": 1,
    }
    lines = data.problems.lines()
    assert f"boxes of no area\t{broken}/Annotations/trainval_000.xml: (30, 30, 30, 30)" in lines
    assert f"missing images\t{broken}/JPEGImages/trainval_004.jpg" in lines
    assert any(line.endswith("test_000.jpg: 'unicorn' is in no training image") for line in lines)
    assert any(line.endswith("trainval_006.jpg: 64 x 48, not 64 x 64") for line in lines)
    assert (len(data.train.images), data.train.skipped) == (4, 5)
    boxes = [[a["bbox"] for a in image["annotations"]] for image in data.train.images]
    assert boxes == [[[4, 4, 20, 20]], [[4, 4, 20, 20]], [[4, 4, 20, 20], [49, 49, 64, 60]], [[4, 4, 20, 20]]]


def test_strict_refuses_them_in_one_sentence(broken):
    with pytest.raises(UserError, match=r"are broken: 1 images listed twice, 1 .*; the first is .*; mend them") as refusal:
        open_detection_data(f"voc:{broken}", strict=True)
    assert "\n" not in str(refusal.value)


def test_a_picture_on_its_side_has_the_size_that_it_is_seen_with(tmp_path):
    root = as_voc(tmp_path / "set", train=2, test=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64)).save(root / "JPEGImages/trainval_000.jpg", exif=exif)
    for path in (root / "Annotations").iterdir():
        write_xml(path, [("circle", (5, 5, 20, 20))], size=(64, 48) if path.stem == "trainval_000" else (64, 64))
    assert open_detection_data(f"voc:{root}").problems.counts == {}


def test_the_development_kits_of_both_years_are_voc_07_and_12(tmp_path):
    for year in ("2007", "2012"):
        root = as_voc(tmp_path / "kit" / f"VOC{year}", train=2, test=2)
        for path in (root / "Annotations").iterdir():
            write_xml(path, [(label, (5, 5, 20, 20)) for label in VOC_CLASSES[::-1]])
    data = open_detection_data(f"voc:{tmp_path / 'kit'}", strict=True)
    assert (data.classes, data.metric) == (VOC_CLASSES, "VOC2007")
    assert (data.train.name, len(data.train.images), data.test.name, len(data.test.images)) == (
        "VOC2007 trainval+VOC2012 trainval",
        4,
        "test",
        2,
    )
    assert len({image["image_id"] for image in data.train.images}) == 4
    alone = open_detection_data(f"voc:{tmp_path / 'kit' / 'VOC2012'}")
    assert (len(alone.train.images), alone.metric) == (2, "VOC2012")


@pytest.mark.parametrize(
    ("lists", "splits"),
    [
        (("train", "val"), ("train", "val")),
        (("trainval", "train", "val", "test"), ("trainval", "test")),
        # What is trained on may not be tested on.
        (("trainval", "train", "val"), ("train", "val")),
    ],
)
def test_splits(voc_shapes, tmp_path, lists, splits):
    root = tmp_path / "set"
    (root / "ImageSets/Main").mkdir(parents=True)
    for name in ("Annotations", "JPEGImages"):
        (root / name).symlink_to(voc_shapes / name)
    for name in lists:
        (root / "ImageSets/Main" / f"{name}.txt").write_text("trainval_000\ntrainval_001\n")
    data = open_detection_data(f"voc:{root}")
    assert (data.train.name, data.test.name) == splits


def test_what_is_no_such_data_is_one_sentence(tmp_path, voc_shapes):
    lonely = as_voc(tmp_path / "lonely", train=1, test=1)
    (lonely / "ImageSets/Main/test.txt").unlink()
    empty = as_voc(tmp_path / "empty", train=1, test=1)
    (empty / "ImageSets/Main/test.txt").write_text("no_such\n")
    for spec, sentence in [
        ("folder:x", "'folder:x' is no data to detect in: write voc:ROOT or coco:ROOT"),
        ("voc:", "write voc:ROOT"),
        (f"voc:{tmp_path}/none", "there is no folder"),
        (f"voc:{tmp_path}", "is not in PASCAL VOC's layout: it needs Annotations/"),
        (f"voc:{lonely}", r"and one to test on \(test or val\); it has trainval"),
        (f"voc:{empty}", r"nothing to test on in 'test': 0 images without objects \(1 missing annotation files\)"),
    ]:
        with pytest.raises(UserError, match=sentence) as refusal:
            open_detection_data(spec)
        assert "\n" not in str(refusal.value)


@pytest.mark.skipif(not BCCD.exists(), reason="the BCCD archive is not here")
def test_bccd_and_its_two_boxes_of_no_area(tmp_path):
    with tarfile.open(BCCD) as archive:
        archive.extractall(tmp_path, filter="data")
    data = open_detection_data(f"voc:{tmp_path / 'bccd-voc'}")
    assert data.classes == ["Platelets", "RBC", "WBC"]
    assert (len(data.train.images), len(data.test.images)) == (292, 72)
    # 3943 and 945 boxes, of which two, both of red cells, have no area.
    assert sum(data.train.objects(data.classes).values()) + sum(data.test.objects(data.classes).values()) == 4888 - 2
    assert data.problems.counts == {"boxes of no area": 2}
    named = [line.split("/")[-1].split(".")[0] for line in data.problems.lines()]
    assert named == ["BloodImage_00338", "BloodImage_00343"]
    with pytest.raises(UserError, match=r"2 boxes of no area; the first is .*BloodImage_00338"):
        open_detection_data(f"voc:{tmp_path / 'bccd-voc'}", strict=True)
