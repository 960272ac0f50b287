"""ImageNet's layouts, the lists for a flat validation folder, and the subset of 200 classes."""

import hashlib
import tarfile

import numpy as np
import pytest
from data_files import message_of, shared_data, write_image
from scipy.io import savemat

from zoo.data import open_data
from zoo.data.sets.imagenet import IMAGENET200_POSITIONS, select_imagenet200

WNIDS = ("n01440764", "n01443537", "n01484850")
# ILSVRC-2012 ids do not follow the sorted wnids.
IDS = {"n01440764": 449, "n01443537": 450, "n01484850": 442}
# Class of validation image 1, 2, 3, 4.
VAL = (2, 0, 1, 0)
VAL_NAMES = tuple(f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5))


@pytest.fixture
def root(tmp_path):
    """Three classes in train, and a flat val without a list."""
    for label, wnid in enumerate(WNIDS):
        for index in range(2):
            write_image(tmp_path / "train" / wnid / f"{wnid}_{index}.JPEG", 10 * label + index, 20)
    for index, name in enumerate(VAL_NAMES):
        write_image(tmp_path / "val" / name, 100 + index, 20)
    return tmp_path


def kaggle(root):
    pairs = zip(VAL_NAMES, VAL, strict=True)
    lines = [f"{name.removesuffix('.JPEG')},{WNIDS[label]} 1 2 3 4 {WNIDS[label]} 5 6 7 8" for name, label in pairs]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(lines)]) + "\n")


def caffe_wnids(root):
    (root / "val.txt").write_text("".join(f"{name} {WNIDS[label]}\n" for name, label in zip(VAL_NAMES, VAL, strict=True)))


def tensorflow(root):
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("".join(f"{WNIDS[label]}\n" for label in VAL))


def devkit(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{IDS[WNIDS[label]]}\n" for label in VAL))


def devkit_text(root):
    devkit(root)
    (root / "map_clsloc.txt").write_text("".join(f"{wnid} {number} some_name\n" for wnid, number in IDS.items()))


def devkit_matlab(root):
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    devkit(folder)
    synsets = np.zeros((4, 1), dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)])
    for row, (wnid, number) in enumerate([*IDS.items(), ("n00001740", 1001)]):
        synsets[row, 0] = (number, wnid, "a name", 0)
    savemat(folder / "meta.mat", {"synsets": synsets})


@pytest.mark.parametrize("write_list", [kaggle, caffe_wnids, tensorflow, devkit_text, devkit_matlab])
def test_flat_validation_folder_equals_the_grouped_one(root, write_list):
    write_list(root)
    flat = open_data(f"imagenet:{root}").role("test")
    np.testing.assert_array_equal(flat.labels, [0, 0, 1, 2])
    assert [flat.where(index).rpartition("_")[2] for index in range(4)] == [f"{number:08d}.JPEG" for number in (2, 4, 3, 1)]
    fingerprint = flat.fingerprint()
    for name, label in zip(VAL_NAMES, VAL, strict=True):
        (root / "val" / WNIDS[label]).mkdir(exist_ok=True)
        (root / "val" / name).rename(root / "val" / WNIDS[label] / name)
    grouped = open_data(f"imagenet:{root}").role("test")
    assert grouped.fingerprint() == fingerprint


def test_train_and_roles(root):
    kaggle(root)
    data = open_data(f"imagenet:{root}")
    assert data.roles == {"pretrain": "train", "train": "train", "test": "val"}
    assert data.image_size is None
    train = data.role("train")
    assert train.classes == WNIDS
    np.testing.assert_array_equal(train.labels, [0, 0, 1, 1, 2, 2])
    (root / "val").rename(root / "elsewhere")
    assert "test" not in open_data(f"imagenet:{root}").roles


def test_kaggles_folders(root):
    inner = root / "ILSVRC" / "Data" / "CLS-LOC"
    inner.mkdir(parents=True)
    (root / "train").rename(inner / "train")
    (root / "val").rename(inner / "val")
    kaggle(root)
    np.testing.assert_array_equal(open_data(f"imagenet:{root}").role("test").labels, [0, 0, 1, 2])


def test_lists_that_do_not_fit(root):
    def message():
        return message_of(open_data(f"imagenet:{root}").role, "test")

    assert "no list says of which class" in message()
    devkit(root)
    assert "neither map_clsloc.txt nor meta.mat" in message()
    (root / "meta.mat").write_bytes(b"not MATLAB's")
    assert "is no meta.mat" in message()
    (root / "map_clsloc.txt").write_text("n01440764 449 tench\n")
    assert "has the class id '442', '450'" in message()
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("n01440764\n")
    assert "1 lines for 4 validation images" in message()
    (root / "val.txt").write_text(f"{VAL_NAMES[0]} 0\n")
    assert "all 1000 classes" in message()
    (root / "val.txt").write_text(f"{VAL_NAMES[0]} {WNIDS[0]}\n")
    assert f"no line for the image '{VAL_NAMES[1]}', '{VAL_NAMES[2]}', '{VAL_NAMES[3]}'" in message()
    (root / "val.txt").write_text(f"{VAL_NAMES[0]}\n")
    assert "line 1" in message()
    caffe_wnids(root)
    (root / "val.txt").write_text((root / "val.txt").read_text() + f"more.JPEG {WNIDS[0]}\n")
    assert "names the image 'more.JPEG'" in message()
    (root / "LOC_val_solution.csv").write_text("image,label\n1,2\n")
    assert "ImageId and PredictionString" in message()
    (root / "LOC_val_solution.csv").unlink()
    (root / "val.txt").write_text("".join(f"{name} n09999999\n" for name in VAL_NAMES))
    assert "'n09999999', which the training split lacks" in message()


