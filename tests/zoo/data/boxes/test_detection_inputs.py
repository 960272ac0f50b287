"""Every named kind of input of VOC and COCO with its verdict: read as it is meant, counted, or refused in one sentence. No detectron2."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from detection_layouts import as_coco, as_voc, write_xml
from PIL import Image

from zoo.data.boxes.annotations import Problems
from zoo.data.boxes.detection_data import open_detection_data
from zoo.data.boxes.masks import box_of_mask, checked_mask
from zoo.errors import UserError

SQUARE = [[8, 8, 24, 8, 24, 24, 8, 24]]


def coco_set(root: Path) -> tuple[Path, dict, dict]:
    as_coco(root, train=4, test=2)
    read = [json.loads((root / "annotations" / f"instances_{name}.json").read_text()) for name in ("train", "val")]
    return root, read[0], read[1]


def first(train, **values):
    train["annotations"][0].update(values)


def rename(train, test, **new):
    for content in (train, test):
        for category, name in zip(content["categories"], new["names"], strict=False):
            category["name"] = name


def all_crowds(root, train, test):
    for content in (train, test):
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1


def roboflow(root, train, test):
    for content in (train, test):
        for category in content["categories"]:
            category["supercategory"] = "shapes"
        content["categories"].insert(0, {"id": 0, "name": "shapes", "supercategory": "none"})


def normalise(root, train, test):
    for annotation in train["annotations"]:
        annotation["bbox"] = [value / 64 for value in annotation["bbox"]]


def share_a_file(root, train, test):
    train["images"].append({**train["images"][0], "id": 999})
    train["annotations"][1]["image_id"] = 999


def same_image(root, train, test):
    (root / "val/0.png").write_bytes((root / "train/0.png").read_bytes())


def twice(root, train, test):
    train["categories"].append({"id": 500, "name": train["categories"][0]["name"]})
    train["annotations"][0]["category_id"] = 500


def from_windows(root, train, test):
    for image in train["images"]:
        image["file_name"] = f"D:\\photos\\TRAIN\\{image['file_name'].upper()}"


def no_box(root, train, test):
    for annotation in train["annotations"]:
        del annotation["bbox"]


def subset_in_another_order(root, train, test):
    shown = {annotation["category_id"] for annotation in test["annotations"]}
    kept = [category for category in test["categories"] if category["id"] in shown][::-1]
    numbers = {category["id"]: position + 1 for position, category in enumerate(kept)}
    test["categories"] = [{"id": numbers[category["id"]], "name": category["name"]} for category in kept]
    for annotation in test["annotations"]:
        annotation["category_id"] = numbers[annotation["category_id"]]


NARROW = 62  # so that a swapped size is another one


def narrow(root, content, **values):
    """Make the first training image narrower than high, and give its first object these values."""
    path = root / "train" / content["images"][0]["file_name"]
    Image.open(path).crop((0, 0, NARROW, 64)).save(path)
    content["images"][0]["width"] = NARROW
    first(content, **values)


def edit(name, change, verdict):
    return pytest.param(change, verdict, id=name)


RIGHT: dict[str, int] = {}
BAD, FEW = "masks that are none", "polygons of fewer than three points"
NO_BOX, FLAG = "objects without a box of four numbers", "flags that are neither 0 nor 1"
COCO = [
    edit("unchanged", lambda root, a, b: None, RIGHT),
    edit("uncompressed run lengths", lambda root, a, b: first(a, segmentation={"counts": [520, 16, 3560], "size": [64, 64]}), RIGHT),
    edit(
        "mask of swapped size",
        lambda root, a, b: narrow(root, a, segmentation={"counts": [0, 64 * NARROW], "size": [NARROW, 64]}),
        {"masks of swapped size (width before height; COCO has the height first)": 1},
    ),
    edit("run lengths of another image", lambda root, a, b: first(a, segmentation={"counts": [0, 9], "size": [3, 3]}), {BAD: 1}),
    edit("run lengths that are too short", lambda root, a, b: first(a, segmentation={"counts": [0, 9], "size": [64, 64]}), {BAD: 1}),
    edit("run lengths below 0", lambda root, a, b: first(a, segmentation={"counts": [-1, 4097], "size": [64, 64]}), {BAD: 1}),
    edit("run lengths as text that is none", lambda root, a, b: first(a, segmentation={"counts": "\x01", "size": [64, 64]}), {BAD: 1}),
    edit("run lengths as text that ends early", lambda root, a, b: first(a, segmentation={"counts": "PP", "size": [64, 64]}), {BAD: 1}),
    edit("run lengths as text of a smaller image", lambda root, a, b: first(a, segmentation={"counts": "04", "size": [64, 64]}), {BAD: 1}),
    edit("polygon with 1e9", lambda root, a, b: first(a, segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]), {BAD: 1}),
    edit("polygon with 9e8", lambda root, a, b: first(a, segmentation=[[0, 0, 9e8, 0, 9e8, 9e8]]), {BAD: 1}),
    edit("polygon with null", lambda root, a, b: first(a, segmentation=[[0, 0, None, 0, 9, 9]]), {BAD: 1}),
    edit("polygon with text", lambda root, a, b: first(a, segmentation=[["0", 0, 1, 0, 9, 9]]), {BAD: 1}),
    edit("mask as text", lambda root, a, b: first(a, segmentation="none"), {BAD: 1}),
    edit("box with null", lambda root, a, b: first(a, bbox=[None, 1, 2, 3]), {NO_BOX: 1}),
    edit("box with text", lambda root, a, b: first(a, bbox=["1", 1, 2, 3]), {NO_BOX: 1}),
    edit("box with a list", lambda root, a, b: first(a, bbox=[[1], 1, 2, 3]), {NO_BOX: 1}),
    edit("box with truth", lambda root, a, b: first(a, bbox=[True, 1, 2, 3]), {NO_BOX: 1}),
    edit("box as text", lambda root, a, b: first(a, bbox="1 2 3 4"), {NO_BOX: 1}),
    edit(
        "box of 300 digits", lambda root, a, b: first(a, bbox=[1, 1, 10**300, 3]), {"boxes reaching beyond the image (cut at its edge)": 1}
    ),
    edit("iscrowd as text 0", lambda root, a, b: first(a, iscrowd="0"), RIGHT),
    edit("iscrowd as null", lambda root, a, b: first(a, iscrowd=None), RIGHT),
    edit("iscrowd as text 1", lambda root, a, b: first(a, iscrowd="1"), {"crowd regions (not trained on, ignored in the evaluation)": 1}),
    edit("iscrowd as another word", lambda root, a, b: first(a, iscrowd="no"), {FLAG: 1}),
    edit("iscrowd as a list", lambda root, a, b: first(a, iscrowd=[1]), {FLAG: 1}),
    edit(
        "area as text, null, a list", lambda root, a, b: [a["annotations"][i].update(area=v) for i, v in enumerate(("9", None, [1]))], RIGHT
    ),
    edit("all crowds", all_crowds, {"objects marked as crowds like all others of the set (taken as ordinary objects)": 24}),
    edit("Roboflow's root category", roboflow, RIGHT),
    edit("objects with only a mask", no_box, RIGHT),
    edit(
        "an object without a mask",
        lambda root, a, b: b["annotations"][0].pop("segmentation"),
        {"objects without a mask among others that have one (with masks: not trained on, ignored in the evaluation)": 1},
    ),
    edit("no sizes of images", lambda root, a, b: [image.pop("width") for image in a["images"]], RIGHT),
    edit("sizes of 0 and null", lambda root, a, b: [image.update(width=0, height=None) for image in a["images"]], RIGHT),
    edit("classes of the test set in another order", subset_in_another_order, RIGHT),
    edit("places of another machine", from_windows, {"images found by their name, elsewhere than their annotation says": 4}),
    edit("a category name twice", twice, {"categories that have the name of another (taken as one class)": 1}),
    edit(
        "an image in two entries", share_a_file, {"entries of an image file that has an entry already (their objects are put together)": 1}
    ),
    edit("an image in train and test", same_image, {"test images that are trained on too": 1}),
    edit("a category without a name", lambda root, a, b: rename(a, b, names=[" "]), "no name"),
    edit("test without annotations", lambda root, a, b: b.pop("annotations"), RIGHT),
    edit(
        "a category id twice",
        lambda root, a, b: a["categories"].append({**a["categories"][0], "name": "another"}),
        r"category id \d+ stands for '\w+' and for 'another'",
    ),
    edit("normalised boxes", normalise, r"16 of 16 boxes in .*instances_train\.json look normalised"),
    edit(
        "train without annotations", lambda root, a, b: a.pop("annotations"), "has no list 'annotations', so there is nothing to train on"
    ),
    edit("an image id that is a list", lambda root, a, b: first(a, image_id=[1]), r"at `\$\.annotations\[0\]\.image_id`"),
    edit("a category id that is an object", lambda root, a, b: first(a, category_id={}), r"at `\$\.annotations\[0\]\.category_id`"),
    edit("a width as text", lambda root, a, b: a["images"][0].update(width="64"), r"at `\$\.images\[0\]\.width`"),
    edit("a width of 1e300", lambda root, a, b: a["images"][0].update(width=1e300), "an image of 1e"),
    edit("a file name that is null", lambda root, a, b: a["images"][0].update(file_name=None), r"at `\$\.images\[0\]\.file_name`"),
    edit("annotations that are no list", lambda root, a, b: a.update(annotations={}), r"at `\$\.annotations`"),
    edit("NaN in a polygon", lambda root, a, b: first(a, segmentation=[[float("nan"), 0, 1, 0, 9, 9]]), "is not valid JSON"),
]


@pytest.mark.parametrize(("change", "verdict"), COCO)
def test_coco(tmp_path, change, verdict):
    root, train, test = coco_set(tmp_path / "set")
    before = open_detection_data(f"coco:{root}")
    change(root, train, test)
    for name, content in (("train", train), ("val", test)):
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    if verdict == "no name":
        data = open_detection_data(f"coco:{root}")
        assert set(data.problems.counts) <= {"objects of a class without a name"}
        assert data.classes == before.classes[1:]
        return
    if isinstance(verdict, str):
        with pytest.raises(UserError, match=verdict) as refusal:
            open_detection_data(f"coco:{root}")
        assert "\n" not in str(refusal.value)
        return
    data = open_detection_data(f"coco:{root}")
    assert data.problems.counts == verdict
    assert data.classes == before.classes
    wrong = {kind: count for kind, count in verdict.items() if not kind.startswith("crowd regions")}
    if wrong:
        with pytest.raises(UserError, match=r"are broken: (1|4|24) "):
            open_detection_data(f"coco:{root}", strict=True)
    elif change is not COCO[0].values[0] and "annotations" in test:
        # Read as if nothing were unusual.
        for ours, theirs in ((data.train, before.train), (data.test, before.test)):
            for image, other in zip(ours.images, theirs.images, strict=True):
                classes = [
                    [side.classes[a["category_id"]] for a in one["annotations"] if not a["iscrowd"]]
                    for side, one in ((data, image), (before, other))
                ]
                assert len(classes[0]) >= len(classes[1]) - 1
                for a, b in zip(image["annotations"], other["annotations"], strict=True):
                    assert data.classes[a["category_id"]] == before.classes[b["category_id"]]
                    np.testing.assert_allclose(a["bbox"], b["bbox"], atol=1)


# ---------------------------------------------------------------- VOC


def voc_set(root: Path) -> Path:
    return as_voc(root, train=10, test=3)


def lists(root: Path, change, encoding="utf-8") -> None:
    for path in (root / "ImageSets/Main").iterdir():
        path.write_bytes("".join(f"{change(line)}\n" for line in path.read_text().split()).encode(encoding))


def rewrite(root: Path, objects, name="trainval_000", size=(64, 64)) -> None:
    write_xml(root / "Annotations" / f"{name}.xml", objects, size)


def replace(root: Path, old: str, new: str, name="*") -> None:
    for path in (root / "Annotations").glob(f"{name}.xml"):
        path.write_text(path.read_text().replace(old, new))


def blanks(root: Path) -> None:
    for folder in ("Annotations", "JPEGImages"):
        for path in list((root / folder).iterdir()):
            path.rename(path.with_name(path.name.replace("_", " no ")))
    lists(root, lambda line: line.replace("_", " no "))


def ending(root: Path, new: str, kind: str | None = None) -> None:
    for path in list((root / "JPEGImages").iterdir()):
        with Image.open(path) as image:
            image.save(path.with_suffix(new), kind, lossless=True) if kind == "WEBP" else image.save(path.with_suffix(new), kind)
        path.unlink()


def without_lists(root: Path) -> None:
    for path in (root / "ImageSets/Main").iterdir():
        path.unlink()


def umlauts(root: Path) -> None:
    for folder in ("Annotations", "JPEGImages"):
        for path in list((root / folder).iterdir()):
            path.rename(path.with_name(path.name.replace("_", "ä")))
    lists(root, lambda line: line.replace("_", "ä"), "latin-1")


def twins(root: Path) -> None:
    Image.new("RGB", (64, 64)).save(root / "JPEGImages/trainval_000.png")


def voc_same_image(root: Path) -> None:
    (root / "JPEGImages/test_000.jpg").write_bytes((root / "JPEGImages/trainval_000.jpg").read_bytes())


def every_box(root: Path, box) -> None:
    for path in (root / "Annotations").iterdir():
        label = path.read_text().split("<name>")[1].split("<")[0]
        write_xml(path, [("circle", box(0)), (label, box(1))])


def voc_kind(name, change, verdict, same=True):
    return pytest.param(change, verdict, same, id=name)


VOC = [
    voc_kind("unchanged", lambda root: None, RIGHT),
    voc_kind("no size", lambda root: replace(root, "<size><width>64</width><height>64</height><depth>3</depth></size>", ""), RIGHT),
    voc_kind("size 0", lambda root: replace(root, "<width>64</width><height>64<", "<width>0</width><height>0<"), RIGHT),
    voc_kind(".webp", lambda root: ending(root, ".webp", "WEBP"), RIGHT),
    voc_kind(".tif", lambda root: ending(root, ".tif", "TIFF"), RIGHT),
    voc_kind(".Jpeg", lambda root: ending(root, ".Jpeg", "JPEG"), RIGHT),
    voc_kind("names with blanks", blanks, RIGHT),
    voc_kind("lists with endings", lambda root: lists(root, lambda line: f"{line}.jpg"), RIGHT),
    voc_kind("lists with paths", lambda root: lists(root, lambda line: f"data/JPEGImages/{line}.png"), RIGHT),
    voc_kind("lists with backslashes", lambda root: lists(root, lambda line: f"C:\\data\\{line}.xml"), RIGHT),
    voc_kind("lists with flags", lambda root: lists(root, lambda line: f"{line}  1"), RIGHT),
    voc_kind("lists in capitals", lambda root: lists(root, str.upper), RIGHT),
    voc_kind("lists with a byte order mark", lambda root: lists(root, str, "utf-8-sig"), RIGHT),
    voc_kind("lists in UTF-16", lambda root: lists(root, str, "utf-16"), RIGHT),
    voc_kind("lists in Latin-1", umlauts, RIGHT),
    voc_kind(
        "a name that is empty",
        lambda root: replace(root, "<name>", "<name> </name><name>", "trainval_000"),
        {"objects of a class without a name": 4},
        False,
    ),
    voc_kind("two files of one name", twins, {"images that share their name with a file of another ending": 1}),
    voc_kind("an image in train and test", voc_same_image, {"test images that are trained on too": 1}),
    voc_kind("a corner that is text", lambda root: rewrite(root, [("circle", ("one", 2, 9, 9))]), {NO_BOX: 1}, False),
    voc_kind("a corner that is NaN", lambda root: rewrite(root, [("circle", ("nan", 2, 9, 9))]), {NO_BOX: 1}, False),
    voc_kind("a corner of 1e400", lambda root: rewrite(root, [("circle", (1, 2, "1e400", 9))]), {NO_BOX: 1}, False),
    voc_kind(
        "a size that is text",
        lambda root: replace(root, "<width>64", "<width>wide", "trainval_000"),
        {"annotation files that cannot be read": 1},
        False,
    ),
    voc_kind("an XML that is another", lambda root: (root / "Annotations/trainval_000.xml").write_text("<a/>"), RIGHT, False),
    voc_kind(
        "normalised boxes", lambda root: every_box(root, lambda i: (0.1, 0.2, 0.5, 0.7)), "26 of 26 boxes in .*Annotations look normalised"
    ),
]


@pytest.mark.parametrize(("change", "verdict", "same"), VOC)
def test_voc(tmp_path, change, verdict, same):
    root = voc_set(tmp_path / "set")
    before = open_detection_data(f"voc:{root}")
    change(root)
    if isinstance(verdict, str):
        with pytest.raises(UserError, match=verdict) as refusal:
            open_detection_data(f"voc:{root}")
        assert "\n" not in str(refusal.value)
        return
    data = open_detection_data(f"voc:{root}")
    assert data.problems.counts == verdict
    if verdict:
        with pytest.raises(UserError, match=r"are broken: [14] "):
            open_detection_data(f"voc:{root}", strict=True)
    if same:
        for ours, theirs in ((data.train, before.train), (data.test, before.test)):
            assert [image["annotations"] for image in ours.images] == [image["annotations"] for image in theirs.images]


def test_without_lists_every_fourth_image_is_held_out(tmp_path):
    root = voc_set(tmp_path / "set")
    without_lists(root)
    data = open_detection_data(f"voc:{root}")
    assert [Path(image["file_name"]).stem for image in data.test.images] == ["trainval_000", "trainval_004", "trainval_008"]
    assert len(data.train.images) == 10
    assert any("every 4th image, by name, is for testing" in note for note in data.notes)


@pytest.mark.parametrize(("edge", "from_zero"), [(63, True), (64, False)])
def test_a_set_counts_from_0_if_some_box_begins_there_and_none_reaches_the_last_pixel(tmp_path, edge, from_zero):
    root = voc_set(tmp_path / "set")
    every_box(root, lambda i: (0, 3, 10, edge) if i == 0 else (5, 6, 20, 30))
    data = open_detection_data(f"voc:{root}")
    boxes = [a["bbox"] for a in data.test.images[0]["annotations"]]
    assert boxes == ([[0, 3, 11, 64], [5, 6, 21, 31]] if from_zero else [[0, 2, 10, 64], [4, 5, 20, 30]])
    assert data.problems.procedure == (2 if from_zero else 1)
    assert any("count pixels from 0" in note for note in data.notes) is from_zero


def test_a_missing_image_is_told_by_the_first_place_that_was_tried(tmp_path):
    root = voc_set(tmp_path / "set")
    (root / "JPEGImages/trainval_000.jpg").unlink()
    assert open_detection_data(f"voc:{root}").problems.lines() == [f"missing images\t{root}/JPEGImages/trainval_000.jpg"]


# ---------------------------------------------------------------- masks


def runs(mask) -> list[int]:
    """Run lengths of a bool mask (H, W), down its columns, the first of background: by a loop."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_are_read_as_pycocotools_reads_them(seed):
    rle = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 40, 2)
    mask = np.zeros((height, width), bool)
    y, x = random.integers(0, height), random.integers(0, width)
    mask[y : y + 9, x : x + 30] = random.random(mask[y : y + 9, x : x + 30].shape) < 0.8
    mask[y, x] = True
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    text = rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    image = {"height": int(height), "width": int(width)}
    for counts in (runs(mask), text):
        problems = Problems()
        read = checked_mask({"size": [int(height), int(width)], "counts": counts}, image, "here", problems)
        assert problems.counts == {}
        assert box_of_mask(read) == box


