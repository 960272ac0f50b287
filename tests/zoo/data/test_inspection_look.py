"""The look at a data set: counts and findings of handmade sets, the command, the page."""

from __future__ import annotations

import json
import os
import re
import shutil
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from data_files import message_of, noise, shared_data, write_image
from PIL import Image
from typer.testing import CliRunner

from zoo.commands.cli import app
from zoo.data.inspection import findings as words
from zoo.data.inspection.findings import sorted_as_text
from zoo.data.inspection.look import SIDE_BINS, Look, look_at
from zoo.data.inspection.page import page_text, write_page
from zoo.data.inspection.text import look_text


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))


def smooth(seed: int, size=(120, 90)) -> Image.Image:
    return Image.fromarray(noise(seed, 6)).resize(size, Image.Resampling.BICUBIC)


def save(image: Image.Image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.fixture
def messy(tmp_path):
    """A set with one of everything that a look finds."""
    root = tmp_path / "messy"
    for number in range(12):
        for copy in range(2):
            save(smooth(100 * number + copy), root / "train" / str(number) / f"{copy}.png")
        if number != 11:
            save(smooth(100 * number + 50), root / "test" / str(number) / "t.png")
    shutil.copy(root / "train" / "0" / "0.png", root / "train" / "0" / "copy.png")
    shutil.copy(root / "train" / "1" / "1.png", root / "train" / "2" / "other.png")
    save(smooth(300).resize((60, 45)), root / "train" / "3" / "half.png")
    shutil.copy(root / "train" / "4" / "0.png", root / "test" / "4" / "same.png")
    save(smooth(500), root / "test" / "5" / "near.jpg", quality=60)
    (root / "train" / "6" / "torn.png").write_bytes((root / "train" / "6" / "0.png").read_bytes()[:200])
    (root / "train" / "6" / "empty.jpg").write_bytes(b"")
    save(Image.new("RGB", (120, 90), "white"), root / "train" / "7" / "blank.png")
    turned = smooth(990)
    exif = turned.getexif()
    exif[0x0112] = 6
    save(turned, root / "train" / "8" / "turned.jpg", exif=exif)
    save(smooth(991), root / "train" / "9" / "pages.tif", save_all=True, append_images=[smooth(992), smooth(993)])
    save(smooth(994).resize((20, 20)), root / "train" / "9" / "tiny.png")
    return root


def found(look: Look, kind: str) -> list[tuple[int, tuple[str, ...]]]:
    return [(finding.count, finding.splits) for finding in look.findings if finding.kind == kind]


def test_everything_is_found_once(messy):
    look = look_at(f"folder:{messy}")
    assert found(look, words.BAD) == [(2, ("train",))]
    assert found(look, words.EXACT) == [(2, ("train",))]
    assert found(look, words.OTHER_LABEL) == [(1, ("train",))]
    assert found(look, words.NEAR) == [(1, ("train",))]
    assert found(look, words.OVERLAP) == [(1, ("train", "test"))]
    assert found(look, words.NEAR_OVERLAP) == [(1, ("train", "test"))]
    assert found(look, words.CLASSES) == [(1, ("test",))]
    assert found(look, words.NUMBERED) == [(12, ("train",))]
    assert found(look, words.UNIFORM) == [(1, ("train",))]
    assert found(look, words.TURNED) == [(1, ("train",))]
    assert found(look, words.FRAMES) == [(1, ("train",))]
    assert found(look, words.SMALL) == [(1, ("train",))]
    assert len(look.findings) == 12
    assert [finding.problem for finding in look.findings] == [True] * 7 + [False] * 5


def test_cases_name_the_images(messy):
    cases = {finding.kind: finding.cases for finding in look_at(f"folder:{messy}").findings}
    assert cases[words.OTHER_LABEL][0].names == (str(messy / "train/1/1.png"), str(messy / "train/2/other.png"))
    assert cases[words.OTHER_LABEL][0].detail == "1 and 2"
    assert cases[words.OVERLAP][0].names == (str(messy / "train/4/0.png"), str(messy / "test/4/same.png"))
    assert cases[words.NEAR_OVERLAP][0].names == (str(messy / "train/5/0.png"), str(messy / "test/5/near.jpg"))
    assert cases[words.NEAR][0].names == (str(messy / "train/3/0.png"), str(messy / "train/3/half.png"))
    assert [case.names[0] for case in cases[words.BAD]] == [str(messy / "train/6/empty.jpg"), str(messy / "train/6/torn.png")]
    assert cases[words.BAD][0].detail == "the file is empty"
    assert cases[words.CLASSES][0].names == ("11",)


def test_counts(messy):
    train, test = look_at(f"folder:{messy}").splits
    assert (train.name, train.roles, train.images, train.bad) == ("train", ["pretrain", "train"], 33, 2)
    assert (test.name, test.roles, test.images, test.bad) == ("test", ["test"], 13, 0)
    assert train.formats == {"PNG": 29, "JPEG": 1, "TIFF": 1}
    assert train.classes == {**dict.fromkeys(map(str, range(12)), 2), "0": 3, "2": 3, "3": 3, "6": 4, "7": 3, "8": 3, "9": 4}
    assert test.classes["11"] == 0
    assert sum(test.classes.values()) == 13
    assert (train.width.least, train.width.median, train.width.largest) == (20, 120, 120)
    assert (train.height.least, train.height.median, train.height.largest) == (20, 90, 120)
    assert dict(zip(SIDE_BINS, train.sides, strict=True)) == {**dict.fromkeys(SIDE_BINS, 0), 0: 1, 32: 1, 64: 29}
    assert train.orientations == {"1": 30, "6": 1}
    assert train.bytes == sum(path.stat().st_size for path in (messy / "train").rglob("*.*"))
    assert train.reasons == {"the file is empty": 1, next(reason for reason in train.reasons if "empty" not in reason): 1}


def test_a_set_in_order(tmp_path):
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            save(smooth(10 * count + number), tmp_path / "own" / split / f"class{number % 2}" / f"{number}.png")
    look = look_at(f"folder:{tmp_path / 'own'}")
    assert look.findings == []
    assert "found: nothing that is wrong" in look_text(look)


def test_a_second_look_decodes_nothing_and_says_the_same(messy):
    first = look_at(f"folder:{messy}")
    second = look_at(f"folder:{messy}")
    assert first.decoded == 46
    assert second == first  # kept whole, with its time and its cost
    assert look_at(f"folder:{messy}", again=True).decoded == 46


def test_a_changed_file_is_news(messy):
    look_at(f"folder:{messy}")
    path = messy / "test" / "0" / "t.png"
    shutil.copy(messy / "train" / "0" / "1.png", path)
    os.utime(path, ns=(7, 7))
    look = look_at(f"folder:{messy}")
    assert look.decoded == 1
    assert found(look, words.OVERLAP) == [(2, ("train", "test"))]


def test_a_copied_label_is_news_too(messy):
    look_at(f"folder:{messy}")
    os.rename(messy / "train" / "10", messy / "train" / "99")
    os.rename(messy / "test" / "10", messy / "test" / "99")
    look = look_at(f"folder:{messy}")
    assert "99" in look.splits[0].classes


def test_unlabelled_images_and_images_in_memory(tmp_path):
    for number in range(3):
        save(smooth(number), tmp_path / "loose" / "deep" / f"{number}.png")
    split = look_at(f"folder:{tmp_path / 'loose'}").splits[0]
    assert (split.name, split.roles, split.classes, split.levels) == ("all", ["pretrain"], {}, {})
    look = look_at("digits")
    assert [split.images for split in look.splits] == [1352, 445]
    assert look.splits[0].formats == {"in memory": 1352}
    assert look.splits[0].grey == 1352


def test_images_of_several_classes(tmp_path):
    lines = ["image,label"]
    for number in range(4):
        save(smooth(number), tmp_path / "own" / f"{number}.png")
        lines.append(f"{number}.png,{'cat;dog' if number < 3 else 'dog'}")
    (tmp_path / "own" / "labels.csv").write_text("\n".join(lines))
    split = look_at(f"csv:{tmp_path / 'own' / 'labels.csv'},image=image,label=label").splits[0]
    assert split.images == 4
    assert split.classes == {"cat": 3, "dog": 4}


def test_small_images_stay_on_the_disk(tmp_path):
    for number in range(4):
        write_image(tmp_path / "own" / "train" / "a" / f"{number}.png", number)
    split = look_at(f"folder:{tmp_path / 'own'}").splits[0]
    assert split.formats == {"PNG": 4}


def test_numbers_sorted_as_text():
    assert sorted_as_text(("0", "1", "10", "2"))
    assert not sorted_as_text(("00", "01", "02", "10"))
    assert not sorted_as_text(("cat", "dog", "emu"))
    assert not sorted_as_text(("1", "2"))


def test_real_images_in_order(tmp_path):
    data = shared_data()
    archive = data / "tiny-imagenet-hier100.tar.gz"
    import tarfile

    with tarfile.open(archive) as packed:
        members = [member for member in packed if member.name.endswith(".JPEG")][:400]
        packed.extractall(tmp_path, members, filter="data")
    root = next(tmp_path.glob("tiny*"))
    look = look_at(f"folder:{root}")
    assert sum(split.images for split in look.splits) == 400
    assert look.problems == []


# ---------------------------------------------------------------- the command


def run(*arguments: str):
    return CliRunner().invoke(app, ["data", *arguments])


def test_the_command(messy, tmp_path):
    shown = run(f"folder:{messy}")
    assert shown.exit_code == 0
    assert "46 images in 2 splits" in shown.stdout
    assert "2 images of train cannot be read" in shown.stdout
    assert run(f"folder:{messy}", "--strict").exit_code == 2


def test_strict_and_nothing_found(tmp_path):
    save(smooth(1), tmp_path / "own" / "a.png")
    assert run(f"folder:{tmp_path / 'own'}", "--strict").exit_code == 0


def test_json_is_the_look(messy):
    shown = run(f"folder:{messy}", "--json")
    assert msgspec.json.decode(shown.stdout.encode(), type=Look) == look_at(f"folder:{messy}")
    content = json.loads(shown.stdout)
    assert content["schema"] == "backbone-loop look 1"
    assert {finding["kind"] for finding in content["findings"]} >= {words.BAD, words.OVERLAP}


def test_mistakes_are_one_sentence(tmp_path):
    from zoo.data.inspection.look import look_at as look

    assert "is missing" in message_of(look, f"folder:{tmp_path / 'absent'}")
    save(smooth(1), tmp_path / "own" / "a.png")
    assert "is a folder" in message_of(write_page, tmp_path, look(f"folder:{tmp_path / 'own'}"))


def test_a_terminals_codes_are_spelled_out(tmp_path):
    save(smooth(1), tmp_path / "own" / "train" / "red\x1b[31m" / "a.png")
    save(smooth(2), tmp_path / "own" / "train" / "b" / "a.png")
    text = look_text(look_at(f"folder:{tmp_path / 'own'}"))
    assert "\x1b" not in text
    assert "\\x1b" in text or "1 of each" in text


# ---------------------------------------------------------------- the page


class Tags(HTMLParser):
    """The page's tags, checked to be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_one_file_with_its_pictures(messy, tmp_path):
    look = look_at(f"folder:{messy}")
    page = tmp_path / "look.html"
    write_page(page, look)
    text = page.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert len(tags.images) > 37
    assert all(source.startswith("data:image/jpeg;base64,") for source in tags.images)
    assert not re.search(r"(src|href)=\"?(https?:)?//", text)
    for finding in look.findings:
        assert finding.kind in text


def test_names_are_text_in_the_page(tmp_path):
    save(smooth(1), tmp_path / "own" / "train" / "<script>alert(1)<" / "a.png")
    text = page_text(look_at(f"folder:{tmp_path / 'own'}"))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_the_pictures_are_the_images(tmp_path):
    import base64
    import io

    save(Image.new("RGB", (50, 50), (200, 30, 30)), tmp_path / "own" / "a.png")
    tags = Tags()
    tags.feed(page_text(look_at(f"folder:{tmp_path / 'own'}")))
    shown = Image.open(io.BytesIO(base64.b64decode(tags.images[0].partition(",")[2])))
    assert np.abs(np.asarray(shown).astype(int) - (200, 30, 30)).max() <= 4