def test_damaged_folders(root):
    (root / "train" / "n02000000").mkdir()
    assert "n02000000 has no images" in message_of(open_data(f"imagenet:{root}").role, "train")
    for path in (root / "val").iterdir():
        path.unlink()
    assert "neither images nor class folders" in message_of(open_data(f"imagenet:{root}").role, "test")
    assert "neither the 1000 of ILSVRC-2012 nor the 200" in message_of(open_data, f"imagenet200:{root}")
    (root / "train").rename(root / "training")
    assert "train is missing" in message_of(open_data, f"imagenet:{root}")


def test_positions_of_the_subset():
    assert len(IMAGENET200_POSITIONS) == 200
    assert np.all(np.diff(IMAGENET200_POSITIONS) > 0)
    assert select_imagenet200([f"n{number:08d}" for number in range(1000)]) is None
    assert select_imagenet200([f"n{number:08d}" for number in range(200)]) is None


@pytest.fixture(scope="module")
def thousand():
    """The 1000 wnids of ILSVRC-2012, sorted."""
    archive = shared_data() / "imagenet-sample-1000-256.tar.gz"
    if not archive.is_file():
        pytest.skip("the sample with one image per ImageNet class is not there")
    with tarfile.open(archive) as tar:
        wnids = sorted({name.split("/")[1] for name in tar.getnames() if name.count("/") == 2 and name.split("/")[1].startswith("n")})
    assert len(wnids) == 1000
    return wnids


def test_the_subset_has_the_published_checksum(thousand):
    chosen = select_imagenet200(thousand)
    assert chosen is not None
    assert hashlib.md5("".join(f"{wnid}\n" for wnid in chosen).encode()).hexdigest() == "c9374cf9fead2ccf2abdcaa7c9f4b446"
    assert select_imagenet200(chosen) == chosen
    assert select_imagenet200(thousand[:999]) is None


def test_the_subset_out_of_all_classes_and_by_itself(tmp_path, thousand):
    for number, wnid in enumerate(thousand):
        for split in ("train", "val"):
            path = tmp_path / split / wnid / f"{split}_{number}.JPEG"
            path.parent.mkdir(parents=True)
            path.touch()
    # Enough to read the labels; no image is decoded here.
    data = open_data(f"imagenet200:{tmp_path}")
    chosen = [thousand[position] for position in IMAGENET200_POSITIONS]
    for role, split in (("train", "train"), ("test", "val")):
        images = data.role(role)
        assert images.classes == tuple(chosen)
        np.testing.assert_array_equal(images.labels, np.arange(200))
        assert [images.where(index) for index in range(200)] == [
            str(tmp_path / split / wnid / f"{split}_{position}.JPEG") for wnid, position in zip(chosen, IMAGENET200_POSITIONS, strict=True)
        ]
    # All 1000 through a flat folder with Caffe's list, whose labels are positions.
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "train").symlink_to(tmp_path / "train", target_is_directory=True)
    (flat / "val").mkdir()
    for number in range(1000):
        (flat / "val" / f"ILSVRC2012_val_{number:08d}.JPEG").touch()
    (flat / "val.txt").write_text("".join(f"val/ILSVRC2012_val_{number:08d}.JPEG {999 - number}\n" for number in range(1000)))
    images = open_data(f"imagenet200:{flat}").role("test")
    np.testing.assert_array_equal(images.labels, np.arange(200))
    assert images.where(0).endswith(f"_{999 - IMAGENET200_POSITIONS[0]:08d}.JPEG")
    np.testing.assert_array_equal(open_data(f"imagenet:{flat}").role("test").labels, np.arange(1000))
    # Only the 200 in train; the list names wnids of all 1000.
    alone = tmp_path / "alone"
    (alone / "train").mkdir(parents=True)
    for wnid in chosen:
        (alone / "train" / wnid).symlink_to(tmp_path / "train" / wnid, target_is_directory=True)
    (alone / "val").symlink_to(tmp_path / "val", target_is_directory=True)
    data = open_data(f"imagenet200:{alone}")
    np.testing.assert_array_equal(data.role("test").labels, np.arange(200))
    (alone / "val").unlink()
    (alone / "val").symlink_to(flat / "val", target_is_directory=True)
    (alone / "imagenet_2012_validation_synset_labels.txt").write_text("".join(f"{thousand[999 - number]}\n" for number in range(1000)))
    again = open_data(f"imagenet200:{alone}").role("test")
    np.testing.assert_array_equal(again.labels, np.arange(200))
    for index in range(200):
        assert again.where(index).rpartition("/")[2] == images.where(index).rpartition("/")[2]
