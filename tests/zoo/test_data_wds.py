"""WebDataset shards: patterns, samples, labels, damage."""

import io
import json
import tarfile

import numpy as np
import pytest
from data_files import message_of, noise
from PIL import Image

from zoo.data import ArrayImages, FileImages, find_bad_images, open_data
from zoo.data.shards.webdataset import expand_braces


def png(seed, side=8):
    buffer = io.BytesIO()
    Image.fromarray(noise(seed, side)).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path, members, **options):
    """A tar file of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def labelled(seeds, side=8):
    """Members of one sample per seed; the label is the seed's last digit."""
    return [member for seed in seeds for member in ((f"{seed:04d}.cls", str(seed % 10).encode()), (f"{seed:04d}.png", png(seed, side)))]


def pixels_of(images):
    return np.stack([np.asarray(images.read(index)) for index in range(len(images))])


def test_splits_labels_and_random_access(tmp_path):
    for shard in range(3):
        write_shard(tmp_path / f"train-{shard:04d}.tar", labelled(range(4 * shard, 4 * shard + 4), side=100))
    write_shard(tmp_path / "val-0000.tar", labelled([21, 20], side=100))
    data = open_data(f"wds:{tmp_path}")
    assert data.roles == {"pretrain": "train", "train": "train", "test": "val"}
    train, test = data.role("train"), data.role("test")
    assert isinstance(train, FileImages)
    np.testing.assert_array_equal(train.labels, np.arange(12) % 10)
    assert train.classes == tuple("0123456789")
    for index in (11, 0, 5, 5):
        np.testing.assert_array_equal(np.asarray(train.read(index)), noise(index, 100))
    np.testing.assert_array_equal(test.labels, [1, 0])
    np.testing.assert_array_equal(np.asarray(test.read(1)), noise(20, 100))
    assert train.where(5) == f"{tmp_path / 'train-0001.tar'}:0005.png"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{8..11}", ["a-8", "a-9", "a-10", "a-11"]),
        ("{x,y{1..2}z}-{0..1}", ["x-0", "x-1", "y1z-0", "y1z-1", "y2z-0", "y2z-1"]),
        ("{a,,b}", ["a", "", "b"]),
        ("plain", ["plain"]),
    ],
)
def test_brace_expansion_is_that_of_a_shell(pattern, expected):
    assert expand_braces(pattern) == expected


def test_ways_to_name_shards(tmp_path):
    for split, shards in (("train", 3), ("val", 1)):
        for shard in range(shards):
            write_shard(tmp_path / f"set-{split}-{shard:02d}.tar", labelled([10 * shard, 10 * shard + 1]))

    def counts(spec):
        return {name: len(images()) for name, images in open_data(f"wds:{tmp_path}/{spec}").splits.items()}

    assert counts("") == {"train": 6, "val": 2}
    assert counts("set-train-{00..01}.tar") == {"train": 4}
    assert counts("set-{train-{00..02},val-00}.tar") == {"train": 6, "val": 2}
    assert counts("*-train-*.tar") == {"train": 6}
    assert counts("set-{train,val}-0[01].tar") == {"train": 4, "val": 2}


def test_subfolders_and_other_split_words(tmp_path):
    write_shard(tmp_path / "a" / "train" / "0.tar", labelled([0, 1]))
    write_shard(tmp_path / "a" / "validation" / "0.tar", labelled([1]))
    assert open_data(f"wds:{tmp_path / 'a'}").roles == {"pretrain": "train", "train": "train", "test": "val"}
    write_shard(tmp_path / "b" / "imagenet1k-train-0000.tar", labelled([0, 1]))
    write_shard(tmp_path / "b" / "imagenet1k-validation-00.tar", labelled([1]))
    assert open_data(f"wds:{tmp_path / 'b'}").roles == {"pretrain": "train", "train": "train", "test": "val"}
    write_shard(tmp_path / "c" / "00000.tar", labelled([0, 1]))
    assert open_data(f"wds:{tmp_path / 'c'}").roles == {"pretrain": "train", "train": "train"}


def test_labels_in_json(tmp_path):
    members = []
    for seed, content in enumerate(({"cls": 2, "label": 9}, {"label": 1}, {"label": 0, "caption": "a"})):
        members += [(f"{seed}.json", json.dumps(content).encode()), (f"{seed}.png", png(seed))]
    # A number of its own wins over the .json.
    members += [("3.cls", b"4\n"), ("3.json", b'{"label": 3}'), ("3.png", png(3))]
    write_shard(tmp_path / "train.tar", members)
    np.testing.assert_array_equal(open_data(f"wds:{tmp_path}").role("train").labels, [2, 1, 0, 4])


