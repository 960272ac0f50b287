"""Tables of labels: CSV, TSV, Parquet."""

import unicodedata

import numpy as np
import pytest
from data_files import message_of, noise, write_image

from zoo.data import open_data


@pytest.fixture
def images(tmp_path):
    for index in range(8):
        write_image(tmp_path / "images" / f"{index}.png", index)
    return tmp_path


def spec(path, root, options="image=file,label=class,split=part"):
    return f"csv:{path},root={root / 'images'},{options}"


def table(root, text, name="labels.csv"):
    (root / name).write_text(text, encoding="utf-8")
    return root / name


@pytest.mark.parametrize(("name", "sign"), [("labels.csv", ","), ("labels.tsv", "\t"), ("labels.csv", ";")])
def test_a_table_gives_what_folders_give(images, name, sign):
    rows = [("file", "class", "part"), ("0.png", "dog", "train"), ("1.png", "cat", "Training")]
    rows += [("2.png", "cat", "valid"), ("3.png", "dog", "val")]
    path = table(images, "".join(sign.join(row) + "\n" for row in rows), name)
    data = open_data(spec(path, images))
    assert data.roles == {"pretrain": "train", "train": "train", "test": "val"}
    train, test = data.role("train"), data.role("test")
    assert train.classes == test.classes == ("cat", "dog")
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 0], [0, 1])
    np.testing.assert_array_equal(train.pixels, [noise(0), noise(1)])
    for split, kind, order in (("train", "cat", 1), ("train", "dog", 0), ("val", "cat", 2), ("val", "dog", 3)):
        write_image(images / "folders" / split / kind / "x.png", order)
    folders = open_data(f"folder:{images / 'folders'}")
    assert train.subset(np.array([1, 0])).fingerprint() == folders.role("train").fingerprint()


def test_parquet_gives_what_csv_gives(images):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    from pyarrow import parquet

    columns = {"file": ["0.png", "1.png"], "class": [11, 2], "tags": [["a", "b"], []]}
    parquet.write_table(pyarrow.table(columns), images / "labels.parquet")
    plain = open_data(spec(images / "labels.parquet", images, "image=file,label=class")).role("pretrain")
    csv = open_data(spec(table(images, "file,class\n0.png,11\n1.png,2\n"), images, "image=file,label=class")).role("pretrain")
    assert plain.classes == ("11", "2")
    assert plain.fingerprint() == csv.fingerprint()
    several = open_data(spec(images / "labels.parquet", images, "image=file,label=tags")).role("pretrain").multilabel
    assert several.values.tolist() == [[1, 1], [-1, -1]]
    (images / "broken.parquet").write_bytes(b"PAR1 no")
    assert "is no readable Parquet table" in message_of(open_data, spec(images / "broken.parquet", images, "image=file"))


def test_several_labels_in_a_cell(images):
    path = table(images, "file,class,part\n0.png,cat|dog,train\n1.png,dog,train\n2.png,,train\n3.png,cat,test\n")
    data = open_data(spec(path, images))
    train = data.role("train")
    assert train.levels == {}
    assert train.multilabel.classes == ("cat", "dog")
    assert train.multilabel.values.tolist() == [[1, 1], [-1, 1], [-1, -1]]
    assert data.role("test").multilabel.values.tolist() == [[1, -1]]
    assert "cells hold several labels" in data.decisions[-1]
    path = table(images, "file,class\n0.png,cat;dog\n1.png,owl;cat\n")
    assert open_data(spec(path, images, "image=file,label=class")).role("pretrain").multilabel.values.tolist() == [[1, 1, -1], [1, -1, 1]]


def test_a_table_without_splits_is_parted(images):
    rows = "".join(f"{index}.png,{'ab'[index % 2]}\n" for index in range(8))
    path = table(images, "file,class\n" + rows)
    data = open_data(spec(path, images, "image=file,label=class"))
    assert "name a column of splits (split=COLUMN), or add holdout=0.2" in message_of(data.role, "test")
    parted = open_data(spec(path, images, "image=file,label=class,holdout=0.25"))
    assert (np.bincount(parted.role("train").labels).tolist(), np.bincount(parted.role("test").labels).tolist()) == ([3, 3], [1, 1])


def test_the_tables_folder_is_the_usual_root_and_endings_may_be_left_out(images):
    path = table(images / "images", "id,class\n0,a\n1,b\n")
    data = open_data(f"csv:{path},image=id,label=class")
    np.testing.assert_array_equal(data.role("pretrain").pixels, [noise(0), noise(1)])
    assert "images are named without their ending, .png" in data.decisions


def test_names_in_another_form_of_unicode_are_found(images):
    write_image(images / "images" / unicodedata.normalize("NFD", "é.png"), 5)
    path = table(images, f"file\n{unicodedata.normalize('NFC', 'é.png')}\n")
    np.testing.assert_array_equal(open_data(spec(path, images, "image=file")).role("pretrain").pixels, [noise(5)])


@pytest.mark.parametrize(
    ("text", "options", "wrong"),
    [
        ("", "image=file", "is empty; its first line must name the columns"),
        ("file,class\n", "image=file", "has no rows"),
        ("file,class\n0.png,a\n", "label=class", "must say which column names the images (image=COLUMN)"),
        ("file,class\n0.png,a\n", "image=flie", "has no column 'flie', did you mean 'file'"),
        ("file,file\n0.png,a\n", "image=file", "line 1: the column 'file' is named twice"),
        ("file,class\n0.png\n", "image=file", "line 2: 1 cells, where the head line names 2 columns"),
        ("file,class\n0.png,a\n1.png,\n", "image=file,label=class", "line 3: '1.png' has no label"),
        ("file,class\n,a\n", "image=file,label=class", "line 2: no path of an image"),
        ("file,class\n0.png,a\n0.png,b\n", "image=file,label=class", "'0.png' is 'a' in line 2 and 'b' in line 3"),
        ("file,class,part\n0.png,a,tarin\n", "image=file,label=class,split=part", "'tarin' in the column 'part' is no split's name"),
        ("file,class,part\n0.png,a,test\n", "image=file,label=class,split=part", "its column 'part' names no row 'train'"),
        ("file,class,part\n0.png,a,train\n1.png,b,test\n", "image=file,label=class,split=part", "line 3: the test split has the class 'b'"),
        ("file\nx.png\n", "image=file", "none of the first 1 images"),
        ('file,class\n"0.png,a\n', "image=file", "line 2"),
    ],
)
def test_tables_that_mean_nothing(images, text, options, wrong):
    assert wrong in message_of(open_data, spec(table(images, text), images, options))


def test_tables_that_are_no_text(images):
    (images / "labels.csv").write_bytes(b"file,class\n0.png,caf\xe9\n")
    assert "line 2: not UTF-8" in message_of(open_data, spec(images / "labels.csv", images, "image=file,label=class"))
    (images / "labels.csv").write_bytes(b"\xef\xbb\xbffile,class\n0.png,a\n")
    assert open_data(spec(images / "labels.csv", images, "image=file,label=class")).role("pretrain").classes == ("a",)
    assert "is missing" in message_of(open_data, f"csv:{images / 'gone.csv'},image=file")
