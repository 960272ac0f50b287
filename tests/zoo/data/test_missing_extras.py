"""What is said where an extra is not installed."""

import io

import numpy as np
import pytest
from data_files import message_of, write_image
from PIL import Image

from zoo.data import open_data
from zoo.data.images import BadImageError, Reading, decode_rgb, endings


def without(monkeypatch, *modules):
    """Make the named modules look as if they were not installed."""
    for place in modules:
        monkeypatch.setattr(f"{place}.find_spec", lambda _name: None)


def test_heic_without_its_extra_is_named(tmp_path, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra 'heif' is not installed, so there is no file to try it with")
    image = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    pillow_heif.from_pillow(image).save(tmp_path / "1.heic")
    write_image(tmp_path / "2.png", 1)
    data = (tmp_path / "1.heic").read_bytes()
    Image.init()  # or what it registers would be lost with the copy below
    without(monkeypatch, "zoo.data.images.endings")
    endings.read_endings.cache_clear()
    monkeypatch.setattr(Image, "OPEN", {name: opener for name, opener in Image.OPEN.items() if name != "HEIF"})
    try:
        opened = open_data(f"folder:{tmp_path}")
        assert [one.path for one in opened.unused] == [str(tmp_path / "1.heic")]
        assert "pip install 'backbone-loop[heif]'" in opened.unused[0].reason
        with pytest.raises(BadImageError, match="a HEIC image, which is read with an extra"):
            decode_rgb(data)
    finally:
        endings.read_endings.cache_clear()


def test_many_bands_without_the_extra(monkeypatch):
    tifffile = pytest.importorskip("tifffile", reason="the extra 'tiff' is not installed, so there is no file to try it with")
    data = io.BytesIO()
    tifffile.imwrite(data, np.zeros((4, 4, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    without(monkeypatch, "zoo.data.images.tiff")
    with pytest.raises(BadImageError, match=r"8-bit, 5 bands: such a TIFF is read with an extra: pip install 'backbone-loop\[tiff\]'"):
        decode_rgb(data.getvalue(), Reading(bands=(1, 2, 3)))


def test_tables_and_libraries(tmp_path, monkeypatch):
    without(monkeypatch, "zoo.data.own.table", "zoo.data.own.hugging_face")
    (tmp_path / "labels.parquet").write_bytes(b"PAR1")
    assert "pip install 'backbone-loop[parquet]'" in message_of(open_data, f"csv:{tmp_path / 'labels.parquet'},image=a")
    assert "pip install 'backbone-loop[hf]'" in message_of(open_data, f"hf:{tmp_path}")
