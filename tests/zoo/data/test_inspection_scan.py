"""Facts of images: what they say, that they are kept, and that a changed file is looked at again."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
from data_files import noise, write_image
from PIL import Image

from zoo.data import ArrayImages, FileImages, find_bad_images
from zoo.data.entries import FileEntry
from zoo.data.images import AS_SEEN, AS_STORED
from zoo.data.inspection.facts import FactTable
from zoo.data.inspection.files_state import FilesState
from zoo.data.inspection.kept import facts_file, kept_folder
from zoo.data.inspection.scan import scan_images
from zoo.data.inspection.thumbnails import grey_of, thumbnail


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))


def images_of(paths, reading=AS_STORED, split="train") -> FileImages:
    return FileImages("folder", split, [FileEntry(str(path)) for path in paths], {}, reading=reading)


def photograph(path, size=(40, 30), orientation=None, mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(noise(len(path.name), 6)).resize(size, Image.Resampling.BICUBIC).convert(mode)
    exif = image.getexif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif, **options)
    return path


def test_a_row_says_what_pillow_and_hashlib_say(tmp_path):
    path = photograph(tmp_path / "set" / "one.jpg")
    row = scan_images(images_of([path])).table.rows[0]
    with Image.open(path) as image:
        small = grey_of(np.asarray(thumbnail(image.convert("RGB"))))
    assert row["digest"].tobytes() == hashlib.sha256(path.read_bytes()).digest()[:16]
    assert np.array_equal(row["thumbnail"], small)
    assert (row["width"], row["height"], row["bytes"], row["orientation"], row["frames"]) == (40, 30, path.stat().st_size, 1, 1)


def test_formats_modes_frames_and_grey(tmp_path):
    folder = tmp_path / "set"
    paths = [
        photograph(folder / "a.jpg"),
        photograph(folder / "b.png", mode="L"),
        photograph(folder / "c.png", mode="P"),
        photograph(folder / "d.tif"),
        photograph(folder / "ee.gif", save_all=True, append_images=[Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")]),
        write_image(folder / "f.png", np.repeat(noise(9, 8, 1), 3, axis=2)),
    ]
    table = scan_images(images_of(paths)).table
    assert [table.word("format", row) for row in range(6)] == ["JPEG", "PNG", "PNG", "TIFF", "GIF", "PNG"]
    assert [table.word("mode", row) for row in range(4)] == ["RGB", "L", "P", "RGB"]
    assert table.rows["frames"].tolist() == [1, 1, 1, 1, 3, 1]
    assert table.rows["grey"].tolist() == [False, True, False, False, False, True]


def test_a_colour_in_one_pixel_is_no_grey(tmp_path):
    pixels = np.full((64, 64, 3), 90, dtype=np.uint8)
    pixels[5, 7] = (90, 90, 91)
    table = scan_images(images_of([write_image(tmp_path / "a.png", pixels)])).table
    assert not table.rows["grey"][0]


def test_orientation_is_told_and_applied_as_the_reading_says(tmp_path):
    path = photograph(tmp_path / "set" / "turned.jpg", orientation=6)
    for reading, size in ((AS_SEEN, [30, 40]), (AS_STORED, [40, 30])):
        table = scan_images(images_of([path], reading)).table
        assert table.rows["orientation"][0] == 6
        assert table.rows["turned"][0] == (reading is AS_SEEN)
        assert table.seen_sizes.tolist() == [size]


def test_images_in_memory_are_looked_at_too():
    pixels = np.stack([noise(0), np.repeat(noise(1, 8, 1), 3, axis=2)])
    scan = scan_images(ArrayImages("own", "train", pixels, {}))
    assert scan.table.rows["grey"].tolist() == [False, True]
    assert scan.table.rows["digest"][0].tobytes() == hashlib.sha256(pixels[0].tobytes()).digest()[:16]
    assert scan.state is None


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_images_have_their_reasons_whoever_looks(tmp_path, workers):
    paths = [write_image(tmp_path / "set" / f"{number:03}.png", number) for number in range(150)]
    paths[70].write_bytes(paths[70].read_bytes()[:60])
    paths[149].write_bytes(b"")
    paths.append(tmp_path / "set" / "absent.png")
    bad = find_bad_images(images_of(paths), workers=workers)
    assert [(one.index, one.where) for one in bad] == [(70, str(paths[70])), (149, str(paths[149])), (150, str(paths[150]))]
    assert bad[1].reason == "the file is empty"
    assert bad[2].reason == "No such file or directory"


def test_processes_give_the_rows_of_one_process(tmp_path):
    paths = [photograph(tmp_path / "set" / f"{'x' * (number % 7)}{number}.jpg", size=(30 + number, 40)) for number in range(150)]
    one, two = (scan_images(images_of(paths), workers=workers, again=True).table for workers in (1, 3))
    assert np.array_equal(one.rows, two.rows)
    assert one.words == two.words


def test_what_is_known_is_not_decoded_again(tmp_path):
    paths = [write_image(tmp_path / "set" / f"{number}.png", number) for number in range(8)]
    first = scan_images(images_of(paths))
    second = scan_images(images_of(paths))
    assert (first.decoded, second.decoded) == (8, 0)
    assert np.array_equal(first.table.rows, second.table.rows)
    assert scan_images(images_of(paths), again=True).decoded == 8


def test_a_changed_a_new_and_a_removed_file(tmp_path):
    paths = [write_image(tmp_path / "set" / f"{number}.png", number) for number in range(6)]
    scan_images(images_of(paths))
    write_image(paths[2], 77)
    os.utime(paths[2], ns=(1, 1))  # of another time, if by chance of the same size
    new = write_image(tmp_path / "set" / "9.png", 9)
    now = [*paths[1:], new]
    scan = scan_images(images_of(now))
    assert scan.decoded == 2
    assert [row["digest"].tobytes() for row in scan.table.rows] == [hashlib.sha256(path.read_bytes()).digest()[:16] for path in now]


def test_another_reading_is_another_look(tmp_path):
    paths = [photograph(tmp_path / "set" / "turned.jpg", orientation=6)]
    assert scan_images(images_of(paths, AS_SEEN)).decoded == 1
    assert scan_images(images_of(paths, AS_STORED)).decoded == 1


def test_a_damaged_file_of_facts_is_none(tmp_path):
    images = images_of([write_image(tmp_path / "set" / "0.png", 0)])
    scan_images(images)
    for content in (b"", b"PK\x03\x04 nonsense", os.urandom(300)):
        facts_file(images, images.reading).write_bytes(content)
        assert scan_images(images).decoded == 1


def test_a_look_without_a_place_to_keep_it_still_looks(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file"))
    scan = scan_images(images_of([write_image(tmp_path / "set" / "0.png", 0)]))
    assert not scan.table.bad.any()
    assert "cannot be written" in scan.not_kept


def test_facts_lie_below_the_home(tmp_path):
    scan_images(images_of([write_image(tmp_path / "set" / "0.png", 0)]))
    assert [path.suffix for path in kept_folder().iterdir()] == [".npz"]
    assert kept_folder().is_relative_to(tmp_path / "home")


def test_the_state_is_that_of_the_file_system(tmp_path):
    path = write_image(tmp_path / "0.png", 0)
    state = FilesState.of(images_of([path, tmp_path / "absent.png"]))
    assert state.sizes.tolist() == [path.stat().st_size, -1]
    assert state.times.tolist() == [path.stat().st_mtime_ns, -1]
    digest = state.digest()
    os.utime(path, ns=(5, 5))
    assert FilesState.of(images_of([path, tmp_path / "absent.png"])).digest() != digest


def test_joined_tables_keep_their_words():
    from zoo.data.inspection.facts import FactCollector

    tables = []
    for reasons in (["empty", "no image"], ["no image", "torn"]):
        collector = FactCollector()
        for reason in reasons:
            collector.unreadable(reason)
        tables.append(collector.table())
    joined = FactTable.join(tables)
    assert [joined.word("reason", row) for row in range(4)] == ["empty", "no image", "no image", "torn"]
    assert joined.counts("reason") == {"no image": 2, "empty": 1, "torn": 1}
