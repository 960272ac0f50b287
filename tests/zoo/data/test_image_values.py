"""What becomes of every kind of image, value by value, against NumPy."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from zoo.data.images import AS_SEEN, AS_STORED, BadImageError, Reading, decode_rgb, decoded, read_facts
from zoo.data.images.decode import header_size

GREY = np.random.default_rng(0).integers(0, 256, (6, 8), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
AS_RGB = np.repeat(GREY[..., None], 3, axis=2)


def encoded(pixels, kind="TIFF", **options):
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels, **options):
    tifffile = pytest.importorskip("tifffile", reason="the extra 'tiff' is not installed")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def pixels_of(data, reading=AS_STORED):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = decode_rgb(data, reading)
    assert type(image) is Image.Image
    assert image.mode == "RGB"
    return np.asarray(image)


def refusal(data, reading=AS_STORED):
    with pytest.raises(BadImageError) as caught:
        decode_rgb(data, reading)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF", "JPEG2000"])
def test_16_bits_give_the_same_pixels_as_8_by_their_high_byte_and_by_their_range(kind):
    deep = GREY.astype(np.uint16) * 257
    data = encoded(deep, kind)
    np.testing.assert_array_equal(pixels_of(data), AS_RGB)
    np.testing.assert_array_equal(pixels_of(data, Reading(range=(0, 65535))), AS_RGB)
    part = encoded(GREY.astype(np.uint16) * 16, kind)
    np.testing.assert_array_equal(pixels_of(part), AS_RGB >> 4)
    np.testing.assert_array_equal(pixels_of(part, Reading(range=(0, 4080))), AS_RGB)


def test_wide_signed_and_floating_values_need_their_range_and_then_give_the_8_bit_pixels():
    cases = [
        (encoded(GREY.astype(np.int32) * 1000 - 70000), (-70000, 185000), "32-bit signed, 1 band (mode I)"),
        (encoded((GREY / 255).astype(np.float32)), (0, 1), "32-bit float, 1 band (mode F)"),
        (encoded((GREY * 2.0 - 100).astype(np.float32)), (-100, 410), "mode F"),
    ]
    for data, span, named in cases:
        message = refusal(data)
        assert named in message
        assert "range=" in message
        np.testing.assert_array_equal(pixels_of(data, Reading(range=span)), AS_RGB)


def test_tiffs_that_need_the_extra_give_the_8_bit_pixels_too():
    cases = [
        (tiff(GREY.astype(np.uint32) * 2**24), (0, 255 * 2**24)),
        (tiff((GREY.astype(int) - 128).astype(np.int8)), (-128, 127)),
        (tiff((GREY.astype(int) * 200 - 20000).astype(np.int16)), (-20000, 31000)),
        (tiff(GREY / 255), (0, 1)),
        (tiff((GREY * 4.0).astype(np.float16)), (0, 1020)),
    ]
    for data, span in cases:
        assert "nothing says which values are black and white" in refusal(data)
        np.testing.assert_array_equal(pixels_of(data, Reading(range=span)), AS_RGB)


def test_values_beyond_the_range_are_clipped_and_no_number_is_refused():
    values = np.array([[-5.0, 0.0, 0.5, 1.0, np.inf]], dtype=np.float32)
    assert pixels_of(encoded(values), Reading(range=(0, 1)))[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    values[0, 2] = np.nan
    assert "some of its values are no numbers (NaN)" in refusal(encoded(values), Reading(range=(0, 1)))


def test_white_is_zero_equals_black_is_zero_of_the_negative():
    for bits, kind in ((8, np.uint8), (16, np.uint16)):
        values = np.random.default_rng(bits).integers(0, 1 << bits, (6, 8)).astype(kind)
        negative = ((1 << bits) - 1 - values).astype(kind)
        white = tiff(values, photometric="miniswhite")
        assert read_facts(white).white_is_zero
        np.testing.assert_array_equal(pixels_of(white), pixels_of(tiff(negative, photometric="minisblack")))
    span = Reading(range=(0, 4094))
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)[:, :63]
    negative = (4094 - np.minimum(values, 4094)).astype(np.uint16)
    np.testing.assert_array_equal(
        pixels_of(tiff(np.minimum(values, 4094), photometric="miniswhite"), span), pixels_of(tiff(negative), span)
    )


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
def test_a_tiffs_declared_bits_are_its_range(bits):
    pytest.importorskip("imagecodecs", reason="the extra 'tiff' is not installed")
    most = (1 << bits) - 1
    values = np.random.default_rng(bits).integers(0, most + 1, (6, 8)).astype(np.uint16)
    values[0, :2] = 0, most
    data = tiff(values, bitspersample=bits, metadata=None) if bits != 12 else packed_12_bits(values)
    assert read_facts(data).bits == bits
    expected = np.rint(values * 255.0 / most).astype(np.uint8)
    np.testing.assert_array_equal(pixels_of(data)[..., 1], expected)
    assert pixels_of(data)[0, :2, 0].tolist() == [0, 255]


def packed_12_bits(values):
    """A TIFF by hand: twelve bits a value, two values in three bytes, as TIFF 6.0 packs them."""
    rows = b"".join(
        bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for row in values.tolist() for a, b in zip(row[::2], row[1::2], strict=True)
    )
    height, width = values.shape
    tags = [(256, 3, width), (257, 3, height), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, height)]
    tags.append((279, 4, len(rows)))
    directory = len(tags).to_bytes(2, "little")
    for tag, kind, value in tags:
        directory += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
    return b"II*\0" + (8 + len(rows)).to_bytes(4, "little") + rows + directory + bytes(4)


def test_twelve_packed_bits_need_no_extra():
    values = np.random.default_rng(2).integers(0, 4096, (6, 8)).astype(np.uint16)
    np.testing.assert_array_equal(pixels_of(packed_12_bits(values))[..., 2], np.rint(values * 255.0 / 4095))


def test_sbit_of_a_png_changes_nothing():
    deep = GREY.astype(np.uint16) * 16
    plain = encoded(deep, "PNG")
    chunk = b"sBIT" + bytes([12])
    with_sbit = plain[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
    np.testing.assert_array_equal(pixels_of(with_sbit), pixels_of(plain))


def test_a_very_dark_image_without_a_range_is_noted():
    with decoded(encoded(np.full((4, 4), 4000, np.uint16), "PNG")) as made:
        assert "its largest value is 4000 of 65535" in made.note
        assert "range=0+4095" in made.note
    for values, reading in ((np.full((4, 4), 8192, np.uint16), AS_STORED), (np.full((4, 4), 4000, np.uint16), Reading(range=(0, 4095)))):
        with decoded(encoded(values, "PNG"), reading) as made:
            assert made.note == ""


def test_many_bands_are_refused_with_their_number_until_three_are_chosen():
    five = np.stack([GREY, GREY[::-1], GREY[:, ::-1], GREY // 2, 255 - GREY], axis=2)
    layouts = [
        tiff(five, photometric="minisblack", planarconfig="contig"),
        tiff(five, photometric="rgb", planarconfig="contig", extrasamples=(0, 0)),
        tiff(np.moveaxis(five, 2, 0).copy(), photometric="minisblack", planarconfig="separate"),
        tiff(five, photometric="minisblack", planarconfig="contig", compression="zlib"),
    ]
    for data in layouts:
        assert read_facts(data).bands == 5
        assert "8-bit, 5 bands" in refusal(data)
        assert "bands=" in refusal(data)
        np.testing.assert_array_equal(pixels_of(data, Reading(bands=(4, 3, 2))), five[..., [3, 2, 1]])
        np.testing.assert_array_equal(pixels_of(data, Reading(bands=(5,))), np.repeat(five[..., 4:], 3, axis=2))
        assert "it has no band 6" in refusal(data, Reading(bands=(6, 1, 1)))
    deep = tiff(five.astype(np.uint16) * 16, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(pixels_of(deep, Reading(range=(0, 4080), bands=(1, 2, 5))), five[..., [0, 1, 4]])
    # Red, green, blue and infrared: nothing says that the fourth is alpha.
    four = tiff(five[..., :4], photometric="rgb", planarconfig="contig", extrasamples=(0,))
    assert "4 bands" in refusal(four)


def test_bands_of_a_common_image():
    data = encoded(COLOUR, "PNG")
    np.testing.assert_array_equal(pixels_of(data, Reading(bands=(3, 2, 1))), COLOUR[..., ::-1])
    np.testing.assert_array_equal(pixels_of(encoded(GREY, "PNG"), Reading(bands=(1,))), AS_RGB)
    assert "it has no band 4" in refusal(data, Reading(bands=(4, 1, 2)))


def test_wide_colours():
    wide = COLOUR.astype(np.float32) / 255
    data = tiff(wide, photometric="rgb")
    assert "32-bit float, 3 bands" in refusal(data)
    np.testing.assert_array_equal(pixels_of(data, Reading(range=(0, 1))), COLOUR)
    deep = tiff(COLOUR.astype(np.uint16) * 257, photometric="rgb")
    np.testing.assert_array_equal(pixels_of(deep), COLOUR)
    np.testing.assert_array_equal(pixels_of(tiff(COLOUR.astype(np.uint16) * 16, photometric="rgb"), Reading(range=(0, 4080))), COLOUR)


def test_alpha_of_a_tiff_is_dropped():
    with_alpha = np.concatenate([COLOUR, GREY[..., None]], axis=2)
    np.testing.assert_array_equal(pixels_of(encoded(with_alpha)), COLOUR)
    np.testing.assert_array_equal(pixels_of(tiff(with_alpha, photometric="rgb", planarconfig="contig", extrasamples=(2,))), COLOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_a_picture_turned_by_exif_equals_the_turned_picture(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data, plain = encoded(COLOUR, kind, exif=exif, **lossless), encoded(COLOUR, kind, **lossless)
    stored = pixels_of(plain)
    np.testing.assert_array_equal(pixels_of(data, AS_STORED), stored)
    # By EXIF 2.3: which side of the stored picture is the top, which the left.
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    np.testing.assert_array_equal(pixels_of(data, AS_SEEN), turned)
    np.testing.assert_array_equal(turned, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")))
    assert header_size(data) == (8, 6)
    assert header_size(data, AS_SEEN) == turned.shape[1::-1]
    with decoded(data, AS_SEEN) as made:
        assert made.turned == (orientation != 1)


def test_an_orientation_behind_the_pixels_of_a_png_counts_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(COLOUR, "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(data[start : start + 4], "big")
    late = data[:start] + data[stop:-12] + data[start:stop] + data[-12:]
    np.testing.assert_array_equal(pixels_of(late), COLOUR)
    np.testing.assert_array_equal(pixels_of(late, AS_SEEN), np.rot90(COLOUR, -1))
    assert header_size(late, AS_SEEN) == (6, 8)
    assert read_facts(late).orientation == 6


def test_damaged_exif_is_no_reason_to_lose_a_picture():
    data = encoded(COLOUR, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f junk")
    np.testing.assert_array_equal(pixels_of(data, AS_SEEN), COLOUR)


def test_facts_count_pages_and_frames():
    pages = [Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in (1, 100, 250)]
    for kind in ("TIFF", "GIF", "WEBP", "PNG"):
        data = encoded(pages[0], kind, save_all=True, append_images=pages[1:])
        facts = read_facts(data)
        assert (facts.format, facts.frames, facts.seen_size) == (kind, 3, (5, 4))
        if kind in ("TIFF", "PNG"):
            np.testing.assert_array_equal(pixels_of(data), np.full((4, 5, 3), 1))
    many = tiff(np.zeros((2, 4, 5, 6), np.uint8), photometric="minisblack", planarconfig="contig")
    facts = read_facts(many)
    assert (facts.mode, facts.frames, facts.bands) == ("", 2, 6)


def test_facts_of_common_images():
    facts = read_facts(encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"))
    assert (facts.format, facts.mode, facts.bands, facts.alpha, facts.deep) == ("JPEG", "CMYK", 4, False, False)
    facts = read_facts(encoded(np.dstack([COLOUR, GREY]), "PNG"))
    assert (facts.mode, facts.bands, facts.alpha) == ("RGBA", 4, True)
    facts = read_facts(encoded(Image.fromarray(GREY).convert("1"), "PNG"))
    assert (facts.mode, facts.bits) == ("1", 1)


def test_avif_and_jpeg_2000_are_read():
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    smooth = np.broadcast_to(np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None], (32, 32, 3))
    assert np.abs(pixels_of(encoded(smooth.copy(), "AVIF", quality=100)).astype(int) - smooth).max() <= 4


def test_heic_is_read_by_its_extra_and_named_without():
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra 'heif' is not installed")
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (64, 64, 3)).copy()
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(smooth)).save(buffer, quality=100)
    assert np.abs(pixels_of(buffer.getvalue()).astype(int) - smooth).max() <= 6


def test_what_is_no_image_says_so():
    assert refusal(b"") == "the file is empty"
    assert refusal(b"<html>404</html>") == "not an image, or of an unknown format"
    assert "format PSD" in refusal(b"8BPS\0\1" + bytes(100))
    assert "TIFF" in refusal(b"II*\0" + bytes(100))
    # A program that Pillow would start for it is not started.
    assert refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n") == "not an image, or of an unknown format"