def test_images_without_labels_can_only_be_pretrained_on(tmp_path):
    members = [("x/0.png", png(0)), ("x/0.json", b'{"caption": "a cat"}'), ("x/0.txt", b"a cat"), ("y/0.jpg", png(1)), ("NOTE.md", b"")]
    write_shard(tmp_path / "0.tar", members)
    data = open_data(f"wds:{tmp_path}")
    assert data.roles == {"pretrain": "train"}
    images = data.role("pretrain")
    assert isinstance(images, ArrayImages)
    np.testing.assert_array_equal(images.pixels, [noise(0), noise(1)])
    assert images.where(1) == f"{tmp_path / '0.tar'}:y/0.jpg"


def test_what_belongs_to_a_sample(tmp_path):
    write_shard(
        tmp_path / "0.tar",
        [
            ("./a.JPG", png(1)),
            ("./a.seg.png", png(2)),
            ("._a.jpg", b"a resource fork"),
            ("b.input.png", png(3)),
            ("b.weights.npy", b"x"),
            ("no_extension", b"x"),
        ],
    )
    images = open_data(f"wds:{tmp_path}").role("pretrain")
    np.testing.assert_array_equal(pixels_of(images), [noise(1), noise(3)])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_formats_and_long_names(tmp_path, form):
    # 60 + 90 characters fit a plain header in two parts; more need an extension.
    folder, stem = ("f" * 60, "s" * 80) if form == tarfile.USTAR_FORMAT else ("é" * 120, "s" * 120)
    write_shard(tmp_path / "0.tar", [(f"{folder}/{stem}{seed}.png", png(seed, 90 + seed)) for seed in range(3)], format=form)
    images = open_data(f"wds:{tmp_path}").role("pretrain")
    for index in range(3):
        np.testing.assert_array_equal(np.asarray(images.read(index)), noise(index, 90 + index))
    assert images.where(2).endswith(f":{folder}/{stem}2.png")


def test_class_names_and_levels(tmp_path):
    write_shard(tmp_path / "train.tar", labelled([0, 1, 2]))
    (tmp_path / "classes.txt").write_text("ant\nbee\ncow\n")
    (tmp_path / "hierarchy.json").write_text('{"kind": {"insect": ["ant", "bee"], "mammal": ["cow"]}}')
    train = open_data(f"wds:{tmp_path}/train.tar").role("train")
    assert train.classes == ("ant", "bee", "cow")
    np.testing.assert_array_equal(train.levels["kind"].labels, [0, 0, 1])
    (tmp_path / "classes.txt").unlink()
    for content in ('["ant", "bee", "cow"]', '{"2": "cow", "0": "ant", "1": "bee"}'):
        (tmp_path / "classes.json").write_text(content)
        assert open_data(f"wds:{tmp_path}").role("train").fingerprint() == train.fingerprint()
    for content in ('{"1": "ant", "2": "bee"}', "3", "{", '["ant", "ant"]'):
        (tmp_path / "classes.json").write_text(content)
        assert "classes.json" in message_of(open_data, f"wds:{tmp_path}")
    (tmp_path / "classes.json").write_text('["ant", "bee"]')
    (tmp_path / "hierarchy.json").unlink()
    assert "the label 2 (image #2), but labels must lie in 0 .. 1" in message_of(open_data, f"wds:{tmp_path}")


def test_bad_images_in_shards(tmp_path):
    members = labelled(range(4), side=100)
    members[3] = ("0001.png", b"junk")
    path = write_shard(tmp_path / "train-0.tar", members)
    bad = find_bad_images(open_data(f"wds:{tmp_path}").role("train"))
    assert [(one.index, one.where) for one in bad] == [(1, f"{path}:0001.png")]
    write_shard(tmp_path / "train-0.tar", [*labelled([0, 2]), ("3.cls", b"3"), ("3.png", b"")])
    images = open_data(f"wds:{tmp_path}", on_bad="skip").role("train")
    assert images.skipped == (f"{path}:3.png",)
    np.testing.assert_array_equal(images.labels, [0, 2])


def test_names_that_find_nothing(tmp_path):
    assert f"{tmp_path}/gone.tar does not exist" in message_of(open_data, f"wds:{tmp_path}/gone.tar")
    assert "*.tar does not exist" in message_of(open_data, f"wds:{tmp_path}/*.tar")
    assert "has no shards" in message_of(open_data, f"wds:{tmp_path}")
    assert "empty range" in message_of(open_data, f"wds:{tmp_path}/{{3..1}}.tar")
    assert "not closed" in message_of(open_data, f"wds:{tmp_path}/{{3..1.tar")
    write_shard(tmp_path / "val-0.tar", labelled([0]))
    assert "no shards to train on, only val" in message_of(open_data, f"wds:{tmp_path}")
    write_shard(tmp_path / "more.tar", labelled([0]))
    assert "more.tar is not said to be of train, val or test" in message_of(open_data, f"wds:{tmp_path}")
    write_shard(tmp_path / "x" / "train-{0,1}" / "0.tar", labelled([0]))
    assert f"{tmp_path}/train-1.tar does not exist" in message_of(open_data, f"wds:{tmp_path}/train-{{1..2}}.tar")


