"""Data by the library `datasets`: image folders, metadata, Parquet shards, several labels."""

import io
import json

import numpy as np
import pytest
from data_files import message_of, noise, write_image
from PIL import Image

from zoo.data import FileImages, find_bad_images, open_data

datasets = pytest.importorskip("datasets", reason="the extra 'hf' is not installed")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def labelled(root, side=8):
    for split, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            for index in range(count):
                write_image(root / split / name / f"{index}.png", 100 * (split == "test") + 10 * label + index, side)
    return root


def png(seed, side=100):
    buffer = io.BytesIO()
    Image.fromarray(noise(seed, side)).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_image_folder_is_the_same_by_either_reader(tmp_path):
    root = labelled(tmp_path / "set")
    ours, theirs = open_data(f"folder:{root}"), open_data(f"hf:{root}")
    assert theirs.roles == ours.roles
    for role in ("train", "test"):
        assert theirs.role(role).fingerprint() == ours.role(role).fingerprint()
        assert theirs.role(role).where(0) == ours.role(role).where(0)


def test_shards_of_parquet_hold_their_images(tmp_path):
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["owl", "cat"])})
    folder = tmp_path / "set"
    folder.mkdir()
    for split, seeds in (("train", range(6)), ("validation", range(10, 13))):
        rows = {"picture": [{"bytes": png(seed), "path": None} for seed in seeds], "kind": [seed % 2 for seed in seeds]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    data = open_data(f"hf:{folder}")
    train, test = data.role("train"), data.role("test")
    assert isinstance(train, FileImages)
    assert train.classes == ("owl", "cat")
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    for index in (5, 0):
        np.testing.assert_array_equal(np.asarray(train.read(index)), noise(index, 100))
    np.testing.assert_array_equal(np.asarray(test.subset(np.array([2])).read(0)), noise(12, 100))
    assert train.where(3).endswith(":row 3")
    assert find_bad_images(train) == []
    assert "the split 'validation' is the val split" in data.decisions
    one = open_data(f"hf:{folder / 'train-00000-of-00001.parquet'},holdout=0.34")
    assert (len(one.role("train")), len(one.role("test"))) == (4, 2)


def test_metadata_with_several_labels(tmp_path):
    folder = tmp_path / "set" / "train"
    for index in range(3):
        write_image(folder / f"{index}.png", index)
    rows = [{"file_name": f"{index}.png", "tags": tags} for index, tags in enumerate((["a", "b"], ["b"], []))]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    images = open_data(f"hf:{tmp_path / 'set'},label=tags").role("train")
    assert images.multilabel.classes == ("a", "b")
    assert images.multilabel.values.tolist() == [[1, 1], [-1, 1], [-1, -1]]


def test_text_and_numbers_as_labels(tmp_path):
    folder = tmp_path / "set" / "train"
    for index in range(3):
        write_image(folder / f"{index}.png", index)
    (folder / "metadata.csv").write_text("file_name,kind,number\n0.png,owl,10\n1.png,cat,2\n2.png,cat,10\n")
    kinds = open_data(f"hf:{tmp_path / 'set'},label=kind").role("train")
    assert (kinds.classes, kinds.labels.tolist()) == (("cat", "owl"), [1, 0, 0])
    numbers = open_data(f"hf:{tmp_path / 'set'},label=number").role("train")
    assert (numbers.classes, numbers.labels.tolist()) == (("2", "10"), [1, 0, 1])


def test_mistakes(tmp_path):
    root = labelled(tmp_path / "set")
    assert "is missing" in message_of(open_data, f"hf:{tmp_path / 'gone'}")
    assert "cannot be loaded by the library datasets" in message_of(open_data, "hf:nobody/nothing-of-this-name")
    assert "has no column 'lable'; it has image, label" in message_of(open_data, f"hf:{root},label=lable")
    assert "its column 'label' holds no images" in message_of(open_data, f"hf:{root},image=label")
    (tmp_path / "rows.csv").write_text("a\n1\n")
    assert f"open it as csv:{tmp_path / 'rows.csv'}" in message_of(open_data, f"hf:{tmp_path / 'rows.csv'}")
