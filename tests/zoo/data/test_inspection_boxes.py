"""The look at boxes and masks: counts, problems with file and line, guesses, the drawn sheet."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import pytest
from data_files import message_of, noise, shared_data
from PIL import Image
from typer.testing import CliRunner

from zoo.commands.cli import app
from zoo.data.boxes import annotations as problems
from zoo.data.boxes.places import JsonPlaces, read_xml
from zoo.data.inspection import findings as words
from zoo.data.inspection.boxes import GUESS
from zoo.data.inspection.look import Look, look_at
from zoo.data.inspection.page import page_text
from zoo.data.inspection.sheet import colour_of, drawn, sheet_of
from zoo.data.inspection.text import look_text

WIDTH, HEIGHT = 120, 80


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))


def picture(seed: int) -> Image.Image:
    return Image.fromarray(noise(seed, 6)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def write_voc(root, objects: dict[str, list[tuple[str, tuple]]], train: list[str], test: list[str]):
    """A set in VOC's layout: objects (class, corners as the file has them) by the name of the image."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, (name, boxes) in enumerate(objects.items()):
        picture(number).save(root / "JPEGImages" / f"{name}.jpg")
        lines = ["<annotation>", f"  <size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"]
        for kind, corners in boxes:
            tags = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
            lines += ["  <object>", f"    <name>{kind}</name>", f"    <bndbox>{tags}</bndbox>", "  </object>"]
        (root / "Annotations" / f"{name}.xml").write_text("\n".join([*lines, "</annotation>"]))
    (root / "ImageSets/Main/trainval.txt").write_text("\n".join(train))
    (root / "ImageSets/Main/test.txt").write_text("\n".join(test))
    return root


