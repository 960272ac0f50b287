"""Label levels from hierarchy.json and classes.tsv."""

import json

import numpy as np
import pytest
from data_files import message_of, noise, shared_data, write_image

from zoo.data import open_data

CLASSES = ("cat", "cow", "oak", "rose")
LEVELS = {
    "kind": {"mammal": ["cow", "cat"], "tree": ["oak"], "flower": ["rose"]},
    "kingdom": {"plant": ["rose", "oak"], "animal": ["cat", "cow"]},
}


@pytest.fixture
def root(tmp_path):
    for split in ("train", "val"):
        for label, name in enumerate(CLASSES):
            write_image(tmp_path / split / name / "1.png", label)
    return tmp_path


def open_with(root, content):
    (root / "hierarchy.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return open_data(f"folder:{root}")


def test_levels_go_from_coarse_to_fine(root):
    data = open_with(root, LEVELS)
    for role in ("train", "test"):
        images = data.role(role)
        assert list(images.levels) == ["kingdom", "kind", "class"]
        assert images.level("kingdom").classes == ("animal", "plant")
        np.testing.assert_array_equal(images.level("kingdom").labels, [0, 0, 1, 1])
        assert images.level("kind").classes == ("flower", "mammal", "tree")
        np.testing.assert_array_equal(images.level("kind").labels, [1, 1, 2, 0])
        np.testing.assert_array_equal(images.labels, [0, 1, 2, 3])
    assert "has no label level 'order'; it has: kingdom, kind, class" in message_of(data.role("test").level, "order")


def test_subset_and_fingerprint_cover_all_levels(root):
    plain = open_data(f"folder:{root}").role("train")
    images = open_with(root, LEVELS).role("train")
    np.testing.assert_array_equal(images.subset(np.array([3, 0])).level("kingdom").labels, [1, 0])
    changed = open_with(root, {**LEVELS, "kingdom": {"plant": ["rose", "oak", "cow"], "animal": ["cat"]}}).role("train")
    assert len({plain.fingerprint(), images.fingerprint(), changed.fingerprint()}) == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"kind": {"a": ["cat", "cow", "oak", "rose", "yak"]}}, "names the class 'yak', which the data set does not have"),
        ({"kind": {"a": ["cat"], "b": ["cow"]}}, "level 'kind' lacks the class 'oak', 'rose'"),
        ({"kind": {"a": ["cat", "cow", "oak"], "b": ["rose", "cat"]}}, "names the class 'cat' twice (in 'a' and in 'b')"),
        ({"kind": {"a": ["cat", "cat", "cow", "oak", "rose"]}}, "names the class 'cat' twice (in 'a' and in 'a')"),
        ({"class": {"a": list(CLASSES)}}, "the level 'class' exists already"),
        ('{"kind": {"a": ["cat", "cow"], "a": ["oak", "rose"]}}', "'a' stands there twice"),
        ("{", "is not valid JSON"),
        ("[]", "must have the form"),
        ({"kind": ["cat"]}, "level 'kind': Expected `object`, got `array`"),
        ({"kind": {}}, "level 'kind' has no groups"),
        ({"kind": {"a": "cat"}}, "group 'a' of level 'kind': Expected `array`, got `str`"),
        ({"kind": {"a": [1]}}, "group 'a' of level 'kind': at `$[0]`: Expected `str`, got `int`"),
        ({"kind": {"a": []}}, "group 'a' of level 'kind' has no classes"),
    ],
)
def test_mistakes_in_the_file(root, content, expected):
    message = message_of(open_with, root, content)
    assert expected in message
    assert str(root / "hierarchy.json") in message


def test_a_built_in_level_cannot_be_given_again(tmp_path):
    pixels = np.stack([noise(0, 32)])
    np.savez(tmp_path / "cifar100.npz", xtr=pixels, ytr=[3], xte=pixels, yte=[3])
    (tmp_path / "hierarchy.json").write_text('{"superclass": {"all": []}}')
    assert "has no classes" in message_of(open_data, f"cifar100:{tmp_path}")
    from zoo.data.sets.cifar import CIFAR100_CLASSES

    (tmp_path / "hierarchy.json").write_text(json.dumps({"superclass": {"all": CIFAR100_CLASSES}}))
    assert "'superclass' exists already" in message_of(open_data, f"cifar100:{tmp_path}")
    halves = {"first": CIFAR100_CLASSES[:50], "second": CIFAR100_CLASSES[50:]}
    (tmp_path / "hierarchy.json").write_text(json.dumps({"half": halves}))
    train = open_data(f"cifar100:{tmp_path}").role("train")
    assert [(name, len(level.classes), level.labels.tolist()) for name, level in train.levels.items()] == [
        ("half", 2, [0]),
        ("superclass", 20, [8]),
        ("class", 100, [3]),
    ]


def table(root, lines):
    (root / "classes.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))


def test_a_table_of_classes(root):
    head = ("fine_id", "class", "name", "kind_id", "kind", "root")
    rows = [("0", "cat", "Cat", "1", "mammal", "animal"), ("3", "rose", "Rose", "0", "flower", "plant")]
    rows += [("1", "cow", "Cow", "1", "mammal", "animal"), ("2", "oak", "Oak", "2", "tree", "plant")]
    table(root, [head, *rows])
    images = open_data(f"folder:{root}").role("train")
    assert list(images.levels) == ["root", "kind", "class"]
    np.testing.assert_array_equal(images.level("kind").labels, [1, 1, 2, 0])
    table(root, [head, *rows[1:]])
    assert "level 'kind' lacks the class 'cat'" in message_of(open_data, f"folder:{root}")
    table(root, [head, *rows, rows[0]])
    assert "names the class 'cat' twice" in message_of(open_data, f"folder:{root}")
    table(root, [head, *rows[:3], ("2", "oak", "Oak", "2", "", "plant")])
    assert "line 5" in message_of(open_data, f"folder:{root}")
    table(root, [head, *rows[:3], ("2", "oak")])
    assert "line 5" in message_of(open_data, f"folder:{root}")
    table(root, [("name", "kind"), ("cat", "mammal")])
    assert "column 'wnid' or 'class'" in message_of(open_data, f"folder:{root}")
    # hierarchy.json comes first.
    assert list(open_with(root, LEVELS).role("train").levels) == ["kingdom", "kind", "class"]


def test_unlabelled_images_have_no_levels(tmp_path):
    write_image(tmp_path / "1.png")
    assert open_with(tmp_path, LEVELS).role("pretrain").levels == {}


def test_the_real_hierarchy_of_tiny_imagenet(tmp_path):
    import csv
    import tarfile

    archive = shared_data() / "tiny-imagenet-hier100.tar.gz"
    if not archive.is_file():
        pytest.skip("the Tiny-ImageNet sample is not there")
    with tarfile.open(archive) as tar:
        content = tar.extractfile("tiny-imagenet-hier100/classes.tsv").read()
    (tmp_path / "classes.tsv").write_bytes(content)
    rows = sorted(csv.DictReader(content.decode().splitlines(), delimiter="\t"), key=lambda row: row["wnid"])
    for row in rows:
        write_image(tmp_path / "train" / row["wnid"] / "1.png", 0)
        write_image(tmp_path / "val" / row["wnid"] / "1.png", 0)
    test = open_data(f"folder:{tmp_path}").role("test")
    assert [(name, len(level.classes)) for name, level in test.levels.items()] == [("root", 4), ("super", 20), ("class", 100)]
    for name in ("root", "super"):
        level = test.level(name)
        assert [level.classes[label] for label in level.labels] == [row[name] for row in rows]
