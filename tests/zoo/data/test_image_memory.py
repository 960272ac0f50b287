"""Memory stays bounded, whatever the files say."""

import io
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from zoo.data.entries import READ_WHOLE, FileEntry
from zoo.data.images import BadImageError, Reading, decode_rgb
from zoo.data.images import decode as layer

SIDE = 13_300
MOST_ADDED = 1.6e9
PROGRAM = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from zoo.data import open_data

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

images = open_data(sys.argv[1]).role("pretrain")
before, peak, running = resident(), [0], [True]

def watch():
    while running[0]:
        peak[0] = max(peak[0], resident())
        time.sleep(0.005)

def read(index):
    return images.read(index).size

watching = threading.Thread(target=watch)
watching.start()
with ThreadPoolExecutor(16) as pool:
    sizes = set(pool.map(read, range(len(images))))
running[0] = False
watching.join()
assert sizes == {(13300, 13300)}, sizes
print(peak[0] - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["jpeg", "16 bits", "float"])
def test_eight_large_files_on_16_threads(tmp_path, kind):
    tile = np.random.default_rng(0).integers(0, 256, (133, 1330), dtype=np.uint8)
    pixels = np.tile(tile, (100, 10))
    if kind == "jpeg":
        path, options = tmp_path / "0.jpg", {"quality": 50}
    elif kind == "16 bits":
        path, options, pixels = tmp_path / "0.png", {"compress_level": 1}, pixels.astype(np.uint16) * 257
    else:
        path, options, pixels = tmp_path / "0.tif", {}, pixels.astype(np.float32) / 255
    Image.fromarray(pixels).save(path, **options)
    del pixels
    for index in range(1, 8):
        (tmp_path / f"{index}{path.suffix}").hardlink_to(path)
    spec = f"folder:{tmp_path}" + (",range=0+1" if kind == "float" else "")
    done = subprocess.run([sys.executable, "-c", PROGRAM, spec], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    added = int(done.stdout)
    assert 0.7e9 < added < MOST_ADDED


def test_one_large_image_at_a_time(monkeypatch):
    monkeypatch.setattr(layer, "LARGE", 100)
    data = io.BytesIO()
    Image.new("RGB", (20, 20)).save(data, "PNG")
    inside, most, lock = [0], [0], threading.Lock()
    plain = layer._plain

    def counted(image):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        made = plain(image)
        with lock:
            inside[0] -= 1
        return made

    monkeypatch.setattr(layer, "_plain", counted)

    def read():
        for _ in range(20):
            with layer.decoded(data.getvalue()) as made:
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                assert made.image.size == (20, 20)
                with lock:
                    inside[0] -= 1

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_the_gate_opens_after_a_damaged_large_image(monkeypatch):
    monkeypatch.setattr(layer, "LARGE", 100)
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(data, "PNG")
    for _ in range(2):
        with pytest.raises(BadImageError, match="truncated"):
            decode_rgb(data.getvalue()[:2000])
    assert decode_rgb(data.getvalue()).size == (40, 40)


def test_bands_count_towards_the_limit(monkeypatch):
    tifffile = pytest.importorskip("tifffile", reason="the extra 'tiff' is not installed")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    data = io.BytesIO()
    tifffile.imwrite(data, np.zeros((10, 10, 40), np.uint16), photometric="minisblack", planarconfig="contig")
    with pytest.raises(BadImageError, match="10 x 10 pixels of 40 bands exceed the limit of 400 pixels"):
        decode_rgb(data.getvalue(), Reading(bands=(1, 2, 3)))


def test_a_file_that_is_too_large_to_be_read_at_once(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.bmp")
    size = (tmp_path / "x.bmp").stat().st_size
    assert size > READ_WHOLE
    (tmp_path / "shard").write_bytes(bytes(513) + (tmp_path / "x.bmp").read_bytes() + b"more")
    for entry in (FileEntry(str(tmp_path / "x.bmp")), FileEntry(str(tmp_path / "shard"), 513, size, "x.bmp")):
        with entry.opened() as source:
            assert not isinstance(source, bytes)
        with entry.decoded() as made:
            np.testing.assert_array_equal(np.asarray(made.image), pixels)
    cut = FileEntry(str(tmp_path / "shard"), 513, size - 1000, "x.bmp")
    with pytest.raises(BadImageError, match="truncated"), cut.decoded():
        pass
