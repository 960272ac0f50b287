"""Names of data sets, their arguments, and what importing them costs."""

import subprocess
import sys

import numpy as np
import pytest
from data_files import message_of
from sklearn.datasets import load_digits

from zoo.data import data_names, open_data


def test_importing_the_data_sets_imports_no_torch():
    program = "import sys, zoo.data; print(sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_unknown_name_is_answered_with_the_nearest_and_all_names():
    message = message_of(open_data, "cifr10:/x")
    assert "'cifr10'" in message
    assert "nearest: 'cifar10'" in message
    assert all(name in message for name in data_names())


def test_a_path_in_place_of_a_name_is_answered_with_the_right_spelling(tmp_path):
    assert f"folder:{tmp_path}" in message_of(open_data, str(tmp_path))


@pytest.mark.parametrize("name", [name for name in data_names() if name not in ("shapes", "digits", "csv", "hf")])
def test_a_name_that_needs_a_root_says_so(name):
    message = message_of(open_data, name)
    assert f"'{name}'" in message
    assert f"{name}:FOLDER" in message


@pytest.mark.parametrize("name", [name for name in data_names() if name not in ("shapes", "digits", "wds", "csv", "hf")])
def test_missing_root_and_file_as_root(name, tmp_path):
    assert f"{tmp_path / 'gone'} is missing" in message_of(open_data, f"{name}:{tmp_path / 'gone'}")
    (tmp_path / "file").write_text("")
    assert "is no folder" in message_of(open_data, f"{name}:{tmp_path / 'file'}")


def test_a_name_that_takes_no_root_says_so():
    assert "'digits:/data' takes nothing after its name" in message_of(open_data, "digits:/data")


def test_shapes_takes_options():
    data = open_data("shapes:train=12,test=6,size=24")
    assert data.role("train").pixels.shape == (12, 24, 24, 3)
    assert list(data.role("test").levels) == ["superclass", "class", "variant"]
    assert "siz" in message_of(open_data, "shapes:siz=3")


def test_digits_are_scikit_learns_split_by_class():
    data = open_data("digits")
    train, test = data.role("train"), data.role("test")
    source = load_digits()
    assert data.image_size == 8
    # Every image of the source is in exactly one split, in the source's order within it.
    order = []
    seen = [0] * 10
    for target in source.target:
        seen[target] += 1
        order.append("test" if seen[target] % 4 == 0 else "train")
    for split, images in (("train", train), ("test", test)):
        chosen = [index for index, name in enumerate(order) if name == split]
        np.testing.assert_array_equal(images.labels, source.target[chosen])
        np.testing.assert_array_equal(images.pixels[..., 0], np.rint(source.images[chosen] * 255 / 16))
        np.testing.assert_array_equal(images.pixels[..., 0], images.pixels[..., 2])
    assert len(train) + len(test) == 1797
    assert np.bincount(test.labels).min() >= 43
