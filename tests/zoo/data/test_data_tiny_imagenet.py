"""Tiny-ImageNet's official layout, and its validation images regrouped."""

import numpy as np
import pytest
from data_files import message_of, write_image
from PIL import Image
from torchvision.datasets import ImageFolder

from zoo.data import open_data

WNIDS = ("n01443537", "n01629819", "n02124075")
# (file, wnid) in no particular order; as text val_10 comes before val_2.
VAL = [("val_0.JPEG", WNIDS[2]), ("val_1.JPEG", WNIDS[0]), ("val_2.JPEG", WNIDS[1]), ("val_10.JPEG", WNIDS[1])]


@pytest.fixture
def root(tmp_path):
    """train/<wnid>/images, flat val with its annotations, words.txt."""
    folder = tmp_path / "tiny-imagenet-200"
    for label, wnid in enumerate(WNIDS):
        for index in range(2):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", 10 * label + index, 64)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
    for seed, (name, _) in enumerate(VAL):
        write_image(folder / "val" / "images" / name, 100 + seed, 64)
    (folder / "val" / "val_annotations.txt").write_text("".join(f"{name}\t{wnid}\t0\t0\t62\t62\n" for name, wnid in VAL))
    (folder / "words.txt").write_text("n01443537\tgoldfish, Carassius auratus\nn01629819\tcrane\nn02124075\tcrane\nn00000001\tentity\n")
    # The official list of classes is not sorted; the order of the labels is.
    (folder / "wnids.txt").write_text("\n".join(reversed(WNIDS)) + "\n")
    write_image(folder / "test" / "images" / "test_0.JPEG", 7, 64)
    return tmp_path


def test_validation_images_are_regrouped_by_their_annotations(root):
    data = open_data(f"tiny-imagenet:{root}")
    train, test = data.role("train"), data.role("test")
    assert data.roles == {"pretrain": "train", "train": "train", "test": "val"}
    assert data.image_size == 64
    np.testing.assert_array_equal(train.labels, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(test.labels, [0, 1, 1, 2])
    flat = root / "tiny-imagenet-200" / "val" / "images"
    assert [test.where(index) for index in range(4)] == [str(flat / f"val_{name}.JPEG") for name in (1, 10, 2, 0)]
    np.testing.assert_array_equal(test.pixels[1], np.asarray(Image.open(flat / "val_10.JPEG")))
    assert train.classes == ("goldfish", "crane (n01629819)", "crane (n02124075)")


def test_a_regrouped_validation_folder_gives_the_same_data(root):
    before = open_data(f"tiny-imagenet:{root}").role("test").fingerprint()
    val = root / "tiny-imagenet-200" / "val"
    for name, wnid in VAL:
        (val / wnid).mkdir(exist_ok=True)
        (val / "images" / name).rename(val / wnid / name)
    after = open_data(f"tiny-imagenet:{root / 'tiny-imagenet-200'}").role("test")
    assert after.fingerprint() == before
    (val / "images").rmdir()
    reference = ImageFolder(val)
    assert [after.where(index) for index in range(4)] == [path for path, _ in reference.samples]
    np.testing.assert_array_equal(after.labels, reference.targets)


def test_levels_may_name_classes_by_wnid_or_word(root):
    (root / "hierarchy.json").write_text('{"kind": {"fish": ["goldfish"], "bird or crane": ["n01629819", "crane (n02124075)"]}}')
    train = open_data(f"tiny-imagenet:{root}").role("train")
    assert list(train.levels) == ["kind", "class"]
    assert train.levels["kind"].classes == ("bird or crane", "fish")
    np.testing.assert_array_equal(train.levels["kind"].labels, [1, 1, 0, 0, 0, 0])


def test_without_words_the_classes_are_wnids(root):
    (root / "tiny-imagenet-200" / "words.txt").unlink()
    assert open_data(f"tiny-imagenet:{root}").role("train").classes == WNIDS


def test_annotations_that_do_not_fit(root):
    data = open_data(f"tiny-imagenet:{root}")
    path = root / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    text = path.read_text()
    for content, expected in (
        (text + f"val_77.JPEG\t{WNIDS[0]}\t0\t0\t1\t1\n", "names the image 'val_77.JPEG'"),
        (text.replace("val_2.JPEG", "val_77.JPEG"), "val_77.JPEG"),
        ("".join(text.splitlines(keepends=True)[:2]), "no line for the image 'val_10.JPEG', 'val_2.JPEG'"),
        (text.replace(WNIDS[1], "n09999999"), "the class 'n09999999', which the training split lacks"),
        (text + "val_2.JPEG n01443537\n", "line 5"),
        (text + text, "line 5"),
    ):
        path.write_text(content)
        message = message_of(data.role, "test")
        assert expected in message
        assert str(path) in message
    path.unlink()
    assert f"{path} is missing" in message_of(data.role, "test")


def test_bad_and_odd_images(root):
    path = root / "tiny-imagenet-200" / "train" / WNIDS[1] / "images" / f"{WNIDS[1]}_0.JPEG"
    path.write_bytes(path.read_bytes()[:-200])
    assert str(path) in message_of(open_data(f"tiny-imagenet:{root}").role, "train")
    train = open_data(f"tiny-imagenet:{root}", on_bad="skip").role("train")
    assert train.skipped == (str(path),)
    np.testing.assert_array_equal(train.labels, [0, 0, 1, 2, 2])
    write_image(path, 1, 32)
    message = message_of(open_data(f"tiny-imagenet:{root}").role, "train")
    assert f"{path} is 32x32 pixels, but those of tiny-imagenet are 64x64" in message


def test_missing_parts(root):
    folder = root / "tiny-imagenet-200"
    (folder / "val").rename(folder / "validation")
    assert f"{folder / 'val'} is missing" in message_of(open_data, f"tiny-imagenet:{root}")
    (folder / "val").mkdir()
    assert "neither images nor class folders" in message_of(open_data(f"tiny-imagenet:{root}").role, "test")
    (folder / "train").rename(folder / "training")
    (folder / "train").mkdir()
    assert "no class folders" in message_of(open_data, f"tiny-imagenet:{root}")