def boxes_of(split):
    """Class numbers and boxes by file name, wherever the files lie."""
    return {Path(image["file_name"]).name: [(a["category_id"], a["bbox"]) for a in image["annotations"]] for image in split.images}


def test_annotations_beside_their_images_in_folders_of_splits(tmp_path):
    root = as_voc(tmp_path / "layout")
    data = open_detection_data(f"voc:{root}")
    export = tmp_path / "export"
    for name, folder in (("trainval", "train"), ("test", "valid")):
        (export / folder).mkdir(parents=True)
        for key in (root / "ImageSets/Main" / f"{name}.txt").read_text().split():
            shutil.copy(root / "JPEGImages" / f"{key}.jpg", export / folder)
            shutil.copy(root / "Annotations" / f"{key}.xml", export / folder)
    found = open_detection_data(f"voc:{export}")
    assert found.classes == data.classes
    assert (found.train.name, found.test.name) == ("train", "valid")
    assert (boxes_of(found.train), boxes_of(found.test)) == (boxes_of(data.train), boxes_of(data.test))
    assert found.metric == "VOC2012"
    # The folders count alike: where a training box begins at 0, the test boxes count from 0 too.
    before = boxes_of(found.test)
    for path in export.rglob("*.xml"):
        path.write_text(re.sub(r"(<[xy](?:min|max)>)(\d+)<", lambda one: f"{one[1]}{int(one[2]) - 1}<", path.read_text()))
    first = sorted((export / "train").glob("*.xml"))[0]
    first.write_text(re.sub(r"<xmin>\d+<", "<xmin>0<", first.read_text(), count=1))
    shifted = open_detection_data(f"voc:{export}")
    assert any("count pixels from 0" in note for note in shifted.notes)
    assert boxes_of(shifted.test) == before


def test_annotations_beside_their_images_in_one_folder(tmp_path):
    root = as_voc(tmp_path / "layout")
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in [*(root / "JPEGImages").iterdir(), *(root / "Annotations").iterdir()]:
        shutil.copy(path, flat)
    data = open_detection_data(f"voc:{flat}")
    assert (len(data.train.images), len(data.test.images)) == (9, 3)
    assert any("every 4th image, by name, is for testing" in note for note in data.notes)