def write_coco(path, boxes: list[tuple[int, list]], seeds=(0, 1, 2, 3), indent=2, **more):
    """An annotation file beside its images; boxes are (position of the image, numbers)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        if not (path.parent / f"{seed}.png").exists():
            picture(seed).save(path.parent / f"{seed}.png")
    images = [{"id": 10 + row, "file_name": f"{seed}.png", "width": WIDTH, "height": HEIGHT} for row, seed in enumerate(seeds)]
    entries = [{"id": 100 + n, "image_id": 10 + row, "category_id": 1, "bbox": box, "iscrowd": 0} for n, (row, box) in enumerate(boxes)]
    content = {"info": {"of": "me"}, "images": images, "annotations": entries, "categories": [{"id": 1, "name": "nut"}], **more}
    path.write_text(json.dumps(content, indent=indent))
    return path


def found(look: Look, kind: str):
    return [finding for finding in look.findings if finding.kind == kind]


def test_counts_of_voc(tmp_path):
    objects = {
        # 20 x 30 and 100 x 60 pixels: corners count from 1 and belong to the box.
        "a": [("cat", (1, 1, 20, 30)), ("dog", (11, 11, 110, 70))],
        "b": [("cat", (5, 5, 44, 54))],  # 40 x 50
        "c": [],
        "d": [("cat", (1, 1, 120, 80))],
    }
    look = look_at(f"voc:{write_voc(tmp_path / 'set', objects, ['a', 'b', 'c'], ['d'])}")
    train, test = look.boxes
    assert (train.split, train.images, train.without_objects, train.left_out) == ("trainval", 3, 1, 0)
    assert train.objects == {"cat": 2, "dog": 1}
    assert (train.small, train.medium, train.large) == (1, 2, 0)
    assert train.width == (20, 40, 100)
    assert train.height == (30, 50, 60)
    assert train.share == (6.25, 20.83, 62.5)
    assert (train.most, train.polygons, train.bitmaps, train.crowds) == (2, 0, 0, 0)
    assert (test.objects, test.large) == ({"cat": 1, "dog": 0}, 1)
    lacking = found(look, "classes without objects")
    assert [(finding.count, finding.splits, finding.cases[0].names) for finding in lacking] == [(1, ("test",), ("dog",))]
    text = look_text(look)
    assert "3 boxes in trainval" in text
    assert "1 image without any" in text


def test_problems_of_voc_have_their_lines(tmp_path):
    objects = {
        "a": [("cat", (1, 1, 20, 30)), ("cat", (50, 50, 50, 50)), ("cat", (200, 10, 230, 30))],
        "b": [("cat", (5, 5, 44, 140)), ("cat", ("x", 5, 9, 9))],
        "c": [("cat", (1, 1, 30, 30)), ("emu", (1, 1, 30, 30))],
    }
    root = write_voc(tmp_path / "set", objects, ["a", "b"], ["c", "absent", "c"])
    look = look_at(f"voc:{root}")

    def places(kind: str) -> list[str]:
        return [case.names[0] for finding in found(look, kind) for case in finding.cases]

    assert places(problems.ZERO_AREA) == [f"{root}/Annotations/a.xml:7"]
    assert places(problems.OUTSIDE) == [f"{root}/Annotations/a.xml:11"]
    assert places(problems.OVERHANGING) == [f"{root}/Annotations/b.xml:3"]
    assert places(problems.NO_BOX) == [f"{root}/Annotations/b.xml:7"]
    assert places(problems.UNKNOWN_CLASS) == [f"{root}/Annotations/c.xml:7"]
    assert places(problems.TWICE) == [f"{root}/ImageSets/Main/test.txt:3"]
    assert places(problems.MISSING_FILE) == [f"{root}/Annotations/absent.xml"]


def test_an_image_of_another_size_points_to_what_claims_it(tmp_path):
    root = write_voc(tmp_path / "set", {name: [("cat", (1, 1, 20, 30))] for name in "abc"}, ["a", "b"], ["c"])
    picture(0).resize((60, 40)).save(root / "JPEGImages" / "b.jpg")
    case = found(look_at(f"voc:{root}"), problems.OTHER_SIZE)[0].cases[0]
    assert case.names == (f"{root}/Annotations/b.xml:2",)
    assert "60 x 40, not 120 x 80" in case.detail


def test_problems_of_coco_have_their_lines(tmp_path):
    boxes = [(0, [1, 1, 20, 20]), (1, [5, 5, 0, 9]), (2, [500, 5, 10, 10]), (3, [5, 5, 9, 9]), (3, ["x", 1, 2, 3])]
    path = write_coco(tmp_path / "nuts.json", boxes)
    lines = path.read_text().splitlines()
    look = look_at(f"coco:{path}")
    for kind, number in ((problems.ZERO_AREA, 101), (problems.OUTSIDE, 102), (problems.NO_BOX, 104)):
        place = found(look, kind)[0].cases[0].names[0]
        line = int(place.removeprefix(f"{path}:"))
        assert lines[line - 1].strip() == "{"
        assert lines[line].strip() == f'"id": {number},'


def test_an_annotation_of_no_image_and_an_image_listed_twice(tmp_path):
    path = write_coco(tmp_path / "nuts.json", [(0, [1, 1, 20, 20]), (3, [1, 1, 5, 5]), (77, [1, 1, 20, 20])], seeds=(0, 1, 2, 3))
    content = json.loads(path.read_text())
    content["images"].append(dict(content["images"][1]))
    path.write_text(json.dumps(content, indent=1))
    lines = path.read_text().splitlines()
    look = look_at(f"coco:{path}")
    for kind, text in ((problems.NO_SUCH_IMAGE, '"id": 102,'), (problems.TWICE, '"id": 11,')):
        line = int(found(look, kind)[0].cases[0].names[0].removeprefix(f"{path}:"))
        assert lines[line].strip() == text
    assert line == len([*lines[: lines.index(' "annotations": [')]]) - 6  # the second of the two


def test_a_file_on_one_line_gives_columns(tmp_path):
    path = write_coco(tmp_path / "nuts.json", [(0, [1, 1, 20, 20]), (1, [5, 5, 0, 9]), (3, [1, 1, 5, 5])], indent=None)
    place = found(look_at(f"coco:{path}"), problems.ZERO_AREA)[0].cases[0].names[0]
    line, column = map(int, place.removeprefix(f"{path}:").split(":"))
    assert line == 1
    assert path.read_text()[column - 1 :].startswith('{"id": 101,')


def test_test_images_that_are_trained_on_are_told(tmp_path):
    every = [(row, [1, 1, 20, 20]) for row in range(4)]
    write_coco(tmp_path / "set" / "train" / "_annotations.coco.json", every, seeds=(0, 1, 2, 3))
    write_coco(tmp_path / "set" / "test" / "_annotations.coco.json", every, seeds=(2, 3, 4, 5))
    look = look_at(f"coco:{tmp_path / 'set'}")
    overlap = found(look, words.OVERLAP)
    assert [finding.count for finding in overlap] == [2]
    assert {case.names[1].rpartition("/")[2] for case in overlap[0].cases} == {"2.png", "3.png"}


# ---------------------------------------------------------------- guesses

GOOD = np.array([[10, 12, 40, 50], [1, 1, 120, 80], [30, 20, 90, 60], [55, 5, 100, 79]], dtype=float)


def voc_of(root, boxes):
    names = ["a", "b", "c", "d"]
    objects = {name: [("cat", tuple(box))] for name, box in zip(names, boxes, strict=True)}
    return write_voc(root, objects, names[:3], names[3:])


def test_boxes_in_order_give_no_guess(tmp_path):
    assert found(look_at(f"voc:{voc_of(tmp_path / 'voc', GOOD)}"), GUESS) == []
    boxes = [(row, [box[0] - 1, box[1] - 1, box[2] - box[0] + 1, box[3] - box[1] + 1]) for row, box in enumerate(GOOD.tolist())]
    assert found(look_at(f"coco:{write_coco(tmp_path / 'nuts.json', boxes)}"), GUESS) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda b: np.array([[0, 0, 39, 49], [0, 3, 118, 78], [29, 19, 89, 59], [54, 4, 99, 78]]), "look 0-based: 2 begin at 0"),
        (lambda b: b / [WIDTH, HEIGHT, WIDTH, HEIGHT], "look normalised"),
        (lambda b: np.stack([b[:, 0], b[:, 1], b[:, 2] - b[:, 0], b[:, 3] - b[:, 1]], axis=1), "look like (x, y, width, height)"),
        (lambda b: b[:, [1, 0, 3, 2]], "look like rows before columns"),
    ],
    ids=["0-based", "normalised", "xywh", "yx"],
)
def test_guesses_of_voc(tmp_path, make, said):
    root = voc_of(tmp_path / "voc", make(GOOD))
    try:
        text = " ".join(finding.text for finding in found(look_at(f"voc:{root}"), GUESS))
    except Exception as error:  # nothing may be left to train on, and then the sentence says the guess
        text = str(error)
    assert said in text


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda b: b / [WIDTH, HEIGHT, WIDTH, HEIGHT], "look normalised"),
        (lambda b: b, "look like corners (x0, y0, x1, y1)"),
        (lambda b: np.stack([b[:, 1], b[:, 0], b[:, 3] - b[:, 1], b[:, 2] - b[:, 0]], axis=1), "look like rows before columns"),
    ],
    ids=["normalised", "corners", "yx"],
)
def test_guesses_of_coco(tmp_path, make, said):
    boxes = list(enumerate(make(GOOD).tolist()))
    look = look_at(f"coco:{write_coco(tmp_path / 'nuts.json', boxes)}")
    assert [said in finding.text for finding in found(look, GUESS)] == [True]


def test_a_guess_names_the_boxes(tmp_path):
    root = voc_of(tmp_path / "voc", np.array([[0, 0, 39, 49], [2, 3, 118, 78], [29, 19, 89, 59], [54, 4, 99, 78]]))
    case = found(look_at(f"voc:{root}"), GUESS)[0].cases[0]
    assert case.names == (f"{root}/Annotations/a.xml:3",)
    assert case.detail == "(0, 0, 39, 49)"


# ---------------------------------------------------------------- places


def test_lines_of_xml(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<?xml version='1.0'?>\n<a>\n <b>\n  <c>text\n  </c></b>\n <b/>\n</a>")
    root = read_xml(path)
    assert [element.line for element in root.iter()] == [2, 3, 4, 6]
    assert root.findtext("b/c").strip() == "text"


def test_places_of_json_are_those_of_the_text():
    text = '{"x": {"images": [1]}, "images": [\n {"id": 1,\n "a": "]"}, {"id": 2}\n], "n": null, "annotations": []}'
    places = JsonPlaces(text)
    assert [value["id"] for value, _ in places.entries["images"]] == [1, 2]
    assert [places.place(at) for _, at in places.entries["images"]] == ["2", "3:13"]
    assert places.entries["annotations"] == []


# ---------------------------------------------------------------- pictures


def test_a_drawn_box_lies_on_its_pixels():
    record = {"width": 100, "height": 50, "annotations": [{"bbox": [20, 10, 60, 40], "category_id": 3, "iscrowd": 0}]}
    shown = np.asarray(drawn(Image.new("RGB", (100, 50), "white"), record, ["a", "b", "c", "d"], side=100))
    colour = np.array(colour_of(3))
    box = (shown == colour).all(axis=2)
    rows, columns = np.flatnonzero(box[:, 40:].any(axis=1)), np.flatnonzero(box[20:].any(axis=0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 39, 20, 59)
    assert not box[15:35, 25:55].any()


def test_a_mask_is_shaded_inside():
    square = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]
    record = {"width": 50, "height": 50, "annotations": [{"bbox": [0, 0, 50, 50], "category_id": 0, "iscrowd": 0, "segmentation": square}]}
    shown = np.asarray(drawn(Image.new("RGB", (50, 50), "white"), record, ["nut"], side=50)).astype(int)
    assert np.abs(shown[20, 20] - (255 + (np.array(colour_of(0)) - 255) * 90 / 255)).max() <= 1
    assert shown[40, 40].tolist() == [255, 255, 255]


def test_the_sheet_and_the_page(tmp_path):
    path = write_coco(tmp_path / "nuts.json", [(row, [5, 5, 60, 60]) for row in range(4)])
    sheet_of(f"coco:{path}", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert (np.asarray(sheet) == colour_of(0)).all(axis=2).sum() > 1000
    text = page_text(look_at(f"coco:{path}"))
    assert "Boxes of each class" in text
    assert text.count("data:image/jpeg") == 8  # each image as it is, and with its boxes


def test_the_command_draws_boxes_of_annotated_data_alone(tmp_path):
    path = write_coco(tmp_path / "nuts.json", [(row, [5, 5, 60, 60]) for row in range(4)])
    result = CliRunner().invoke(app, ["data", f"coco:{path}", "--sheet", str(tmp_path / "s.png")])
    assert result.exit_code == 0
    assert (tmp_path / "s.png").exists()
    assert "has none" in message_of(sheet_of, f"folder:{tmp_path}", tmp_path / "t.png")


def test_the_real_cells(tmp_path):
    with tarfile.open(shared_data() / "bccd-voc.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    root = next(path.parent for path in tmp_path.rglob("JPEGImages"))
    look = look_at(f"voc:{root}")
    zero = found(look, problems.ZERO_AREA)
    assert [finding.count for finding in zero] == [2]
    names = [case.names[0].rpartition("/")[2].partition(".")[0] for case in zero[0].cases]
    assert names == ["BloodImage_00338", "BloodImage_00343"]
    assert sum(sum(facts.objects.values()) for facts in look.boxes) == 4886
    assert sum(split.images for split in look.splits) == 364
    assert found(look, words.OVERLAP) == []


def test_the_real_nuts(tmp_path):
    with tarfile.open(shared_data() / "fruits-nuts-coco.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    root = next(path.parent for path in tmp_path.rglob("trainval.json"))
    look = look_at(f"coco:{root}")
    assert sum(sum(facts.objects.values()) for facts in look.boxes) == 165
    assert sum(facts.polygons for facts in look.boxes) == 165
    assert look.problems == []
