"""Images that cannot be decoded, and pixel formats that are not RGB."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from data_files import message_of, noise, write_image
from PIL import Image

from zoo.data import ArrayImages, FileImages, check_images, find_bad_images, open_data, without_bad_images
from zoo.data.images import decode_rgb


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 30000 x 30000 pixels."""
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def damaged(root, side):
    """Twelve images of which five are bad; the paths of these, and of the good ones."""
    for index in range(10):
        write_image(root / f"{index}.png", index, side)
    Image.fromarray(noise(1, side)).save(root / "1.jpg")
    whole = (root / "1.jpg").read_bytes()
    (root / "1.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (root / "3.png").write_text("<html>404</html>")
    (root / "4.png").write_bytes(b"")
    (root / "7.png").write_bytes(bomb())
    (root / "8x.png").symlink_to(root / "gone.png")
    bad = ["1.jpg", "3.png", "4.png", "7.png", "8x.png"]
    good = sorted({entry.name for entry in os.scandir(root)} - set(bad))
    return [str(root / name) for name in bad], [str(root / name) for name in good]


def names(images):
    return [images.where(index) for index in range(len(images))]


@pytest.mark.parametrize("workers", [1, 3])
def test_bad_files_are_found_with_their_reason(tmp_path, workers):
    bad_names, good_names = damaged(tmp_path, side=100)
    images = open_data(f"folder:{tmp_path}").role("pretrain")
    assert isinstance(images, FileImages)
    calls = []
    bad = find_bad_images(images, progress=lambda done, total: calls.append((done, total)), workers=workers)
    assert [one.where for one in bad] == bad_names
    assert [images.where(one.index) for one in bad] == bad_names
    reasons = [one.reason for one in bad]
    assert "truncated" in reasons[0]
    assert reasons[1] == "not an image, or of an unknown format"
    assert reasons[2] == "the file is empty"
    assert "decompression bomb" in reasons[3]
    assert reasons[4] == "No such file or directory"
    assert calls[-1] == (12, 12)
    kept = without_bad_images(images, bad)
    assert names(kept) == good_names
    assert kept.skipped == tuple(bad_names)
    assert find_bad_images(kept) == []
    assert len(images) == 12


def test_check_images_refuses_or_skips(tmp_path):
    bad_names, good_names = damaged(tmp_path, side=100)
    images = open_data(f"folder:{tmp_path}").role("pretrain")
    message = message_of(check_images, images)
    assert "5 of 12 images" in message
    assert bad_names[0] in message
    assert "--skip-bad-images" in message
    kept = check_images(images, "skip")
    assert names(kept) == good_names
    assert kept.skipped == tuple(bad_names)
    assert bad_names[1] in message_of(images.read, names(images).index(bad_names[1]))


def test_small_images_are_checked_when_they_are_loaded(tmp_path):
    bad_names, good_names = damaged(tmp_path, side=8)
    message = message_of(open_data, f"folder:{tmp_path}")
    assert "5 of 12 images" in message
    assert bad_names[0] in message
    images = open_data(f"folder:{tmp_path}", on_bad="skip").role("pretrain")
    assert isinstance(images, ArrayImages)
    assert images.skipped == tuple(bad_names)
    assert names(images) == good_names
    for index, path in enumerate(good_names):
        np.testing.assert_array_equal(images.pixels[index], np.asarray(Image.open(path).convert("RGB")))
    assert find_bad_images(images) == []
    assert check_images(images) is images
    assert images.subset(np.array([0])).skipped == tuple(bad_names)


def test_labels_stay_with_their_images(tmp_path):
    for split in ("train", "val"):
        for label, name in enumerate("ab"):
            for index in range(3):
                write_image(tmp_path / split / name / f"{index}.png", 10 * label + index)
    (tmp_path / "train" / "a" / "1.png").write_bytes(b"junk")
    images = open_data(f"folder:{tmp_path}", on_bad="skip").role("train")
    np.testing.assert_array_equal(images.labels, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(images.pixels[1], noise(2))
    np.testing.assert_array_equal(images.pixels[2], noise(10))


def test_only_bad_images_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "1.png").write_bytes(b"junk")
    images = open_data(f"folder:{tmp_path}", on_bad="skip").role("pretrain")
    assert "1 of 1 images" in message_of(check_images, images, "skip")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read every file")
def test_an_unreadable_file_is_bad(tmp_path):
    write_image(tmp_path / "1.png", 1, side=100).chmod(0)
    write_image(tmp_path / "2.png", 2, side=100)
    bad = find_bad_images(open_data(f"folder:{tmp_path}").role("pretrain"))
    assert [(one.index, one.reason) for one in bad] == [(0, "Permission denied")]


def test_a_failure_of_the_user_of_an_image_ends_the_scan(tmp_path):
    from zoo.data.scan import decode_all

    for index in range(3):
        write_image(tmp_path / f"{index}.png", index, side=100)

    def fail(index, _image):
        if index == 1:
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        decode_all(open_data(f"folder:{tmp_path}").role("pretrain"), fail)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = decode_rgb(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_grey_alpha_and_palette_images_become_rgb():
    grey = noise(1, channels=1)[..., 0]
    colour = noise(2, channels=4)
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(rgb(encoded(Image.fromarray(grey), "PNG")), as_rgb)
    np.testing.assert_array_equal(rgb(encoded(Image.fromarray(np.stack([grey, grey.T], axis=2)), "PNG")), as_rgb)
    np.testing.assert_array_equal(rgb(encoded(Image.fromarray(colour), "PNG")), colour[..., :3])
    bits = Image.fromarray(grey).convert("1")
    np.testing.assert_array_equal(rgb(encoded(bits, "PNG"))[..., 0], np.asarray(bits) * 255)
    palette = Image.fromarray(grey % 4).copy()
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7])
    table = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], dtype=np.uint8)
    np.testing.assert_array_equal(rgb(encoded(palette, "PNG")), table[grey % 4])
    # Transparency as one value per entry: Pillow warns on the direct way.
    np.testing.assert_array_equal(rgb(encoded(palette, "PNG", transparency=bytes([0, 128, 255, 255]))), table[grey % 4])


def test_inks_become_light():
    inks = noise(3, channels=4)
    light = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    assert np.abs(rgb(encoded(Image.frombytes("CMYK", (8, 8), inks.tobytes()), "TIFF")) - light).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF"])
def test_grey_images_of_16_bits_keep_their_high_byte(kind):
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1023
    np.testing.assert_array_equal(rgb(encoded(Image.fromarray(deep), kind))[..., 1], deep >> 8)


def test_exif_orientation_is_not_applied():
    image = Image.fromarray(noise(4)[:6])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert rgb(encoded(image, "JPEG", exif=exif)).shape == (6, 8, 3)
