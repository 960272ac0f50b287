"""Which images keep their labels: seeded shares of classes, and lists."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from evaluation.extraction.subsets import folds_of, split_off, stratified_subset
from evaluation.tasks.semi import label_lists
from evaluation.tasks.semi.label_lists import SIMCLR_SHA256, read_label_list, simclr_list
from zoo.data import ArrayImages, FileImages
from zoo.data.entries import FileEntry
from zoo.errors import UserError

LABELS = np.repeat(np.arange(4), [100, 57, 3, 1300])


def test_subsets_have_a_share_of_every_class_and_are_nested() -> None:
    shares = {percent: stratified_subset(LABELS, percent) for percent in (1, 10, 50, 100)}
    assert np.bincount(LABELS[shares[1]]).tolist() == [1, 1, 1, 13]
    assert np.bincount(LABELS[shares[10]]).tolist() == [10, 6, 1, 130]
    assert np.array_equal(shares[100], np.arange(len(LABELS)))
    for small, large in ((1, 10), (10, 50), (50, 100)):
        assert set(shares[small]) < set(shares[large])
        assert np.array_equal(shares[small], np.unique(shares[small]))
    assert np.array_equal(stratified_subset(LABELS, 10, seed=0), shares[10])
    assert not np.array_equal(stratified_subset(LABELS, 10, seed=1), shares[10])
    for wrong in (0, -1, 101):
        with pytest.raises(UserError, match="more than 0 and at most 100 percent"):
            stratified_subset(LABELS, wrong)


def test_held_out_images_are_the_others() -> None:
    kept, out = split_off(LABELS, 0.1)
    assert np.array_equal(np.sort(np.concatenate([kept, out])), np.arange(len(LABELS)))
    assert np.bincount(LABELS[out], minlength=4).tolist() == [10, 6, 0, 130]
    kept, out = split_off(np.array([0, 0, 1]), 0.9)
    assert np.bincount(np.array([0, 0, 1])[kept]).tolist() == [1, 1]
    kept, out = split_off(LABELS, 0)
    assert (len(kept), len(out)) == (len(LABELS), 0)
    with pytest.raises(UserError, match="is none at all"):
        split_off(np.array([0, 1, 2]), 0.1)
    with pytest.raises(UserError, match="at least 0 and less than 1"):
        split_off(LABELS, 1)


def test_folds_are_parts_with_a_share_of_every_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [10, 7, 1, 2])
    parts = folds_of(labels, 3, seed=4)
    together = np.concatenate(parts)
    assert sorted(together) == [*range(17), 18, 19]  # all but the only image of class 2
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for part in parts:
        assert set(np.delete(labels, part)) == {0, 1, 2, 3}
        assert 3 <= int((labels[part] == 0).sum()) <= 4
    np.testing.assert_array_equal(np.concatenate(folds_of(labels, 3, seed=4)), together)
    assert not np.array_equal(np.concatenate(folds_of(labels, 3, seed=5)), together)
    assert len(folds_of(np.array([0, 0, 1]), 5)) == 2  # no class has five images
    with pytest.raises(UserError, match="each class has one labelled image, so none can be held out"):
        folds_of(np.array([0, 1, 2]), 5)
    with pytest.raises(UserError, match="at least 2 folds, not 1"):
        folds_of(labels, 1)


def named(*paths: str) -> FileImages:
    return FileImages("toy", "train", [FileEntry(path) for path in paths], {})


def test_lists_name_files(tmp_path: Path) -> None:
    images = named("/data/train/n01/n01_1.JPEG", "/data/train/n01/n01_2.JPEG", "/data/train/n02/n02_1.JPEG")
    listed = tmp_path / "list.txt"
    listed.write_text("n02_1.JPEG\nn01_2.JPEG\n\n")
    assert read_label_list(listed, images).tolist() == [1, 2]
    listed.write_text("n02/n02_1.JPEG")
    assert read_label_list(listed, images).tolist() == [2]
    listed.write_text("n01_2.JPEG\nn09_1.JPEG\nn09_2.JPEG\n")
    with pytest.raises(UserError, match=r"'n09_1.JPEG', 'n09_2.JPEG', which toy \(train\) does not have: 2 of 3 lines"):
        read_label_list(listed, images)
    listed.write_text("n01_2.JPEG\nn01/n01_2.JPEG\n")
    with pytest.raises(UserError, match="twice"):
        read_label_list(listed, images)
    listed.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        read_label_list(listed, images)
    with pytest.raises(UserError, match="cannot be read"):
        read_label_list(tmp_path / "nowhere.txt", images)


def test_names_that_are_not_unique_need_their_folders(tmp_path: Path) -> None:
    images = named("/data/cat/1.png", "/data/dog/1.png", "/data/hotdog/1.png")
    listed = tmp_path / "list.txt"
    listed.write_text("1.png\n")
    with pytest.raises(UserError, match="the name of 3 images; write the end of its path"):
        read_label_list(listed, images)
    listed.write_text("dog/1.png\n")
    assert read_label_list(listed, images).tolist() == [1]


def test_images_without_files_are_named_by_position(tmp_path: Path) -> None:
    images = ArrayImages("toy", "train", np.zeros((5, 2, 2, 3), np.uint8), {})
    listed = tmp_path / "list.txt"
    listed.write_text("4\n0\n")
    assert read_label_list(listed, images).tolist() == [0, 4]
    listed.write_text("5\n")
    with pytest.raises(UserError, match="names image 5, but toy"):
        read_label_list(listed, images)


@pytest.fixture
def home_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, bytes]]]:
    """An HTTP server of this process, what it serves by path, and an empty cache."""
    served: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = served.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.end_headers()
            self.wfile.write(content or b"404: Not Found")

        def log_message(self, format: str, *args: object) -> None:
            pass

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{{percent}}percent.txt", served
    server.shutdown()
    thread.join()
    server.server_close()


def test_simclrs_list_is_fetched_once_and_checked(
    home_page: tuple[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, served = home_page
    assert {len(digest) for digest in SIMCLR_SHA256.values()} == {64}
    content = b"n01440764_10043.JPEG\nn01443537_1007.JPEG\n"
    with pytest.raises(UserError, match=r"cannot be had: http.*404.*--labels FILE"):
        simclr_list(1, url=url)
    served["/1percent.txt"] = content
    with pytest.raises(UserError, match=r"sha256.*--labels FILE"):
        simclr_list(1, url=url)
    assert not list((tmp_path / "home").rglob("*percent.txt"))
    # A list of two lines in the place of the published one, so that the checked way is walked to its end.
    monkeypatch.setitem(label_lists.SIMCLR_SHA256, 1, hashlib.sha256(content).hexdigest())
    path = simclr_list(1, url=url)
    assert path.read_bytes() == content
    served.clear()
    assert simclr_list(1, url=url) == path
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot be had"):
        simclr_list(1, url=url)


def test_an_unreachable_home_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    with pytest.raises(UserError, match="name it with --labels FILE"):
        simclr_list(10, url="http://127.0.0.1:9/{percent}percent.txt", deadline=1.0)
