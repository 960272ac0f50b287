"""Small sets with boxes and masks, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from detection_layouts import as_coco, as_voc


@pytest.fixture(scope="session")
def voc_shapes(tmp_path_factory) -> Path:
    """`shapes` in VOC's layout: 8 training and 4 test pictures."""
    return as_voc(tmp_path_factory.mktemp("voc") / "shapes")


@pytest.fixture(scope="session")
def coco_shapes(tmp_path_factory) -> Path:
    """`shapes` in COCO's layout, with polygons: 8 training and 4 test pictures."""
    return as_coco(tmp_path_factory.mktemp("coco") / "shapes")
