"""CIFAR-10 and CIFAR-100 in all three layouts, and the reading of their pickles."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import message_of, noise, write_image
from PIL import Image
from torchvision.datasets import CIFAR10 as TorchvisionCifar10

from zoo.data import open_data
from zoo.data.sets.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES
from zoo.reading.plain_pickle import load_plain_pickle

# The 20 superclass numbers of the 100 classes, as widely published; the table in the code is written by names.
COARSE_OF_FINE = [
    *[4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10],
    *[12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12],
    *[1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13],
]


def images(first: int, count: int):
    return np.stack([noise(first + index, 32) for index in range(count)])


def rows(pixels):
    """The official rows of 3072 bytes: all red values, all green, all blue."""
    return np.array([[image[row, column, colour] for colour in range(3) for row in range(32) for column in range(32)] for image in pixels])


def write_cifar10_pickles(root: Path, protocol: int = 2) -> dict[str, tuple]:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    sets = {}
    for number, name in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]):
        pixels = images(10 * number, 2 if number < 5 else 10)
        labels = [(number + index) % 10 for index in range(len(pixels))]
        sets[name] = (pixels, labels)
        content = {"data": rows(pixels), "labels": labels, "batch_label": name, "filenames": [f"{index}.png" for index in labels]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10_CLASSES)}, protocol=protocol))
    return sets


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_hold_planes_row_by_row(tmp_path, protocol, monkeypatch):
    sets = write_cifar10_pickles(tmp_path, protocol)
    data = open_data(f"cifar10:{tmp_path}")
    train, test = data.role("train"), data.role("test")
    expected = np.concatenate([sets[f"data_batch_{number}"][0] for number in range(1, 6)])
    np.testing.assert_array_equal(train.pixels, expected)
    np.testing.assert_array_equal(train.labels, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5])
    np.testing.assert_array_equal(test.pixels, sets["test_batch"][0])
    assert train.classes == CIFAR10_CLASSES
    assert data.image_size == 32
    assert data.roles == {"pretrain": "train", "train": "train", "test": "test"}
    # torchvision reads the same files in the same way, once its checksums (of the official files) are set aside.
    monkeypatch.setattr(TorchvisionCifar10, "_check_integrity", lambda _: True)
    monkeypatch.setattr(TorchvisionCifar10, "_load_meta", lambda _: None)
    reference = TorchvisionCifar10(tmp_path, train=False)
    np.testing.assert_array_equal(reference.data, test.pixels)
    np.testing.assert_array_equal(reference.targets, test.labels)
    # The inner folder may be named as well.
    assert open_data(f"cifar10:{tmp_path / 'cifar-10-batches-py'}").role("test").fingerprint() == test.fingerprint()


def test_all_layouts_give_the_same_data(tmp_path):
    pixels = {"train": images(0, 20), "test": images(50, 10)}
    labels = {"train": np.arange(20)[::-1] % 10, "test": np.arange(10)[::-1]}
    np.savez(tmp_path / "cifar10.npz", xtr=pixels["train"], ytr=labels["train"], xte=pixels["test"], yte=labels["test"])
    folders = tmp_path / "folders"
    for split in pixels:
        for index, (image, label) in enumerate(zip(pixels[split], labels[split], strict=True)):
            write_image(folders / split / CIFAR10_CLASSES[label] / f"{index:05d}.png", image)
    archive = open_data(f"cifar10:{tmp_path}")
    unpacked = open_data(f"cifar10:{folders}")
    for role in ("train", "test"):
        np.testing.assert_array_equal(archive.role(role).pixels, pixels[role])
        np.testing.assert_array_equal(archive.role(role).labels, labels[role])
        assert unpacked.role(role).fingerprint() == archive.role(role).fingerprint()
    assert unpacked.role("test").where(0) == str(folders / "test" / "truck" / "00000.png")
    # Names that are not the official numbers stay in sorted order.
    (folders / "test" / "airplane" / "00009.png").rename(folders / "test" / "airplane" / "a.png")
    np.testing.assert_array_equal(open_data(f"cifar10:{folders}").role("test").labels, np.arange(10))


def test_npz_comes_before_other_layouts(tmp_path):
    write_cifar10_pickles(tmp_path)
    pixels = images(90, 3)
    np.savez(tmp_path / "cifar10.npz", xtr=pixels, ytr=[1, 2, 3], xte=pixels, yte=[1, 2, 3])
    np.testing.assert_array_equal(open_data(f"cifar10:{tmp_path}").role("train").pixels, pixels)


def write_cifar100_pickles(root: Path, coarse: bool = True) -> None:
    for name, count in (("train", 100), ("test", 3)):
        fine = list(range(100))[::-1][:count]
        content = {"data": rows(images(0, count)), "fine_labels": fine}
        if coarse:
            content["coarse_labels"] = [COARSE_OF_FINE[label] for label in fine]
        (root / name).write_bytes(pickle.dumps(content, protocol=2))


def test_cifar100_superclasses_from_the_file_and_from_the_table(tmp_path):
    (tmp_path / "a").mkdir()
    write_cifar100_pickles(tmp_path / "a")
    data = open_data(f"cifar100:{tmp_path / 'a'}")
    train = data.role("train")
    assert list(train.levels) == ["superclass", "class"]
    np.testing.assert_array_equal(train.labels, np.arange(100)[::-1])
    np.testing.assert_array_equal(train.levels["superclass"].labels, COARSE_OF_FINE[::-1])
    assert train.levels["superclass"].classes[COARSE_OF_FINE[8]] == "vehicles_1"
    assert train.classes[:3] == ("apple", "aquarium_fish", "baby")
    assert train.classes[99] == "worm"
    (tmp_path / "b").mkdir()
    write_cifar100_pickles(tmp_path / "b", coarse=False)
    assert open_data(f"cifar100:{tmp_path / 'b'}").role("train").fingerprint() == train.fingerprint()
    for split in ("train", "test"):
        for label, name in enumerate(CIFAR100_CLASSES):
            write_image(tmp_path / "c" / split / name / "0.png", noise(99 - label, 32))
    folders = open_data(f"cifar100:{tmp_path / 'c'}").role("train")
    np.testing.assert_array_equal(folders.levels["superclass"].labels, COARSE_OF_FINE)
    np.testing.assert_array_equal(folders.pixels, train.pixels[::-1])


def test_statistics_are_the_published_ones(tmp_path):
    write_cifar10_pickles(tmp_path)
    data = open_data(f"cifar10:{tmp_path}")
    assert (data.mean, data.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def test_damaged_and_foreign_files(tmp_path):
    assert "holds no cifar10" in message_of(open_data, f"cifar10:{tmp_path}")
    write_cifar10_pickles(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    data = open_data(f"cifar10:{tmp_path}")
    batch = folder / "data_batch_2"
    whole = batch.read_bytes()
    for content, expected in (
        (whole[: len(whole) // 2], "no readable pickle"),
        (b"", "no readable pickle"),
        (pickle.dumps([1, 2]), "no CIFAR batch"),
        (pickle.dumps({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}, 2), "3072"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, 2), "0 .. 9"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, 2), "1 labels for 2 images"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0, 1]}, 2), "has no 'labels'"),
    ):
        batch.write_bytes(content)
        message = message_of(data.split, "train")
        assert str(batch) in message
        assert expected in message
    batch.unlink()
    assert f"{batch} is missing" in message_of(data.split, "train")
    np.savez(tmp_path / "cifar10.npz", xtr=images(0, 2), ytr=[0, 1])
    data = open_data(f"cifar10:{tmp_path}")
    assert "it needs xtr, ytr, xte and yte" in message_of(data.split, "test")
    np.savez(tmp_path / "cifar10.npz", xtr=images(0, 2)[:, :30], ytr=[0, 1])
    assert "must be uint8 (N, 32, 32, 3)" in message_of(data.split, "train")
    (tmp_path / "cifar10.npz").write_bytes(b"PK no zip")
    assert "no readable .npz" in message_of(data.split, "train")


def test_folders_with_other_classes_or_sizes_are_not_cifar(tmp_path):
    for split in ("train", "test"):
        for label, name in enumerate(CIFAR10_CLASSES):
            write_image(tmp_path / split / name / "x.png", label, side=16)
    message = message_of(open_data(f"cifar10:{tmp_path}").split, "train")
    assert "is 16x16 pixels, but those of cifar10 are 32x32" in message
    (tmp_path / "train" / "cat").rename(tmp_path / "train" / "kitten")
    message = message_of(open_data(f"cifar10:{tmp_path}").split, "train")
    assert "'cat'" in message
    assert f"folder:{tmp_path}" in message


class _Command:
    """Its pickle asks the reader to run a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        import os

        return os.system, (f"{sys.executable} -c \"open('{self.marker}', 'w')\"",)


