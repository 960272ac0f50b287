"""Small sets by torchvision's classes: their layouts, and fetching them from an address on this machine."""

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from data_files import message_of, noise, write_image
from torchvision import datasets

from zoo.data import download_data, open_data
from zoo.data.sets.torchvision_sets import FETCHED, ROWS


def idx(array):
    """An array of unsigned bytes as MNIST's files hold it."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape) + array.tobytes()


def mnist_files(seed=0):
    """Name -> content of the four files, of five training and three test images."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for prefix, count in (("train", 5), ("t10k", 3)):
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    return arrays


@pytest.fixture
def address(tmp_path, monkeypatch):
    """A server with Fashion-MNIST's archives, in the place of the official one; the checksums are theirs."""
    folder = tmp_path / "served"
    folder.mkdir()
    resources = []
    for name, array in mnist_files().items():
        content = gzip.compress(idx(array))
        (folder / f"{name}.gz").write_bytes(content)
        resources.append((f"{name}.gz", hashlib.md5(content, usedforsecurity=False).hexdigest()))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_fetched_set_is_what_was_served(address, tmp_path):
    spec = f"fashion-mnist:{tmp_path / 'new' / 'set'}"
    assert "--download fetches it from its official address" in message_of(open_data, spec)
    download_data(spec)
    files = mnist_files()
    for role, prefix in (("train", "train"), ("test", "t10k")):
        images = open_data(spec).role(role)
        np.testing.assert_array_equal(images.pixels[..., 1], files[f"{prefix}-images-idx3-ubyte"])
        np.testing.assert_array_equal(images.labels, files[f"{prefix}-labels-idx1-ubyte"])
    for path in address.iterdir():
        path.unlink()
    download_data(spec)  # nothing is fetched twice


def test_a_damaged_archive_is_refused(address, tmp_path):
    path = address / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "fashion-mnist could not be fetched into" in message_of(download_data, f"fashion-mnist:{tmp_path / 'set'}")


def test_what_is_not_fetched(tmp_path):
    assert "is not fetched by --download; these are: cifar10, " in message_of(download_data, f"imagenet:{tmp_path}")
    assert "needs the folder to fetch it into" in message_of(download_data, "cifar10")


@pytest.mark.parametrize("name", FETCHED)
def test_without_it_the_message_names_the_option(name, tmp_path):
    for spec in (name, f"{name}:{tmp_path / 'gone'}", f"{name}:{tmp_path}"):
        message = message_of(lambda spec=spec: open_data(spec).role("train"))
        assert "--download fetches it from its official address" in message


@pytest.mark.parametrize("name", ["mnist", "kmnist"])
def test_idx_files_in_torchvisions_layout(name, tmp_path):
    raw = tmp_path / ROWS[name].dataset / "raw"
    raw.mkdir(parents=True)
    files = mnist_files(3)
    for file, array in files.items():
        (raw / file).write_bytes(idx(array))
    data = open_data(f"{name}:{tmp_path}")
    assert data.image_size == 28
    for role, prefix in (("train", "train"), ("test", "t10k")):
        images = data.role(role)
        np.testing.assert_array_equal(images.pixels[..., 2], files[f"{prefix}-images-idx3-ubyte"])
        np.testing.assert_array_equal(images.labels, files[f"{prefix}-labels-idx1-ubyte"])


def test_a_set_of_large_images_is_read_when_it_is_asked_for(tmp_path):
    root = tmp_path / "dtd" / "dtd"
    (root / "labels").mkdir(parents=True)
    for split, seeds in (("train", (0, 1, 2)), ("test", (3, 4))):
        lines = []
        for seed in seeds:
            kind = ("banded", "dotted")[seed % 2]
            write_image(root / "images" / kind / f"{kind}_{seed}.png", seed, side=100)
            lines.append(f"{kind}/{kind}_{seed}.png\n")
        (root / "labels" / f"{split}1.txt").write_text("".join(lines))
    data = open_data(f"dtd:{tmp_path}")
    train, test = data.role("train"), data.role("test")
    assert train.classes == ("banded", "dotted")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 0], [1, 0])
    np.testing.assert_array_equal(np.asarray(test.read(1)), noise(4, 100))
    assert data.image_size is None
