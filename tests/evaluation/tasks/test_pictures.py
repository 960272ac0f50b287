"""The sheet of neighbours: the right images, in the right frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.tasks.knn.pictures import draw_neighbours
from evaluation.tasks.knn.run import sample_queries
from zoo.data import ArrayImages, Level


def flat(colours: list[tuple[int, int, int]], labels: list[int]) -> ArrayImages:
    pixels = np.array(colours, dtype=np.uint8)[:, None, None, :].repeat(8, 1).repeat(8, 2)
    return ArrayImages("flat", "split", pixels, {"class": Level(np.array(labels), ("cat", "dog"))})


def test_queries_go_through_the_classes_in_turn() -> None:
    level = Level(np.array([0, 0, 0, 1, 2, 2]), ("a", "b", "c"))
    assert sample_queries(level, 3).tolist() == [0, 3, 4]
    assert sample_queries(level, 5).tolist() == [0, 1, 3, 4, 5]
    assert sample_queries(level, 99).tolist() == [0, 1, 2, 3, 4, 5]


def test_the_sheet_shows_the_named_images_and_frames_them_by_label(tmp_path: Path) -> None:
    test = flat([(10, 20, 200), (123, 45, 67)], [0, 1])
    train = flat([(200, 0, 0), (0, 200, 200), (200, 200, 0)], [0, 1, 0])
    draw_neighbours(tmp_path / "a.png", test, train, np.array([0]), np.array([[2, 1]]), level="class", title="t")
    seen = {tuple(colour) for colour in np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).reshape(-1, 3)}
    assert {(10, 20, 200), (200, 200, 0), (0, 200, 200)} <= seen  # the query, and both neighbours
    assert (123, 45, 67) not in seen
    assert (200, 0, 0) not in seen
    green, red = (0x2A, 0x9D, 0x4E), (0xC8, 0x38, 0x2F)
    assert {green, red} <= seen  # train 2 shares the class, train 1 does not
    draw_neighbours(tmp_path / "b.png", test, train, np.array([0]), np.array([[2, 0]]), level="class", title="t")
    seen = {tuple(colour) for colour in np.asarray(Image.open(tmp_path / "b.png").convert("RGB")).reshape(-1, 3)}
    assert green in seen
    assert red not in seen
