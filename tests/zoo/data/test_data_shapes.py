"""`shapes`: reproducible, balanced, with true boxes and masks, and nothing for raw pixels to hold on to."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data.sets.shapes import make_shapes
from zoo.errors import UserError


def test_images_depend_on_their_own_address_only() -> None:
    few, many = make_shapes("train=20,test=5").role("train"), make_shapes("train=150,test=5").role("train")
    assert np.array_equal(few.pixels, many.pixels[:20])  # type: ignore[index]
    assert not np.array_equal(few.pixels, make_shapes("train=20,seed=1").role("train").pixels)
    assert not np.array_equal(few.pixels[:5], make_shapes("test=5").role("test").pixels)  # type: ignore[index]


def test_hierarchy_nests() -> None:
    images = make_shapes("train=360").role("train")
    assert {name: len(level.classes) for name, level in images.levels.items()} == {"superclass": 3, "class": 9, "variant": 18}
    for coarse, fine in (("superclass", "class"), ("class", "variant")):
        pairs = set(zip(images.level(fine).labels.tolist(), images.level(coarse).labels.tolist(), strict=True))
        assert len(pairs) == len(images.level(fine).classes)  # each finer label lies in one coarser
    assert np.bincount(images.level("variant").labels).tolist() == [20] * 18


def test_boxes_are_the_masks_extent() -> None:
    images = make_shapes("train=40,size=24").role("train")
    masks, boxes = images.extras["masks"], images.extras["boxes"]  # type: ignore[attr-defined]
    assert masks.shape == (40, 24, 24)
    for mask, box in zip(masks, boxes, strict=True):
        rows, columns = np.nonzero(mask)
        assert np.allclose(box * 24, [rows.min(), columns.min(), rows.max(), columns.max()], atol=1e-4)


def test_masks_cover_the_coloured_shape() -> None:
    """Inside the mask the colour is the shape's: its pixels vary by the noise alone, and differ in brightness from those outside."""
    images = make_shapes("train=36,size=48").role("train")
    for pixels, mask in zip(images.pixels / 255.0, images.extras["masks"], strict=True):  # type: ignore[attr-defined, operator]
        inside, outside = pixels[mask], pixels[~mask]
        assert abs(inside.mean() - outside.mean()) > 0.1
        assert inside.std(0).max() < 0.2


def test_area_does_not_give_the_class_away() -> None:
    images = make_shapes("train=900").role("train")
    area = images.extras["masks"].mean((1, 2))  # type: ignore[attr-defined]
    means = [area[images.labels == c].mean() for c in range(9)]
    assert max(means) / min(means) < 1.15


def test_clutter_changes_pixels_but_neither_labels_nor_boxes() -> None:
    plain, cluttered = make_shapes("train=30").role("train"), make_shapes("train=30,clutter=5").role("train")
    assert np.array_equal(plain.extras["boxes"], cluttered.extras["boxes"])  # type: ignore[attr-defined]
    changed = (plain.pixels != cluttered.pixels).any((1, 2, 3))  # type: ignore[union-attr, operator]
    assert changed.all()


def test_raw_pixels_stay_near_chance() -> None:
    data = make_shapes("train=1800,test=450")
    bank, queries = ((data.role(role).pixels.reshape(len(data.role(role)), -1) / 255.0 - 0.5) for role in ("train", "test"))  # type: ignore[union-attr, arg-type]
    bank, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries))
    nearest = np.argsort(-(queries @ bank.T), axis=1)[:, :20]
    labels = data.role("train").labels[nearest]  # type: ignore[index]
    votes = np.stack([(labels == c).sum(1) for c in range(9)], axis=1)
    accuracy = (votes.argmax(1) == data.role("test").labels).mean()
    assert accuracy < 0.25  # chance is .11


@pytest.mark.parametrize(
    ("options", "sentence"), [("siz=3", "did you mean 'size'"), ("size=big", "takes a whole number"), ("size=4", "size >= 8")]
)
def test_mistakes(options: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_shapes(options)