class _Eval:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return eval, (f"open({str(self.marker)!r}, 'w').close()",)


@pytest.mark.parametrize("payload", [_Command, _Eval])
def test_a_pickle_that_would_run_a_command_does_not_run_it(tmp_path, payload):
    marker = tmp_path / "was_here"
    write_cifar10_pickles(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    hostile = pickle.dumps({"data": payload(marker), "labels": []}, protocol=2)
    path.write_bytes(hostile)
    message = message_of(open_data(f"cifar10:{tmp_path}").split, "test")
    assert "nothing was run" in message
    assert not marker.exists()
    # The same bytes do it in an ordinary reader, so the test can fail.
    pickle.loads(hostile)
    assert marker.exists()


def test_arrays_of_objects_are_refused(tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": np.array([1, "a"], dtype=object)}, protocol=2))
    assert "an array of the type 'O8'" in message_of(load_plain_pickle, path)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_and_arrays_come_through(tmp_path, protocol):
    content = {
        "big-endian": np.arange(6, dtype=">i4").reshape(2, 3),
        "by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.empty((0, 3), np.uint8),
        "flags": np.array([True, False]),
        "rest": [1, 2.5, "é", b"\xff\x00", None, (1, [2])],
    }
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = load_plain_pickle(path)
    assert read["rest"] == content["rest"]
    for key in ("big-endian", "by columns", "empty", "flags"):
        np.testing.assert_array_equal(read[key], content[key])
        assert read[key].shape == content[key].shape


def test_a_pickle_of_python_2_is_read(tmp_path):
    # What Python 2's cPickle wrote for {'data': numpy.array([[1, 200]], uint8), 'labels': [7]}: bytes as text, names without u.
    text = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x02\x01\xc8tbU\x06labelsq\x08]q\x09K\x07au."
    )
    path = tmp_path / "file"
    path.write_bytes(text)
    read = load_plain_pickle(path)
    np.testing.assert_array_equal(read["data"], [[1, 200]])
    assert read["data"].dtype == np.uint8
    assert read["labels"] == [7]


def test_png_keeps_the_pixels_of_the_helper(tmp_path):
    np.testing.assert_array_equal(np.asarray(Image.open(write_image(tmp_path / "x.png", 3))), noise(3))
