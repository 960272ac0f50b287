"""Fashion-MNIST's idx files."""

import gzip
import struct

import numpy as np
import pytest
from data_files import message_of

from zoo.data import open_data


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.astype(np.uint8).tobytes()


def write(folder, count=4, compress=True):
    folder.mkdir(parents=True)
    arrays = {}
    for seed, prefix in enumerate(("train", "t10k")):
        grey = np.random.default_rng(seed).integers(0, 256, (count, 28, 28))
        labels = np.arange(count) + seed
        for name, values in ((f"{prefix}-images-idx3-ubyte", grey), (f"{prefix}-labels-idx1-ubyte", labels)):
            content = idx(values)
            (folder / (f"{name}.gz" if compress else name)).write_bytes(gzip.compress(content) if compress else content)
        arrays[prefix] = (grey, labels)
    return arrays


@pytest.mark.parametrize(("inner", "compress"), [(".", True), ("FashionMNIST/raw", False)])
def test_images_and_labels(tmp_path, inner, compress):
    arrays = write(tmp_path / "root" / inner, compress=compress)
    data = open_data(f"fashion-mnist:{tmp_path / 'root'}")
    for role, prefix in (("train", "train"), ("test", "t10k")):
        images = data.role(role)
        np.testing.assert_array_equal(images.pixels, np.stack([arrays[prefix][0]] * 3, axis=-1))
        np.testing.assert_array_equal(images.labels, arrays[prefix][1])
    assert data.role("train").classes[9] == "Ankle boot"


def test_damaged_files(tmp_path):
    write(tmp_path / "a", compress=False)
    path = tmp_path / "a" / "train-images-idx3-ubyte"
    data = open_data(f"fashion-mnist:{tmp_path / 'a'}")
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b"x", b"", whole[:6], b"\0\0\x0d" + whole[3:]):
        path.write_bytes(content)
        assert f"{path} is no complete idx file" in message_of(data.role, "train")
    path.write_bytes(idx(np.zeros((4, 27, 28))))
    assert "28x28" in message_of(data.role, "train")
    path.unlink()
    assert "(or train-images-idx3-ubyte.gz) is missing" in message_of(open_data, f"fashion-mnist:{tmp_path / 'a'}")
    (tmp_path / "a" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(whole)[:50])
    assert "cannot be read" in message_of(data.role, "train")
    (tmp_path / "a" / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(3)))
    assert "3 labels for 4 images" in message_of(data.role, "test")