def test_damaged_shards(tmp_path):
    path = tmp_path / "train-0.tar"

    def message(content):
        path.write_bytes(content)
        text = message_of(open_data, f"wds:{tmp_path}")
        assert str(path) in text
        return text

    whole = write_shard(path, labelled(range(3), side=100)).read_bytes()
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    assert "no complete, uncompressed tar" in message(b"")
    assert "no complete, uncompressed tar" in message(b"hello" * 1000)
    assert "no complete, uncompressed tar" in message(whole[: last.offset_data + last.size - 1])
    assert "no complete, uncompressed tar" in message(whole[: last.offset_data - 200])
    # A header overwritten in the middle: Python's tarfile would take that for the end.
    assert "no tar header at" in message(whole[: last.offset] + b"\x07" * 512 + whole[last.offset + 512 :])
    assert "it holds no files" in message(bytes(1024))
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.png"))
    assert "uncompressed" in message(path.read_bytes())
    # Without the final empty blocks, which some writers leave out, a shard is whole.
    path.write_bytes(whole[: last.offset_data + 512 * (-(-last.size // 512))])
    assert len(open_data(f"wds:{tmp_path}").role("train")) == 3


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([("a.cls", b"cat"), ("a.png", b"x")], "label of sample 'a' is no whole number ('cat')"),
        ([("a.cls", b"-1"), ("a.png", b"x")], "label of sample 'a' is no whole number ('-1')"),
        ([("a.json", b'{"label": "cat"}'), ("a.png", b"x")], "the .json of sample 'a': at `$.label`: Expected `int | null`, got `str`"),
        ([("a.json", b"{"), ("a.png", b"x")], ".json of sample 'a' is not valid"),
        ([("a.cls", b"1"), ("b.png", b"x")], "sample 'a' has a label but no image"),
        ([("a.png", b"x"), ("a.jpg", b"x")], "sample 'a' has 2 images (png, jpg)"),
        ([("a.cls", b"1"), ("a.png", b"x"), ("b.png", b"x")], "'b.png' has no label, but other train samples have one"),
        ([("a.cls", b"99999999999"), ("a.png", b"x")], "labels must be below 1000000"),
        ([("a.txt", b"x")], "the train shards hold no images"),
    ],
)
def test_odd_samples(tmp_path, members, expected):
    write_shard(tmp_path / "train-0.tar", members)
    assert expected in message_of(open_data, f"wds:{tmp_path}")


def test_links_in_shards_are_refused(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.type, info.linkname = tarfile.SYMTYPE, "b.png"
        tar.addfile(info)
    assert "'a.png' is a link" in message_of(open_data, f"wds:{tmp_path}")


def test_labels_of_the_test_shards_must_be_known(tmp_path):
    write_shard(tmp_path / "train-0.tar", labelled([0, 1]))
    write_shard(tmp_path / "val-0.tar", labelled([0, 3]))
    assert "the val split has the label 3 (image #1), but labels must lie in 0 .. 1" in message_of(open_data, f"wds:{tmp_path}")


def test_labels_that_count_from_1(tmp_path):
    members = [member for seed in range(6) for member in ((f"{seed}.cls", str(seed % 3 + 1).encode()), (f"{seed}.png", png(seed)))]
    write_shard(tmp_path / "train-0.tar", members)
    write_shard(tmp_path / "val-0.tar", [("9.cls", b"2"), ("9.png", png(9))])
    data = open_data(f"wds:{tmp_path}")
    assert data.role("train").classes == ("1", "2", "3")
    assert data.role("train").labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.role("test").labels.tolist() == [1]
    assert data.decisions == ("training labels are 1 to 3, and none is 0: they count from 1",)
    # Four names say that a class has no training image.
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    assert open_data(f"wds:{tmp_path}").role("train").labels.tolist() == [1, 2, 3, 1, 2, 3]
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert open_data(f"wds:{tmp_path}").role("train").labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_other_names_of_members(tmp_path):
    first = [("0.input.png", png(0)), ("0.output.cls", b"0"), ("0.mask.png", png(1))]
    write_shard(tmp_path / "a" / "train-0.tar", [*first, ("1.img", png(1)), ("1.cls", b"1")])
    images = open_data(f"wds:{tmp_path / 'a'}").role("train")
    assert images.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(pixels_of(images), [noise(0), noise(1)])
    write_shard(tmp_path / "b" / "train-0.tar", [("0.npy", b"\x93NUMPY"), ("0.cls", b"0")])
    assert "sample '0' has a label but no image (beside it: npy)" in message_of(open_data, f"wds:{tmp_path / 'b'}")
    write_shard(tmp_path / "c" / "train-0.tar", [("0.cls", b"9" * 5000), ("0.png", png(0))])
    assert "no whole number ('999" in message_of(open_data, f"wds:{tmp_path / 'c'}")
