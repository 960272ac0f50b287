"""STL-10's binary files."""

import numpy as np
from data_files import message_of
from torchvision.datasets import STL10

from zoo.data import open_data


def write_stl10(folder, train=3, test=2, unlabeled=5):
    """Files in the official layout, made value by value; returns the images (N, row, column, colour)."""
    folder.mkdir(parents=True)
    images = {}
    for seed, (split, count) in enumerate((("train", train), ("test", test), ("unlabeled", unlabeled))):
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
        images[split] = pixels
        file = bytearray()
        for image in pixels:
            for colour in range(3):
                for column in range(96):
                    file += image[:, column, colour].tobytes()
        (folder / f"{split}_X.bin").write_bytes(bytes(file))
    (folder / "train_y.bin").write_bytes(bytes([1, 10, 4][:train]))
    (folder / "test_y.bin").write_bytes(bytes([2, 3][:test]))
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n")
    return images


def test_planes_are_stored_column_by_column(tmp_path):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    file = np.zeros((2, 3 * 96 * 96), np.uint8)
    # Image 1, green, row 5, column 7: the second plane, seven columns of 96 values further, the fifth value.
    file[1, 96 * 96 + 7 * 96 + 5] = 200
    (folder / "train_X.bin").write_bytes(file.tobytes())
    (folder / "train_y.bin").write_bytes(bytes([1, 2]))
    pixels = open_data(f"stl10:{tmp_path}").role("train").pixels
    assert pixels[1, 5, 7, 1] == 200
    assert np.count_nonzero(pixels) == 1


def test_splits_and_roles(tmp_path, monkeypatch):
    images = write_stl10(tmp_path / "stl10_binary")
    data = open_data(f"stl10:{tmp_path}")
    assert data.roles == {"pretrain": "train+unlabeled", "train": "train", "test": "test"}
    train, test, pretrain = data.role("train"), data.role("test"), data.role("pretrain")
    np.testing.assert_array_equal(train.pixels, images["train"])
    np.testing.assert_array_equal(train.labels, [0, 9, 3])
    assert train.classes[9] == "truck"
    np.testing.assert_array_equal(test.labels, [1, 2])
    np.testing.assert_array_equal(pretrain.pixels, np.concatenate([images["train"], images["unlabeled"]]))
    assert pretrain.labels is None
    np.testing.assert_array_equal(data.split("unlabeled").pixels, images["unlabeled"])
    monkeypatch.setattr(STL10, "_check_integrity", lambda _: True)
    reference = STL10(str(tmp_path), split="test")
    np.testing.assert_array_equal(reference.data.transpose(0, 2, 3, 1), test.pixels)
    np.testing.assert_array_equal(reference.labels, test.labels)


def test_more_images_than_are_turned_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.data.sets.stl10._CHUNK", 2)
    images = write_stl10(tmp_path / "stl10_binary")
    pixels = open_data(f"stl10:{tmp_path / 'stl10_binary'}").role("pretrain").pixels
    np.testing.assert_array_equal(pixels, np.concatenate([images["train"], images["unlabeled"]]))


def test_damaged_files(tmp_path):
    folder = tmp_path / "stl10_binary"
    assert "train_X.bin is missing" in message_of(open_data, f"stl10:{tmp_path}")
    write_stl10(folder)
    (folder / "unlabeled_X.bin").unlink()
    (folder / "test_X.bin").write_bytes(bytes(27647))
    (folder / "train_y.bin").write_bytes(bytes([1, 2]))
    data = open_data(f"stl10:{tmp_path}")
    assert "unlabeled_X.bin is missing" in message_of(data.role, "pretrain")
    assert "27647 bytes, which is no multiple of 27648" in message_of(data.role, "test")
    assert "2 labels for 3 images" in message_of(data.role, "train")
    (folder / "train_y.bin").write_bytes(bytes([1, 0, 2]))
    assert "the label -1 (image #1)" in message_of(data.role, "train")
    (folder / "train_y.bin").write_bytes(bytes([1, 11, 2]))
    assert "0 .. 9" in message_of(data.role, "train")
    (folder / "train_X.bin").write_bytes(b"")
    assert "0 bytes" in message_of(data.role, "train")
